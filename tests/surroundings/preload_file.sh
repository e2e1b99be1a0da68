#!/bin/sh
# The recipe with /etc/ld.so.preload: every program of the machine has the library, FORKSAFE_PROGRAMS says in which it
# acts. In an /etc of its own (tests/surroundings/apart). Speaks TAP.

: "${FORKSAFE_LIB:?the library}"
if [ ! -d /etc/forksafe-test ] || [ -e /etc/ld.so.preload ]; then
    echo "1..0 # SKIP there is no /etc to write to"
    exit 0
fi
python=${PYTHON3:-python3}
program=$(cd "$top_srcdir" && pwd -P)/examples/python/rlock_held_by_thread.py
unset LD_PRELOAD FORKSAFE_MODE
count=0
# is NAME WORDS: whether WORDS are a line of `out`
is() {
    count=$((count + 1))
    if grep -qFx "$2" out; then
        echo "ok $count - $1"
    else
        echo "not ok $count - $1"
        sed 's/^/# /' out
    fi
}
scratch=$(mktemp -d) && cd "$scratch" || exit 99
"$python" "$program" >out 2>&1
is "without: it hangs" "parent: the child still waited for the lock after 4 seconds, so I killed it"
echo "$FORKSAFE_LIB" >/etc/ld.so.preload
FORKSAFE_PROGRAMS='python3*,gunicorn' "$python" "$program" >out 2>&1
is "named: it runs" "parent: the child ended with exit code 0"
FORKSAFE_PROGRAMS=gunicorn "$python" "$program" >out 2>&1
is "not named: it is left alone" "parent: the child still waited for the lock after 4 seconds, so I killed it"
rm /etc/ld.so.preload
cd / && rm -r "$scratch"
echo "1..$count"
