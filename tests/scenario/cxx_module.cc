/* A C++ module that a C program loads: see guard_module.c. */
#include <unistd.h>

extern "C" int module_value(void (*initialiser)(void));

extern "C" __attribute__((visibility("default"))) int module_value(void (*initialiser)(void))
{
    struct made {
        int value;

        explicit made(void (*first)(void))
        {
            first();
            value = static_cast<int>(getpid());
        }
    };
    static const made once(initialiser);
    return once.value;
}
