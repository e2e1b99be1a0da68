#!/bin/sh
# The library as it would be with a C library whose locks it does not know: it compiles without a warning, programs that
# are right run with it, it says what it does not know, and the drain saves children from libc's own locks all the same.
# Speaks TAP. SOURCES: the library's; CC, CPPFLAGS, CFLAGS as make has them; WAITERS: the storm of that name.

: "${SOURCES:?the sources}" "${WAITERS:?the storm}" "${top_srcdir:?}"
scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT
count=0
tell() {
    count=$((count + 1))
    [ "$1" -eq 0 ] && echo "ok $count - $2" || { echo "not ok $count - $2"; failed=1; }
}
failed=0
for source in $SOURCES src/libc/layout-unknown.c; do
    case $source in
    *layout-glibc* | *.h | *.def) ;;
    *) echo "$source" ;;
    esac
done >"$scratch/sources"
xargs -P "$(nproc)" -I% sh -c "${CC:-cc} $CPPFLAGS -UFSAFE_LAYOUT_GLIBC $CFLAGS -Werror -fPIC -O2 -c '$top_srcdir/%' \
    -o \"$scratch/\$(echo % | tr / _).o\"" <"$scratch/sources" 2>"$scratch/said"
tell $? "it compiles without a warning"
sed 's/^/# /' "$scratch/said"
library=$scratch/libunknown.so
${CC:-cc} -shared -o "$library" "$scratch"/*.o -Wl,-z,initfirst -Wl,-z,nodelete -Wl,-z,now -Wl,-Bsymbolic-functions
tell $? "it links"
[ "$(LD_PRELOAD=$library sh -c 'echo right' 2>/dev/null)" = right ]
tell $? "a right program says what it says without it"
LD_PRELOAD=$library "$WAITERS" --forks 100 timed >"$scratch/waiters" 2>"$scratch/said"
grep -q '^timed: 0 hung, 0 wrong of 100' "$scratch/waiters"
tell $? "no child of 100 hangs in libc's lock for the environment"
sed 's/^/# /' "$scratch/waiters"
grep -q "^forksafe.* this C library's mutexes, .* are unknown" "$scratch/said"
tell $? "and it says what it does not know"
echo "1..$count"
exit $failed
