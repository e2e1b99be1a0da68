/*
 * sandbox RULE... -- COMMAND [ARGUMENT]...
 *
 * Becomes COMMAND under the filters that the rules of sandbox.h name. Exit status 77: there are no filters here.
 */
#include <stdio.h>
#include <unistd.h>

#include "sandbox.h"

int main(int count, char **arguments)
{
    int i = 1;
    for (; i < count && strcmp(arguments[i], "--") != 0; i++) {
        if (sandbox_install(arguments[i]) != 0) {
            perror(arguments[i]);
            return 77;
        }
    }
    if (i + 1 >= count)
        return 2;
    execvp(arguments[i + 1], arguments + i + 1);
    perror(arguments[i + 1]);
    return 127;
}
