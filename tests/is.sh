# One row of TAP, for the tests that are shell scripts, which read this file in: is NAME EXPECTED GOT.
count=0
is() {
    count=$((count + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $count - $1"
    else
        echo "not ok $count - $1"
        printf '%s\n' "expected: $2" "got:      $3" | sed 's/^/# /'
    fi
}
