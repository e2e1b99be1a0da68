#include "config.h"

#include "base/sys.h"
#include "python/objects.h"
#include "python/wanted.h"

static void *lock_type, *rlock_type;

/* A Lock begins like an RLock. */
static enum fsafe_python_kind kind_at(uintptr_t object, uintptr_t semaphore)
{
    uintptr_t head[3]; /* the count of references, the type, the semaphore */
    if (object % sizeof(void *) != 0 || !fsafe_sys_peek(object, head, sizeof head) || head[2] != semaphore)
        return FSAFE_PYTHON_NO_LOCK;
    return head[1] == (uintptr_t)rlock_type  ? FSAFE_PYTHON_RLOCK
           : head[1] == (uintptr_t)lock_type ? FSAFE_PYTHON_LOCK
                                             : FSAFE_PYTHON_NO_LOCK;
}

static FSAFE_APART enum fsafe_python_kind look_above(uintptr_t semaphore, uintptr_t *object)
{
    enum { WORDS = 32, PIECES = 64, NULLS = 4096 };
    uintptr_t piece[WORDS], at = (uintptr_t)__builtin_frame_address(0), seen = 0;
    const uintptr_t end = at + PIECES * sizeof piece;
    for (; at < end && fsafe_sys_peek(at, piece, sizeof piece); at += sizeof piece) {
        for (unsigned i = 0; i < WORDS; i++) {
            *object = piece[i];
            if (*object < NULLS || *object - at < PIECES * sizeof piece || *object == seen)
                continue;
            seen = *object;
            enum fsafe_python_kind kind = kind_at(*object, semaphore);
            if (kind != FSAFE_PYTHON_NO_LOCK)
                return kind;
        }
    }
    return FSAFE_PYTHON_NO_LOCK;
}

/* The functions between may have left the object in a register: this one's frame has all registers that they kept. */
FSAFE_APART enum fsafe_python_kind fsafe_python_wanted_find(uintptr_t semaphore, uintptr_t *object)
{
    __builtin_unwind_init();
    enum fsafe_python_kind kind = look_above(semaphore, object);
    FSAFE_ORDER(); /* no jump: the frame stays until then */
    return kind;
}

void fsafe_python_wanted_start(void)
{
    const struct fsafe_python_error error = fsafe_python_keep_error();
    lock_type = fsafe_python_thread_type("LockType", "_thread.lock");
    rlock_type = fsafe_python_thread_type("RLock", "_thread.RLock");
    fsafe_python_restore_error(&error);
}
