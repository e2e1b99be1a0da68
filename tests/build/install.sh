#!/bin/sh
# make install puts down what users have, and make uninstall takes all of it away again. Runs in the build's directory.
# Speaks TAP.

scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT
unset LD_PRELOAD MAKEFLAGS MFLAGS MAKELEVEL
. "$top_srcdir/tests/is.sh"
files() { (cd "$scratch/root" && find . ! -type d | sed 's/^\.//' | LC_ALL=C sort | tr '\n' ' '); }

mkdir "$scratch/root"
make -s install prefix=/usr DESTDIR="$scratch/root" >"$scratch/log" 2>&1
is "make install" 0 $?
is "what is installed" "/usr/bin/forksafe /usr/lib/libforksafe.so /usr/share/bash-completion/completions/forksafe \
/usr/share/man/man1/forksafe.1 /usr/share/man/man7/forksafe-fix.7 /usr/share/man/man7/libforksafe.7 " "$(files)"
is "the installed launcher finds the installed library" "$scratch/root/usr/lib/libforksafe.so" \
    "$("$scratch/root/usr/bin/forksafe" env | sed -n 's/^LD_PRELOAD=//p')"
make -s uninstall prefix=/usr DESTDIR="$scratch/root" >"$scratch/log" 2>&1
is "make uninstall" 0 $?
is "what is left" "" "$(files)"
echo "1..$count"
