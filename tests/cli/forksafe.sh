#!/bin/sh
# The launcher: exit statuses, the environment it sets, how it finds itself and the library. Speaks TAP.
# FORKSAFE = path of the launcher, FORKSAFE_LIB = the library it is to preload.

: "${FORKSAFE:?path of the launcher}" "${FORKSAFE_LIB:?path of the library}"
. "$top_srcdir/tests/is.sh"
absolute() { (cd "$(dirname "$1")" && printf '%s/%s\n' "$(pwd -P)" "$(basename "$1")"); }
launcher=$(absolute "$FORKSAFE")
library=$(absolute "$FORKSAFE_LIB")
scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 99
unprotected="it runs unprotected"
unset LD_PRELOAD FORKSAFE FORKSAFE_LIB FORKSAFE_MODE FORKSAFE_LOG FORKSAFE_VERBOSE

# status COMMAND...: its exit status; what it prints is in out and err
status() {
    "$@" >out 2>err
    echo $?
}
# variable NAME COMMAND...: the value of NAME in the environment that "COMMAND... env" prints
variable() {
    name=$1
    shift
    "$@" env | sed -n "s/^$name=//p"
}

# --- Exit status -------------------------------------------------------------------------------------
is "the command's own status 0" 0 "$(status "$launcher" true)"
is "nothing is printed" "" "$(cat out err)"
is "the command's own status 3" 3 "$(status "$launcher" sh -c 'exit 3')"
is "127: no such command in PATH" 127 "$(status "$launcher" no-such-command)"
is "... and one line says so" "forksafe: cannot run 'no-such-command': No such file or directory" "$(cat err)"
is "127: no such file" 127 "$(status "$launcher" ./no-such-file)"
is "127: empty command" 127 "$(status "$launcher" '')"
is "126: a directory" 126 "$(status "$launcher" ./.)"
: >plain
is "126: not executable" 126 "$(status "$launcher" ./plain)"
is "125: no command" 125 "$(status "$launcher")"
for verb in '' explain check status; do
    is "125: unknown option of '$verb'" 125 "$(status "$launcher" $verb --no-such-option true)"
    is "... and forksafe says so" forksafe "$(sed '1s/:.*//; q' err)"
done
is "125: unknown mode" 125 "$(status "$launcher" --mode=fix true)"
is "... and the modes are named" "forksafe: 'fix' is none of repair|report|abort|off" "$(sed 1q err)"
is "125: --log without a file" 125 "$(status "$launcher" --log)"
if [ -w /dev/full ]; then
    "$launcher" --help >/dev/full 2>err
    is "125: --help that cannot be written" 125 $?
fi

# --- A program that cannot have the library in it ----------------------------------------------------
patched() { # FROM TO: a copy of a program, with the bytes FROM, as many as TO, replaced
    "${PYTHON3:-python3}" -c 'import sys
program = open("/bin/true", "rb").read().replace(sys.argv[1].encode("latin1"), sys.argv[2].encode("latin1"), 1)
open("patched", "wb").write(program)' "$1" "$2" && chmod +x patched
}
small= # what stands in the names of libraries for 32 bits
[ "$(od -An -tu1 -j4 -N1 "$library" | tr -d ' ')" -eq 2 ] || small=32
if head -c 4096 /bin/true | grep -q ld-linux; then
    patched ld-linux ld-musl-
    "$launcher" ./patched 2>err
    is "a program of another C library" \
        "forksafe: './patched' is for musl, the library for the GNU C library: it runs unprotected" "$(sed 1q err)"
    printf '#!%s\n' "$scratch/patched" >script
    chmod +x script
    "$launcher" ./script 2>err
    is "its script" "forksafe: './script' is for musl, the library for the GNU C library: it runs unprotected" \
        "$(sed 1q err)"
    mkdir -p beside/bin beside/lib
    cp "$launcher" beside/bin/forksafe
    cp "$library" beside/lib/libforksafe.so
    is "no library for it beside" 1 "$(status beside/bin/forksafe check ./patched)"
    cp "$library" "beside/lib/libforksafe-musl$small.so"
    is "a library for it beside is taken" 0 "$(status beside/bin/forksafe check ./patched)"
    is "... and one for programs that have one is left" "$PWD/beside/lib/libforksafe.so" \
        "$(beside/bin/forksafe env LD_PRELOAD=/nowhere/libforksafe-musl.so beside/bin/forksafe env |
            sed -n 's/^LD_PRELOAD=//p')"
    word=$(head -c 5 /bin/true | tail -c 1 | tr '\001\002' '21')
    printf '\177ELF%b' "\\00$word" >foreign
    tail -c +6 /bin/true >>foreign
    chmod +x foreign
    PATH=.:$PATH "$launcher" foreign 2>err
    is "a program of another word size" 1 \
        "$(grep -c "^forksafe: 'foreign' is a [36][24]-bit .*, the library is for [36][24] bits: $unprotected$" err)"
fi

# --- Help and version --------------------------------------------------------------------------------
is "--help" 0 "$(status "$launcher" --help)"
is "--help shows the usage" "Usage: forksafe [run] [OPTION]... [--] COMMAND [ARG]..." "$(sed 1q out)"
is "--help keeps stderr clean" "" "$(cat err)"
is "--version" 0 "$(status "$launcher" --version)"
is "--version names the package" "forksafe (libforksafe) N" "$(sed 's/ [0-9][0-9.]*[^ ]*$/ N/' out)"

# --- Environment -------------------------------------------------------------------------------------
# A library that is only mentioned: the loader complains about it on stderr and goes on.
is "LD_PRELOAD is the library" "$library" "$(variable LD_PRELOAD "$launcher")"
is "an LD_PRELOAD that was there follows" "$library:other.so" \
    "$(variable LD_PRELOAD env LD_PRELOAD=other.so "$launcher" 2>err)"
is "spaces and empty entries in it" "$library:a.so:b.so" \
    "$(variable LD_PRELOAD env LD_PRELOAD=' a.so::b.so ' "$launcher" 2>err)"
is "an empty LD_PRELOAD" "$library" "$(variable LD_PRELOAD env LD_PRELOAD= "$launcher")"
is "launcher under launcher" "$library" "$(variable LD_PRELOAD "$launcher" "$launcher")"
is "launcher under launcher: nothing is said" "" "$("$launcher" "$launcher" true 2>&1)"
is "the library is already there, last" "$library:a.so" \
    "$(variable LD_PRELOAD env LD_PRELOAD="a.so:$library" "$launcher" 2>err)"
is "another copy of it is there" "$library" \
    "$(variable LD_PRELOAD env LD_PRELOAD=/nowhere/libforksafe.so "$launcher" 2>err)"
is "a name that only ends alike stays" "$library:/nowhere/mylibforksafe.so" \
    "$(variable LD_PRELOAD env LD_PRELOAD=/nowhere/mylibforksafe.so "$launcher" 2>err)"
is "no setting is made up" "" "$("$launcher" env | grep '^FORKSAFE')"
for mode in repair report abort off; do
    is "--mode=$mode" $mode "$(variable FORKSAFE_MODE "$launcher" --mode=$mode)"
done
is "--mode over FORKSAFE_MODE" abort "$(variable FORKSAFE_MODE env FORKSAFE_MODE=off "$launcher" --mode=abort)"
is "FORKSAFE_MODE without --mode" off "$(variable FORKSAFE_MODE env FORKSAFE_MODE=off "$launcher")"
is "--log" "$scratch/log.%p" "$(variable FORKSAFE_LOG "$launcher" --log="$scratch/log.%p")"
is "--verbose" 1 "$(variable FORKSAFE_VERBOSE "$launcher" --verbose 2>err)"
is "the command's own options are left to it" "--mode=off -x" "$("$launcher" echo --mode=off -x)"
is "-- ends the options" 127 "$(status "$launcher" -- --help)"
is "other variables pass" "kept" "$(variable OTHER env OTHER=kept "$launcher")"
is "no file descriptor is left open" "$(ls /proc/self/fd)" "$("$launcher" ls /proc/self/fd)"

# --- The library is really there ---------------------------------------------------------------------
is "the command has the library mapped" "$library" \
    "$("$launcher" cat /proc/self/maps | sed -n 's/^[^/]*\(\/.*libforksafe\.so\)$/\1/p' | sort -u)"
is "so has the command's command" "$library" \
    "$("$launcher" sh -c 'cat /proc/self/maps; :' | sed -n 's/^[^/]*\(\/.*libforksafe\.so\)$/\1/p' | sort -u)"

# --- Ways to call it ---------------------------------------------------------------------------------
directory=$(dirname "$launcher")
is "through a relative path" "$library" "$(cd "$directory" && variable LD_PRELOAD ./forksafe)"
is "through PATH" "$library" "$(PATH="$directory:$PATH" variable LD_PRELOAD forksafe)"
ln -s "$launcher" safely
is "through a link" "$library" "$(variable LD_PRELOAD ./safely)"

# tree DIRECTORY: the launcher and a library installed below it
tree() {
    mkdir -p "$1/bin" "$1/lib" && cp "$launcher" "$1/bin/forksafe" && cp "$library" "$1/lib/libforksafe.so"
}
root=$(pwd -P)
tree moved
is "a tree that was moved: its own library" "$root/moved/lib/libforksafe.so" "$(variable LD_PRELOAD moved/bin/forksafe)"
for name in 'with space' with:colon; do
    tree "$name"
    is "125: a directory '$name'" 125 "$(status "$name/bin/forksafe" true)"
    is "... and the reason" \
        "forksafe: LD_PRELOAD cannot name '$root/$name/lib/libforksafe.so': it has a space or colon in it" "$(cat err)"
done

# --- run ---------------------------------------------------------------------------------------------
is "run" "$library" "$(variable LD_PRELOAD "$launcher" run --)"
is "run with options" "abort" "$(variable FORKSAFE_MODE "$launcher" run --mode=abort --)"
is "run starts a command that is called like a verb" 127 "$(status "$launcher" run -- explain)"
is "--format" json "$(variable FORKSAFE_FORMAT "$launcher" --format=json)"
is "--frames" 7 "$(variable FORKSAFE_FRAMES "$launcher" --frames=7)"
is "--hang-ms" 50 "$(variable FORKSAFE_HANG_MS "$launcher" --hang-ms=50)"
is "--drain-ms" 0 "$(variable FORKSAFE_DRAIN_MS "$launcher" --drain-ms=0)"
for bad in --frames=17 --frames=-1 --frames= --drain-ms=1x --format=xml; do
    is "125: $bad" 125 "$(status "$launcher" "$bad" true)"
done
is "--summary" 1 \
    "$("$launcher" --summary "${PYTHON3:-python3}" -c '' 2>&1 | grep -c '^forksafe\[[0-9]*\] in all: 0 forks')"
# One line for each program that forked, and none for the two that did not. (The shell itself ends by _exit.)
forks="import os; os.fork() or os._exit(0); os.wait()"
is "--summary of a tree with programs" "1 1" "$(echo $("$launcher" --summary sh -c \
    "env true; env true; '${PYTHON3:-python3}' -c '$forks'; '${PYTHON3:-python3}' -c '$forks'; exit 0" 2>&1 |
    sed -n 's/^forksafe.* in all: \([0-9]*\) forks.*/\1/p' | sort))"
# Each is started by one that has the library, and the variable.
is "an unknown setting is said once in the tree" 1 "$(FORKSAFE_MOOD=1 "$launcher" sh -c \
    'env true; sh -c "env true; :"; FORKSAFE_MODE=repair env true; :' 2>&1 | grep -c 'FORKSAFE_MOOD is no setting')"
is "... a second unknown one by the first that has it" 2 "$(FORKSAFE_MOOD=1 "$launcher" sh -c \
    'FORKSAFE_MOO=1 sh -c "env true; :"; :' 2>&1 | grep -c 'is no setting')"

# --- explain and check -------------------------------------------------------------------------------
for verb in explain check status; do
    for option in --help -h; do
        is "$verb $option" 0 "$(status "$launcher" $verb $option)"
    done
    is "$verb --help shows how" 1 "$(grep -c "^Usage: forksafe $verb" out)"
    is "125: $verb --nonsense" 125 "$(status "$launcher" $verb --nonsense)"
done
is "125: explain a file that is not there" 125 "$(status "$launcher" explain missing)"
is "125: check without a process" 125 "$(status "$launcher" check)"
is "125: check of what is neither" 125 "$(status "$launcher" check no-such-command)"

# The launcher's own main stands for a place: elfutils, where it was built with it, names it.
address=$(${NM:-nm} "$launcher" 2>/dev/null | sed -n 's/^0*\([0-9a-f]*\) T main$/\1/p')
event() {
    printf '%s\n' "forksafe[$1.$1] child took over mutex 0x55$1 (normal) for here held at fork by $1 \"worker\"$2"
    [ -n "$2" ] || printf '    %s\n' "since forksafe+0x$address" "wanted in forksafe+0x$address" \
        "    from forksafe+0x$address" "fork 1 by 7 in forksafe+0x$address" "forksafe is $launcher, build-id 00"
}
{ event 11 ''; echo "a line of the program's"; event 12 ''; event 13 ", so far 10 times"; } >log
status "$launcher" explain log >/dev/null
is "explain shows alike events once, and counts them" \
    "child took over mutex 0x5511 (normal), 10 times in all" "$(sed 1q out)"
is "... and nothing else" 0 "$(grep -c 'of the program' out)"
is "... says when a module is not what it was" 1 "$(grep -c '^forksafe is .*not the same' out)"
if grep -q 'without elfutils' out; then
    echo "ok $((count += 1)) - explain names the source # SKIP built without elfutils"
    echo "ok $((count += 1)) - explain names the culprit # SKIP built without elfutils"
else
    is "explain names the source" 4 "$(grep -c '^            main\( at .*forksafe.c:[0-9]*\)*$' out)"
    held="took the lock and held it at the fork"
    is "explain names the culprit" 1 \
        "$(grep -cE "^    culprit: (main|forksafe[+]0x).*, $held; thread 11 \"worker\"\$" out)"
fi
printf '%s\n' 'forksafe[5.5] child took over RLock 0x50 (Python) for a.py:3 held at fork by 6 "w"' \
    '    since run() in /srv/a.py:1 (thread "t")' '    wanted in want() in /srv/a.py:3' \
    '    fork 1 by 7 in app+0x1, 5 ms before 2026-11-28T10:28:27.425Z' \
    '    forked in spawn() in /srv/a.py:2' '        from main() in /srv/a.py:9' >python
is "explain names the Python line that forked" '    forked:  spawn at /srv/a.py:2, fork 1 by thread 7, 5 ms before' \
    "$("$launcher" explain python | sed -n '/forked: /p')"
sed 's/^/Jan  1 host app[1]: /' log >journal
is "what a journal puts in front does no harm" "$(cat out)" "$("$launcher" explain journal)"
for form in svg html; do
    is "explain --$form" 0 "$(status "$launcher" explain --$form log)"
    is "... is whole" 1 "$(tail -n 1 out | grep -cE '^(</svg>|</body></html>)$')"
    is "... says how often" 1 "$(grep -c 'child took over mutex (normal), 10 times' out)"
done
sed 's/here held/a\&lt;b held/' log | "$launcher" explain --svg | "${PYTHON3:-python3}" -c 'import sys, xml.dom.minidom
xml.dom.minidom.parse(sys.stdin.buffer)'
is "... is XML" 0 $?
# A name that the kernel cut in the middle of a character.
LC_ALL=C sed "s/\"worker\"/\"gr$(printf '\303')\"/" log >cut
"$launcher" explain --svg cut | "${PYTHON3:-python3}" -c 'import sys, xml.dom.minidom
xml.dom.minidom.parse(sys.stdin.buffer)'
is "... is XML with a name that is no UTF-8" 0 $?
if "$launcher" explain --json log >json 2>err; then
    "$launcher" explain --json cut | "${PYTHON3:-python3}" -c 'import json, sys; json.loads(sys.stdin.buffer.read())'
    is "explain --json: is JSON with a name that is no UTF-8" 0 $?
    member() {
        "${PYTHON3:-python3}" -c 'import json, sys; print(eval("json.load(open(\"json\"))" + sys.argv[1]))' "$1"
    }
    is "explain --json: one object for each kind" 1 "$(member '.__len__()')"
    is "... event, times, lock" "taken-over 10 mutex normal" \
        "$(member '[0]["event"]') $(member '[0]["times"]')$(for of in type kind; do
            printf ' %s' "$(member '[0]["lock"]["'$of'"]')"
        done)"
    is "... culprit" True "$(member '[0]["culprit"]["function"].startswith(("main", "forksafe+0x"))')"
    # The library's own form for machines.
    mutex='"lock":{"type":"mutex","kind":"normal"},' at='"wanted":{"at":{'
    main='"module":"forksafe","in_module":"0x'$address'"'
    line='"source":{"file":"/a/b.py","line":7' modules='"modules":[{"module":"forksafe","path":"'$launcher'"}]'
    holder='"holder":{"role":"owner","tid":2,'$line',"function":"run","thread":"x"}}'
    printf '%s\n' 'not ours {' '{"event":"summary","pid":1}' \
        '{"event":"taken-over","pid":1,"tid":1,"times":1,'"$mutex$at"'"address":"0x1",'"$main}},$holder,$modules}" \
        '{"event":"taken-over","pid":3,"times":100,'"$mutex$at$main"'}},"holder":{'"$line}}}" >lines
    status "$launcher" explain lines >/dev/null
    is "explain reads the form for machines" "child took over mutex (normal), 100 times in all" "$(sed 1q out)"
    sed -n 's/"wanted"/"fork":{"number":4,"tid":9,"source":{"file":"c.py","line":3}},&/; 3p' lines >python
    is "... the line that forked, too" '    forked:  ? at c.py:3, fork 4 by thread 9' \
        "$("$launcher" explain python | sed -n '/forked: /p')"
    is "... and names the culprit" '    culprit: run at /a/b.py:7, took the lock and held it at the fork; thread "x"' \
        "$(sed -n 2p out)"
else
    is "without json-c that is said" 1 "$(grep -c 'built without json-c' err)"
fi
status "$launcher" explain log >/dev/null
is "explain reads standard input" "$(cat out)" "$("$launcher" explain <log)"
if command -v script >/dev/null; then
    colors() { TERM=xterm script -qec "$* '$launcher' explain log" /dev/null | grep -c "$(printf '\033')"; }
    is "explain has colours on a terminal" 2 "$(colors)"
    is "... not with NO_COLOR" 0 "$(colors NO_COLOR=1)"
    is "... nor where the terminal has none" 0 "$(colors TERM=dumb)"
fi
is "explain of nothing" "No event: no child came upon a lock of a thread that vanished." \
    "$("$launcher" explain </dev/null)"
is "125: explain of a directory" 125 "$(status "$launcher" explain .)"
hangs='child hangs in semaphore 0x1 (private)'
printf '%s\n' "forksafe[1.1] $hangs for here" '    not taken over because of this' >hangs
is "explain of a wait that is named" "$hangs" "$("$launcher" explain hangs | sed 1q)"
echo 'int main(void) { return 0; }' >main.c
if ! grep -q 'without elfutils' out && ${CC:-cc} -g0 -o bare main.c 2>err; then
    at=$(${NM:-nm} bare | sed -n 's/^0*\([0-9a-f]*\) T main$/\1/p')
    sed "s/forksafe+0x$address/bare+0x$at/; s,forksafe is $launcher,bare is $scratch/bare," log >bare.log
    is "explain names the functions of a program without lines" 3 \
        "$("$launcher" explain bare.log | grep -cE "^    (culprit|wanted|forked): +main in bare[+]0x$at,")"
    is "... and takes no other program's lines" 0 "$(status "$launcher" explain --debug="$launcher" bare.log)"
    is "... says so" "forksafe: --debug=$launcher is not used: no module of the log has its build-id" "$(cat err)"
    is "125: lines of no file" 125 "$(status "$launcher" explain --debug=no-such-file bare.log)"
fi
sleep 60 &
sleeper=$!
is "check of a process that waits for no lock" 1 "$(status "$launcher" check $sleeper)"
is "... says so" "hangs because of a fork: no" "$(tail -n 1 out)"
stranger='setpriv --bounding-set=-sys_ptrace,-chown'
if [ "$(id -u)" -eq 0 ] && $stranger true 2>err; then
    # shellcheck disable=SC2086 # a command and its option
    is "check of a process that one may not look at" 2 "$(status $stranger "$launcher" check $sleeper)"
    is "... says why" "thread $sleeper \"sleep\" cannot be looked at: only the process's user may do that, or root" \
        "$(sed 1q out)"
fi
kill $sleeper
is "125: check of a process that is gone" 125 "$(status "$launcher" check 4194304)"


# --- check of a program ------------------------------------------------------------------------------
is "check of a program" 0 "$(status "$launcher" check true)"
is "... says so" "forksafe: 'true' can be protected" "$(cat out)"
if [ -e script ]; then
    is "check of one that cannot be" 1 "$(status "$launcher" check ./script)"
    is "... says why" "forksafe: './script' is for musl, the library for the GNU C library: $unprotected" "$(cat out)"
fi
printf '#!/usr/bin/env -S VARIABLE=1 true\n' >script
chmod +x script
is "a script by env" 0 "$(status "$launcher" check ./script)"
# built NAME OPTION...: a program; false where the compiler cannot
built() {
    name=$1
    shift
    ${CC:-cc} -o "$name" main.c "$@" 2>err
}
for form in static static-pie; do
    if built $form -$form; then
        words='is statically linked'
        [ $form = static ] || words='is statically linked (static-pie)'
        is "$form" 1 "$(status "$launcher" check ./$form)"
        is "... says so" "forksafe: './$form' $words: no loader reads LD_PRELOAD: it runs unprotected" "$(cat out)"
        is "... when it is run, too" 0 "$(status "$launcher" ./$form)"
        is "... says so" "forksafe: './$form' $words: no loader reads LD_PRELOAD: it runs unprotected" "$(cat err)"
    fi
done
if [ -x static ]; then
    # As Go's linker marks its programs.
    cp static go && printf '\377 Go buildinf:\010\002' >>go
    is "Go" 1 "$(status "$launcher" check ./go)"
    is "... says so" 1 "$(grep -c 'is a Go program and statically linked' out)"
fi
if built openmp -fopenmp -Wl,--no-as-needed; then
    is "OpenMP" 2 "$(status "$launcher" check ./openmp)"
    is "... says what is not seen" "forksafe: './openmp' may use the locks of OpenMP, which are not seen" \
        "$(sed 's/ (libg*omp)//' out)"
fi
if [ -z "$small" ] && built small -m32; then
    is "a 32-bit program" 1 "$(status "$launcher" check ./small)"
fi
if built privileged && chmod u+s privileged && [ "$(id -u)" -eq 0 ] && chown 1:1 privileged &&
    chmod 4755 privileged; then
    is "a set-user-ID program" 1 "$(status "$launcher" check ./privileged)"
    is "... says so" "forksafe: './privileged' is set-user-ID, so its loader ignores LD_PRELOAD: $unprotected" \
        "$(cat out)"
fi

echo "1..$count"
