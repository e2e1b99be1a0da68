#!/bin/sh
# What the library asks of the C library: an allowed list, each name with the reason why it may be there, because
# after start-up nothing on a locking or child path may call malloc, stdio, getenv, the loader or a pthread lock.
# And what the linker was told. Speaks TAP. FORKSAFE_LIB = the library, NM and READELF.

: "${FORKSAFE_LIB:?path of the library}"
scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT

# "start-up": called by the constructor only (and by a wrapper that is called before it ran).
# "pure": computes on its arguments; no lock, no state. "kernel": hardly more than a system call.
# "thread": touches the calling thread's own data only.
# "stand-in": what is done for a program that called the function which a stand-in stands for (syslog, getpwnam ...).
cat >"$scratch/allowed" <<'END'
getauxval                   start-up
gnu_get_libc_version        start-up
__register_atfork           start-up
pthread_atfork              start-up
pthread_mutexattr_destroy   start-up
pthread_condattr_init       start-up
pthread_condattr_destroy    start-up
strlen                      pure
strnlen                     pure
strcmp                      pure
strncmp                     pure
strchr                      pure
strrchr                     pure
strcpy                      pure
stpcpy                      pure
memchr                      pure
memcmp                      pure
bcmp                        pure
memcpy                      pure
memmove                     pure
memset                      pure
sysconf                     kernel
sigtimedwait                kernel
syscall                     kernel
__errno_location            thread
___errno_location           thread
pthread_self                thread
pthread_setcancelstate      thread
pthread_setcanceltype       thread
_pthread_cleanup_push       thread
_pthread_cleanup_pop        thread
__sigsetjmp                 thread
__tls_get_addr              thread
_r_debug                    variable
strstr                      pure
__fsetlocking               pure
fileno                      pure
__tsan_init                 start-up
open                        stand-in
socket                      stand-in
connect                     stand-in
fcntl                       kernel
getpeername                 stand-in
getsockopt                  kernel
send                        stand-in
writev                      stand-in
snprintf                    stand-in
vsnprintf                   stand-in
__h_errno_location          stand-in
__progname                  stand-in
program_invocation_short_name stand-in
timezone                    stand-in
__timezone                  stand-in
getpwnam_r                  stand-in
getpwuid_r                  stand-in
getgrnam_r                  stand-in
getgrgid_r                  stand-in
getservbyname_r             stand-in
getservbyport_r             stand-in
getprotobyname_r            stand-in
getprotobynumber_r          stand-in
getnetbyname_r              stand-in
getnetbyaddr_r              stand-in
getrpcbyname_r              stand-in
getrpcbynumber_r            stand-in
getspnam_r                  stand-in
getsgnam_r                  stand-in
getaliasbyname_r            stand-in
__stack_chk_fail            ends-the-process
__cxa_finalize              linker
__cxa_thread_atexit_impl    linker
__gmon_start__              linker
_ITM_deregisterTMCloneTable linker
_ITM_registerTMCloneTable   linker
END

count=0
# result STATUS NAME [DETAILS]
result() {
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $count - $2"
        return
    fi
    echo "not ok $count - $2"
    [ -z "$3" ] || printf '%s\n' "$3" | sed 's/^/# /'
}
bail_out() {
    echo "Bail out! $1"
    exit 99
}

# NM and READELF may be commands with options.
# shellcheck disable=SC2086
${NM:-nm} -D --undefined-only "$FORKSAFE_LIB" >"$scratch/table" || bail_out "nm failed"
awk '{ sub(/@.*/, "", $NF); print $NF }' "$scratch/table" | sort -u >"$scratch/undefined"
[ -s "$scratch/undefined" ] || bail_out "no undefined symbols: is this the library?"

# never TITLE PATTERN: of these kinds nothing may be there, whatever the list above says
never() {
    found=$(grep -Ex "$2" "$scratch/undefined")
    [ -z "$found" ]
    result $? "$1" "$found"
}
never "no allocator" \
    '(__libc_)?(malloc|calloc|realloc|reallocarray|free|memalign|aligned_alloc|posix_memalign|valloc)|strn?dup'
# Into memory is another thing: no stream, no lock.
never "no stdio" '(__)?v?(f|d|as)?w?printf(_chk)?|f(open|close|write|read|put[cs]|get[cs]|flush|seek)(_unlocked)?|'\
'f(un)?lockfile|puts|putc|putchar|perror|std(in|out|err)|v?syslog'
never "no environment of libc's" '(secure_)?getenv|__secure_getenv|environ|__environ|setenv|putenv|unsetenv'
never "nothing of the loader's but its list of objects" \
    'dl(v?sym|addr1?|m?open|close|error|info)|dl_iterate_phdr|_dl_.*|_rtld_global.*|backtrace.*|_Unwind_.*'
never "no lock of libc's" '(__)?pthread_(mutex|rwlock|spin|cond|barrier)_(lock|trylock|timedlock|clocklock|unlock|'\
'init|destroy|rdlock|wrlock|tryrdlock|trywrlock|wait|timedwait|clockwait|signal|broadcast)|'\
'(__)?pthread_once|sem_.*|mtx_.*|cnd_.*|call_once'
never "no fork, exit or abort that runs handlers" '(__)?fork|_Fork|exit|abort|atexit|__cxa_atexit|__assert_fail'

# With _FORTIFY_SOURCE a function's checked form stands for it.
extra=$(awk 'NR == FNR { allowed[$1] = $2; next } { name = $1; if (name ~ /_chk$/) gsub(/^__|_chk$/, "", name) }
             !($1 in allowed) && !(name in allowed)' "$scratch/allowed" "$scratch/undefined")
[ -z "$extra" ]
result $? "every import is on the allowed list" "$extra"

unexplained=$(awk 'NF != 2' "$scratch/allowed")
[ -z "$unexplained" ]
result $? "every name on the list has its reason" "$unexplained"

# shellcheck disable=SC2086
LC_ALL=C ${READELF:-readelf} -dW "$FORKSAFE_LIB" >"$scratch/dynamic" || bail_out "readelf failed"
needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' "$scratch/dynamic")
libcs='libc\.so(\.6)?|libc\.musl-[^.]*\.so\.1|ld-musl-[^.]*\.so\.1'
printf '%s\n' "$needed" | grep -Eqx "$libcs"
result $? "libc is needed" "$needed"
more=$(printf '%s\n' "$needed" | grep -Evx "$libcs"'|ld-linux[^/]*\.so\.[0-9]')
[ -z "$more" ]
result $? "nothing else is needed" "$more"

# "Flags: NOW NODELETE INITFIRST"
flags=$(sed -n 's/.*(FLAGS_1).*Flags: *//p' "$scratch/dynamic")
for flag in NOW INITFIRST NODELETE; do
    case " $flags " in
    *" $flag "*) result 0 "linked with -z $flag" ;;
    *) result 1 "linked with -z $flag" "$flags" ;;
    esac
done
# Built here, it has to load everywhere: with any glibc from 2.17 on, the first for the youngest of these processors.
# shellcheck disable=SC2086
case $(LC_ALL=C ${READELF:-readelf} -h "$FORKSAFE_LIB" | sed -n 's/^ *Machine: *//p') in
*X86-64 | AArch64)
    # shellcheck disable=SC2086
    newer=$(LC_ALL=C ${READELF:-readelf} -VW "$FORKSAFE_LIB" |
        sed -n '/^Version needs/,$s/.*Name: \(GLIBC_[^ ]*\).*/\1/p' | sort -u |
        awk '{ split(substr($1, 7), part, "."); if (part[1] != 2 || part[2] > 17) print }')
    [ -z "$newer" ]
    result $? "no version of libc's later than 2.17 is needed" "$newer"
    ;;
esac
# base/compiler.h, FSAFE_FORK_STATE: from track/thread's slot to the end of the written data there is no other page.
# shellcheck disable=SC2086
first=$(${NM:-nm} "$FORKSAFE_LIB" 2>/dev/null | sed -n 's/^0*\([0-9a-f]*\) d first_slot$/\1/p')
# shellcheck disable=SC2086
last=$(${NM:-nm} "$FORKSAFE_LIB" 2>/dev/null | sed -n 's/^0*\([0-9a-f]*\) [dD] __TMC_END__$/\1/p')
if [ -n "$first" ] && [ -n "$last" ]; then
    [ $((0x$first % 4096)) -eq 0 ] && [ $((0x$last - 0x$first)) -gt 2048 ] && [ $((0x$last - 0x$first)) -le 4096 ]
    result $? "what a fork writes lies in one page" "from $first to $last"
fi
! grep -q '(TEXTREL)' "$scratch/dynamic"
result $? "no relocation in the code"
# shellcheck disable=SC2086
LC_ALL=C ${READELF:-readelf} -lW "$FORKSAFE_LIB" >"$scratch/segments" || bail_out "readelf failed"
! awk '$1 == "GNU_STACK" && /RWE/ { found = 1 } END { exit !found }' "$scratch/segments"
result $? "no executable stack"
! grep -Eq '\((RPATH|RUNPATH)\)' "$scratch/dynamic"
result $? "no path to search libraries in"

echo "1..$count"
