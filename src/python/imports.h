/*
 * python/imports: imports that vanished threads were in the middle of. Their locks are Python data (an owner and a
 * count in an object of importlib), and their modules half a module. A child drops both, as an import that fails does:
 * the next import of that name runs the module anew, and says so in a line. A module in which the forking thread itself
 * runs stays as it is.
 *
 * That is the second best: what the module has done so far is done twice, a C module may refuse that (numpy's do), and
 * modules inside the package that were whole are no longer its attributes. So a fork waits for imports: python/drain.
 */
#pragma once

#include <stdbool.h>

/* Finds importlib's locks. Context: has the GIL, once in the life of an interpreter. */
void fsafe_python_imports_start(void);

/* Whether any thread has the lock of a module, or is about to take one. Context: parent, before fork, has the GIL. */
bool fsafe_python_imports_are_going_on(void);

/*
 * Whether that is so of another thread than the caller; in a child: of a vanished one. Context: imports are going on;
 * before fork or child, alone; the forking thread has the GIL.
 */
bool fsafe_python_imports_are_others(void);

/*
 * Whether a child would keep all of those half modules, because the forking thread runs in them. A program may do
 * all of its work while a module of its own is imported. Context: as above.
 */
bool fsafe_python_imports_stay(void);

/*
 * Drops those imports; in other modes than repair a child that imports one of the modules waits, and is named or ended.
 * Context: as above; places are noted.
 */
void fsafe_python_imports_drop(void);
