/*
 * mapped.c - the end of a process that reads a mapped file which is no longer there.
 *
 * A page of a mapped file that was cut short meanwhile, or that its disk can not give, is no error that a function
 * could return: the kernel sends SIGBUS to whichever thread touched it, wherever that is. Going on is out of the
 * question, since nothing but zeros could take the place of the lost images. So the process says which file it was, in
 * words that were prepared when the file was mapped, and leaves. Only functions that a signal handler may call are
 * called here (signal-safety(7)).
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lenet.h"

enum { MOST_WATCHED = 4096, PASS_IT_ON_MS = 100, TO_END_ALL_MS = 3000 };

static _Atomic(const struct lenet_mapped *) watched[MOST_WATCHED];
static atomic_int listener = -1;
static struct sigaction others;

static _Noreturn void leave(const struct lenet_mapped *file)
{
    static atomic_flag leaving = ATOMIC_FLAG_INIT;
    struct stat now;

    while (atomic_flag_test_and_set(&leaving)) /* several threads may run into the same hole: one speaks */
        poll(NULL, 0, PASS_IT_ON_MS);
    int cut = stat(file->path, &now) || (uintptr_t)now.st_size < file->bytes;
    const struct lenet_last_words *last = cut ? &file->cut : &file->failed;
    if (write(STDERR_FILENO, last->text, strlen(last->text)) > 0)
        poll(NULL, 0, PASS_IT_ON_MS); /* a launcher may drop what is in its pipes when it ends a job */
    unsigned char code = (unsigned char)last->code;
    if (atomic_load(&listener) >= 0 && write(atomic_load(&listener), &code, 1) == 1)
        poll(NULL, 0, TO_END_ALL_MS); /* this thread may be one that the listener waits for */
    _exit(code);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)context;
    for (int slot = 0; slot < MOST_WATCHED && info->si_code > 0; slot++) { /* 0 or less: sent by somebody */
        const struct lenet_mapped *file = atomic_load(&watched[slot]);
        if (file && (uintptr_t)info->si_addr - file->begin < file->bytes)
            leave(file);
    }
    /* Not ours. Touched once more, the page reaches whoever listened before; if they pass it back, it is the end. */
    static atomic_flag passed_on = ATOMIC_FLAG_INIT;
    struct sigaction next = {.sa_handler = SIG_DFL};
    if (!atomic_flag_test_and_set(&passed_on))
        next = others;
    sigaction(number, &next, NULL);
    if (info->si_code <= 0)
        raise(number);
}

void lenet_mapped_listen(int32_t descriptor)
{
    atomic_store(&listener, descriptor);
}

int32_t lenet_mapped_watch(const struct lenet_mapped *file)
{
    struct sigaction now, ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

    sigemptyset(&ours.sa_mask);
    sigaction(SIGBUS, NULL, &now);
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_bus_error)
        sigaction(SIGBUS, &ours, &others);
    for (int32_t slot = 0; slot < MOST_WATCHED; slot++) {
        const struct lenet_mapped *none = NULL;
        if (atomic_compare_exchange_strong(&watched[slot], &none, file))
            return slot;
    }
    return -1;
}

void lenet_mapped_forget(int32_t slot)
{
    atomic_store(&watched[slot], NULL);
}

void lenet_mapped_touch(const uint8_t *bytes, int64_t count, int64_t step)
{
    for (int64_t i = 0; i < count; i += step)
        (void)*(const volatile uint8_t *)(bytes + i);
}
