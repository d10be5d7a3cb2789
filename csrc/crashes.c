/*
 * crashes.c - the end of a process that a file brings down.
 *
 * A page of a mapped file that was cut short meanwhile, or that its disk can not give, is no error that a function
 * could return: the kernel sends SIGBUS to whichever thread touched it, wherever that is. Going on is out of the
 * question, since nothing but zeros could take the place of the lost images. Nor can one go on after a library crashed
 * on a damaged file: nobody knows what it wrote to before. So the process says which file it was, in words that were
 * prepared when the file was mapped or opened, and leaves. Only functions that a signal handler may call are called
 * here (signal-safety(7)).
 */
#define _XOPEN_SOURCE 700  /* sigaltstack */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lenet.h"

/* In memory that every thread has from its beginning: a signal handler must not be the first to ask for it. */
#define INITIAL_EXEC __attribute__((tls_model("initial-exec")))
#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { MOST_WATCHED = 4096, PASS_IT_ON_MS = 100, TO_END_ALL_MS = 3000 };

static _Atomic(const struct lenet_mapped *) watched[MOST_WATCHED];
static atomic_int listener = -1;

/* What a thread says if it crashes, and where its signal handlers ran before. */
static _Thread_local const struct lenet_last_words *expected INITIAL_EXEC;
static _Thread_local stack_t stack_before INITIAL_EXEC;

/* A signal, who listened to it before, and whether they got it back. */
struct heard {
    int number;
    struct sigaction before;
    atomic_flag passed_on;
};
static struct heard bus_error = {.number = SIGBUS};
static struct heard crashes[] = {{.number = SIGSEGV}, {.number = SIGFPE}, {.number = SIGILL}, {.number = SIGABRT}};

/* Tells the listener only where it can hear: Python's threads wait as long as one of them is in a library. */
static _Noreturn void leave(const struct lenet_last_words *last, int tell)
{
    static atomic_flag leaving = ATOMIC_FLAG_INIT;

    while (atomic_flag_test_and_set(&leaving)) /* several threads may run into the same hole: one speaks */
        poll(NULL, 0, PASS_IT_ON_MS);
    if (write(STDERR_FILENO, last->text, strlen(last->text)) > 0)
        poll(NULL, 0, PASS_IT_ON_MS); /* a launcher may drop what is in its pipes when it ends a job */
    unsigned char code = (unsigned char)last->code;
    if (tell && atomic_load(&listener) >= 0 && write(atomic_load(&listener), &code, 1) == 1)
        poll(NULL, 0, TO_END_ALL_MS); /* this thread may be one that the listener waits for */
    _exit(code);
}

/* A signal that is not ours: raised once more it reaches whoever listened before; if they pass it back, it is the end. */
static void pass_on(struct heard *heard, const siginfo_t *info)
{
    struct sigaction next = {.sa_handler = SIG_DFL};
    if (!atomic_flag_test_and_set(&heard->passed_on))
        next = heard->before;
    sigaction(heard->number, &next, NULL);
    if (info->si_code <= 0) /* sent; what an instruction caused, it causes again */
        raise(heard->number);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    for (int slot = 0; slot < MOST_WATCHED && info->si_code > 0; slot++) { /* 0 or less: sent by somebody */
        const struct lenet_mapped *file = atomic_load(&watched[slot]);
        if (file && (uintptr_t)info->si_addr - file->begin < file->bytes) {
            struct stat now;
            int cut = stat(file->path, &now) || (uintptr_t)now.st_size < file->bytes;
            leave(cut ? &file->cut : &file->failed, 1);
        }
    }
    pass_on(&bus_error, info);
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    int ours = info->si_code > 0 || info->si_pid == getpid(); /* abort() sends its signal as kill(2) does */
    if (expected && ours)
        leave(expected, 0);
    for (size_t i = 0; i < COUNT(crashes); i++)
        if (crashes[i].number == number)
            pass_on(&crashes[i], info);
}

/* Let handler hear of a signal, unless it does, and note who did before. */
static void hear(struct heard *heard, void (*handler)(int, siginfo_t *, void *), int flags)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction now, ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

    sigemptyset(&ours.sa_mask);
    pthread_mutex_lock(&one_at_a_time);
    sigaction(heard->number, NULL, &now);
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != handler)
        sigaction(heard->number, &ours, &heard->before);
    pthread_mutex_unlock(&one_at_a_time);
}

void lenet_crash_expect(const struct lenet_last_words *last, uint8_t *stack, int64_t bytes)
{
    const stack_t own = {.ss_sp = stack, .ss_size = (size_t)bytes};

    for (size_t i = 0; i < COUNT(crashes); i++)
        hear(&crashes[i], on_crash, SA_ONSTACK);
    if (sigaltstack(&own, &stack_before))
        stack_before = (stack_t){.ss_flags = SS_DISABLE};
    expected = last;
}

void lenet_crash_expect_none(void)
{
    expected = NULL;
    sigaltstack(&stack_before, NULL);
}

void lenet_crash_listen(int32_t descriptor)
{
    atomic_store(&listener, descriptor);
}

int32_t lenet_mapped_watch(const struct lenet_mapped *file)
{
    hear(&bus_error, on_bus_error, 0);
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
