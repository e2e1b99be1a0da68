#!/bin/sh
# The library's dynamic symbols against the rows of src/wrap/symbols.def: each row has its definition, and nothing
# that has no row is exported. Speaks TAP; runs in the build directory (config.h decides which rows there are).
# FORKSAFE_LIB = the library, NM and CPP as configure found them, top_srcdir.
# Rows for one C library only are read as Makefile.am has them read.

: "${FORKSAFE_LIB:?path of the library}" "${top_srcdir:?the source tree}"
scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT

count=0
# result STATUS NAME
result() {
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $count - $2"
    else
        echo "not ok $count - $2"
    fi
}
bail_out() {
    echo "Bail out! $1"
    exit 99
}

[ -f config.h ] || bail_out "no config.h here"
# NM and CPP may be commands with options.
# shellcheck disable=SC2086
${NM:-nm} -D --defined-only "$FORKSAFE_LIB" >"$scratch/table" || bail_out "nm failed"
# "address type name@@version": what a program can bind to; the versions themselves are of type A
awk 'NF >= 3 && $2 != "A" { sub(/@.*/, "", $3); print $3 }' "$scratch/table" | sort -u >"$scratch/exported"

defines="-DHAVE_CONFIG_H -D_GNU_SOURCE"

# row NAME [OF]
# shellcheck disable=SC2086
printf '%s\n' '#include "config.h"' '#define FSAFE_SYMBOL(name) row name' '#define FSAFE_ALIAS(name, of) row name of' \
    '#define FSAFE_WHOLE(name) row name' '#include "wrap/symbols.def"' |
    ${CPP:-cc -E} -P $defines -I. -I"$top_srcdir/src" - | sed -n 's/^ *row *//p' >"$scratch/rows"
[ -s "$scratch/rows" ] || bail_out "no rows in symbols.def"
awk '{ print $1 }' "$scratch/rows" | sort >"$scratch/expected"

# One line a row, and one more for an alias, which is the same function, not a second one.
awk 'NR == FNR { sub(/@.*/, "", $3); if (NF >= 3) address[$3] = $1; next }
    { print ($1 in address ? "0" : "1"), $1 " is defined" }
    NF == 2 { print (address[$1] != "" && address[$1] == address[$2] ? "0" : "1"), $1 " is " $2 }' \
    "$scratch/table" "$scratch/rows" >"$scratch/results"
while read -r status name; do
    result "$status" "$name"
done <"$scratch/results"

# Type i: a function that is chosen when it is looked up.
functions_only=$(awk 'NF >= 3 && $2 != "T" && $2 != "A" && !($2 == "i" && $3 ~ /^fsafe_/)' "$scratch/table")
[ -z "$functions_only" ]
result $? "only functions are exported, none of them weak"
[ -z "$functions_only" ] || printf '%s\n' "$functions_only" | sed 's/^/# /'

twice=$(uniq -d "$scratch/expected")
[ -z "$twice" ]
result $? "no row is there twice"
[ -z "$twice" ] || printf '%s\n' "$twice" | sed 's/^/# /'

extra=$(comm -13 "$scratch/expected" "$scratch/exported")
[ -z "$extra" ]
result $? "nothing is exported that has no row"
[ -z "$extra" ] || printf '%s\n' "$extra" | sed 's/^/# /'

# Where libc has two functions of one name, callers of the earlier one are to reach libc's, and callers of the default
# one ours, by whatever version. "name versions": those of our rows, of the default one and of the earlier one.
for part in libc.so.6 libpthread.so.0 librt.so.1; do
    # shellcheck disable=SC2086 # may be two words
    file=$(${CC:-cc} -print-file-name=$part)
    # shellcheck disable=SC2086
    [ ! -f "$file" ] || ${NM:-nm} -D --defined-only "$file" | awk '
        NR == FNR { row[$1]; next }
        split($3, part, /@+/) == 2 && part[1] in row {
            versions[part[1]] = versions[part[1]] " " part[2]
            address[part[1], part[2]] = $1
            if ($3 ~ /@@/) latest[part[1]] = $1
        }
        END {
            for (name in latest) {
                wanted = earlier = ""
                count = split(versions[name], each, " ")
                for (i = 1; i <= count; i++)
                    if (address[name, each[i]] == latest[name]) wanted = wanted " " each[i]
                    else earlier = earlier " " each[i]
                if (earlier != "") print name, "wanted" wanted, "earlier" earlier
            }
        }' "$scratch/expected" -
done >"$scratch/doubles"
awk 'NR == FNR { if (NF >= 3) { sub(/@@/, "@", $3); ours[$3] } next }
    {
        wrong = $1 in ours # without a version: it would catch all
        for (i = 3; $i != "earlier"; i++) wrong += !(($1 "@" $i) in ours)
        for (i++; i <= NF; i++) wrong += ($1 "@" $i) in ours
        print (wrong > 0), $1 " is that of its later callers alone"
    }' "$scratch/table" "$scratch/doubles" >"$scratch/results"
while read -r status name; do
    result "$status" "$name"
done <"$scratch/results"

# On 32 bits a program with 64-bit times calls a function of another name: __NAME64, __NAME_time64 or __NAME64_r.
# shellcheck disable=SC2086
file=$(${CC:-cc} -print-file-name=libc.so.6)
missing=
if [ -f "$file" ]; then
    # shellcheck disable=SC2086
    missing=$(${NM:-nm} -D --defined-only "$file" | awk 'NR == FNR { row[$1]; next }
        { sub(/@.*/, "", $3); name = $3 }
        sub(/^__/, "", name) && (sub(/64_r$/, "_r", name) || sub(/(_time)?64$/, "", name)) &&
        name in row && !($3 in row) {
            print $3
        }' "$scratch/expected" -)
fi
[ -z "$missing" ]
result $? "what has a row has one for 64-bit times, too"
[ -z "$missing" ] || printf '%s\n' "$missing" | sed 's/^/# /'

echo "1..$count"
