/*
 * standin/names: getpwnam & co without glibc's lock for each of them, for a child in which a vanished thread may hold
 * that lock: by the function's _r form, into memory of ours that the next call of the function overwrites.
 *
 * Results, errno and h_errno are those of the real functions. A thread holds our own lock for the function while it
 * asks (a slow server, perhaps); fsafe_names_adopt makes that free in a child. Context: child.
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

/* Makes the functions usable whatever a vanished thread left. Context: child, alone. */
FSAFE_AT_FORK void fsafe_names_adopt(void);
