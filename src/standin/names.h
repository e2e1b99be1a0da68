/*
 * standin/names: getpwnam & co without the lock that glibc keeps for each of them, for a child in which a vanished
 * thread may hold it: through the function's _r form, into memory of ours that the next such call overwrites.
 *
 * Results, errno and h_errno are those of the real functions. Each function has its own lock, held while it asks (a
 * slow server, perhaps); adopt makes free what a fork in that moment copied locked. Context: child.
 */
#pragma once

#include "base/compiler.h"

#ifdef HAVE_GETPROTOBYNAME_R
#include <aliases.h>
#include <gshadow.h>
#include <shadow.h>
#endif
#include <grp.h>
#include <netdb.h>
#include <pwd.h>

#define FSAFE_NAMES(type, function, parameters, ...) type *fsafe_names_##function parameters;
#include "standin/names.def"

/* Makes the room ready whatever its state. Context: child, alone. */
FSAFE_AT_FORK void fsafe_names_adopt(void);
