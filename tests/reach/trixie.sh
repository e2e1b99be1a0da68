#!/bin/sh
#
# The slice of the tests that Debian 13 gets with each run: its Python takes threading.Lock in a way of its own, and its
# glibc differs. Built and run there by scripts/distro, which makes the suite where debootstrap can; skipped elsewhere.

scenarios='tests/scenario/semaphore_vanished.scenario'
tests="tests/build/versions $scenarios tests/python/interpreter.py tests/python/locks.py tests/python/traps.py"
programs="tests/build/versions $scenarios tests/python/host"

skip() {
    echo "1..0 # SKIP $*"
    exit 0
}

[ -z "$IN_DISTRO" ] || skip "this is a suite that scripts/distro has made"

said=$(mktemp) || exit 99
trap 'rm -f "$said"' EXIT
# A suite that is not made in this time has no mirror worth the name.
timeout 1200 sh "${top_srcdir:?}/scripts/distro" trixie make -C build -k -s check check_PROGRAMS="$programs" \
    TESTS="$tests tests/python/state.py" >"$said" 2>&1 </dev/null
status=$?
[ $status -ne 77 ] || skip "$(sed -n 's/^skipped: //p' "$said" | tail -n 1)"

# Automake's results, each as one of ours.
if ! awk '
    /^(PASS|XFAIL): / { sub(/^[A-Z]*: /, ""); print "ok " ++count " - " $0 }
    /^SKIP: / { sub(/^SKIP: /, ""); sub(/ # SKIP/, ":"); print "ok " ++count " - trixie # SKIP " $0 }
    /^(FAIL|XPASS|ERROR): / { sub(/^[A-Z]*: /, ""); print "not ok " ++count " - " $0; failed = 1 }
    END { print "1.." count + 0; exit failed || count == 0 }' "$said" || [ $status -ne 0 ]; then
    tail -n 60 "$said" | sed 's/^/# /'
    exit 1
fi
