/*
 * python/methods: leads methods of an interpreter's own types through functions of ours, by the pointers in the types'
 * tables of methods, which the C API makes public.
 */
#pragma once

#include "python/interpreter.h"

/* How a method is called: METH_VARARGS and so on. */
enum {
    FSAFE_PYTHON_POSITIONAL = 1, /* one tuple */
    FSAFE_PYTHON_NAMED = 2,
    FSAFE_PYTHON_NO_ARGUMENTS = 4,
    FSAFE_PYTHON_ONE_ARGUMENT = 8,
    FSAFE_PYTHON_ARRAY = 128 /* an array and its length */
};

struct fsafe_python_method {
    void *const *type; /* where the type is noted; NULL there: this interpreter has no such type */
    const char *name;
    int flags;
    void *ours;
    void *theirs; /* the pointer in which to keep the function of before; two names of one method share it */
};

/*
 * Leads all of the methods or none: false where one is not as described. Of two rows of one name that follow each
 * other the one serves that has this interpreter's flags. Context: under the GIL.
 */
bool fsafe_python_methods_lead(const struct fsafe_python_method *methods, unsigned count);
