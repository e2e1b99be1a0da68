#!/bin/sh
# What a C library does in another way than the library knows is named in one line and left alone, and the rest goes on.
# BROKEN_LIBC stands behind the library, as libc does. Speaks TAP. FORKSAFE_LIB = the library, PYTHON3.

: "${FORKSAFE_LIB:?path of the library}" "${BROKEN_LIBC:?path of the module}"
library=$FORKSAFE_LIB
unset FORKSAFE_LIB FORKSAFE_LOG FORKSAFE_MODE FORKSAFE_FORMAT # the library knows no setting of the first name
. "$top_srcdir/tests/is.sh"
# said PRELOAD COMMAND...: the lines, without the process's number
said() {
    preload=$1
    shift
    LD_PRELOAD=$preload FORKSAFE_VERBOSE=1 "$@" 2>&1 | sed 's/^forksafe[^ ]* //'
}

# A program with libpthread: without it a library of 2.31 has nothing to do, and says nothing.
is "all parts are known" "started" "$(said "$library" "${PYTHON3:-python3}" -c '')"
is "those that are not are named, and it does not say that it started" \
    "this C library's rwlocks, semaphores are unknown: they are not taken over" \
    "$(said "$library:$BROKEN_LIBC" "${PYTHON3:-python3}" -c '')"
is "a part that is asked at the second thread" "this C library's barriers are unknown: they are not taken over" \
    "$(said "$library:$BROKEN_LIBC" timeout 60 "${PYTHON3:-python3}" -c '
import ctypes, threading
threading.Thread(target=int).start()' | grep barriers)"
echo "1..$count"
