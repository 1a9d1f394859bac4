/* C11's threads, mutexes and conditions on top of POSIX's, for builds with ThreadSanitizer.
 *
 * librdkafka uses the C11 functions of libc, which ThreadSanitizer does not intercept: it would
 * neither know librdkafka's threads (and crash in the first callback that runs on one) nor see that
 * its mutexes order what they guard. Linked into a program these definitions come before libc's,
 * and go to the POSIX functions, which it does intercept. libc's own are no different inside: its
 * C11 types are its POSIX types under another name (checked below). */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "glibc's mtx_t is a pthread_mutex_t");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "glibc's cnd_t is a pthread_cond_t");
_Static_assert(sizeof(thrd_t) == sizeof(pthread_t), "glibc's thrd_t is a pthread_t");

static int result_of(int code)
{
    switch (code) {
    case 0: return thrd_success;
    case ENOMEM: return thrd_nomem;
    case ETIMEDOUT: return thrd_timedout;
    case EBUSY: return thrd_busy;
    default: return thrd_error;
    }
}

static pthread_mutex_t *mutex_of(mtx_t *m)
{
    return (pthread_mutex_t *)(void *)m;
}

static pthread_cond_t *condition_of(cnd_t *c)
{
    return (pthread_cond_t *)(void *)c;
}

/* ---- threads ---- */

struct start {
    thrd_start_t function;
    void *argument;
};

static void *run(void *ctx)
{
    const struct start start = *(struct start *)ctx;

    free(ctx);
    return (void *)(intptr_t)start.function(start.argument);
}

/* Joined by this clock a thread counts as never joined, as GCC 12's ThreadSanitizer does not
 * intercept it; it does this one by the wall clock. */
int pthread_clockjoin_np(pthread_t thread, void **result, clockid_t clock,
                         const struct timespec *deadline)
{
    struct timespec now, wall;
    int64_t left_ns;

    clock_gettime(clock, &now);
    clock_gettime(CLOCK_REALTIME, &wall);
    left_ns = (int64_t)(deadline->tv_sec - now.tv_sec) * 1000000000 + deadline->tv_nsec -
              now.tv_nsec + wall.tv_nsec;
    wall.tv_sec += left_ns / 1000000000;
    wall.tv_nsec = left_ns % 1000000000;
    if (wall.tv_nsec < 0) {
        wall.tv_nsec += 1000000000;
        wall.tv_sec--;
    }
    return pthread_timedjoin_np(thread, result, &wall);
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *argument)
{
    struct start *start = malloc(sizeof(*start));
    int code;

    if (!start)
        return thrd_nomem;
    *start = (struct start){function, argument};
    code = pthread_create(thread, NULL, run, start);
    if (code)
        free(start);
    return result_of(code);
}

int thrd_join(thrd_t thread, int *result)
{
    void *value = NULL;
    const int code = pthread_join(thread, &value);

    if (result)
        *result = (int)(intptr_t)value;
    return result_of(code);
}

int thrd_detach(thrd_t thread)
{
    return result_of(pthread_detach(thread));
}

/* ---- mutexes ---- */

int mtx_init(mtx_t *m, int type)
{
    pthread_mutexattr_t attributes;
    int code;

    pthread_mutexattr_init(&attributes);
    if (type & mtx_recursive)
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    code = pthread_mutex_init(mutex_of(m), &attributes);
    pthread_mutexattr_destroy(&attributes);
    return result_of(code);
}

int mtx_lock(mtx_t *m)
{
    return result_of(pthread_mutex_lock(mutex_of(m)));
}

int mtx_timedlock(mtx_t *restrict m, const struct timespec *restrict until)
{
    return result_of(pthread_mutex_timedlock(mutex_of(m), until));
}

int mtx_trylock(mtx_t *m)
{
    return result_of(pthread_mutex_trylock(mutex_of(m)));
}

int mtx_unlock(mtx_t *m)
{
    return result_of(pthread_mutex_unlock(mutex_of(m)));
}

void mtx_destroy(mtx_t *m)
{
    pthread_mutex_destroy(mutex_of(m));
}

/* ---- conditions ---- */

int cnd_init(cnd_t *c)
{
    return result_of(pthread_cond_init(condition_of(c), NULL));
}

int cnd_signal(cnd_t *c)
{
    return result_of(pthread_cond_signal(condition_of(c)));
}

int cnd_broadcast(cnd_t *c)
{
    return result_of(pthread_cond_broadcast(condition_of(c)));
}

int cnd_wait(cnd_t *c, mtx_t *m)
{
    return result_of(pthread_cond_wait(condition_of(c), mutex_of(m)));
}

int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, const struct timespec *restrict until)
{
    return result_of(pthread_cond_timedwait(condition_of(c), mutex_of(m), until));
}

void cnd_destroy(cnd_t *c)
{
    pthread_cond_destroy(condition_of(c));
}
