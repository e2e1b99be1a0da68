#!/bin/sh
# What bash completes behind forksafe. Speaks TAP.

script=$top_srcdir/completion/forksafe
if ! command -v bash >/dev/null || [ ! -r /usr/share/bash-completion/bash_completion ]; then
    echo "1..0 # SKIP bash-completion is not here"
    exit 0
fi
count=0
# completes NAME WORDS... : the last word is what is being typed; EXPECTED must be among the proposals
completes() {
    expected=$1
    shift
    got=$(bash --norc -c '. /usr/share/bash-completion/bash_completion
        . "$0"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        _forksafe forksafe "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null
        printf "%s\n" "${COMPREPLY[@]}"' "$script" "$@" 2>/dev/null)
    count=$((count + 1))
    if printf '%s\n' "$got" | grep -qFx -e "$expected"; then
        echo "ok $count - $* -> $expected"
    else
        echo "not ok $count - $* -> $expected"
        printf '%s\n' "$got" | head -n 5 | sed 's/^/# /'
    fi
}
completes explain forksafe ex
completes check forksafe che
completes status forksafe sta
completes run forksafe ru
completes --mode= forksafe --mo
completes --summary forksafe run --su
completes --hang-ms= forksafe --ha
completes abort forksafe --mode=a
completes json forksafe run --format=j
completes --html forksafe explain --ht
completes --debug= forksafe explain --de
completes printf forksafe print
completes printf forksafe check print
completes $$ forksafe check $$
echo "1..$count"
