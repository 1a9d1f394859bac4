/* LD_PRELOAD: the wall clock of one process, moved by as many milliseconds as the file
 * CLOCK_SHIM_FILE holds (an int64_t, mapped, so that a test can step the clock while the process
 * runs). The monotonic clock stays, as it does when an administrator or NTP steps a machine's
 * clock. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_ms(void)
{
    static int64_t none;
    static volatile int64_t *mapped;
    const char *name;
    void *found;
    int fd;

    if (mapped)
        return mapped;
    mapped = &none;
    name = getenv("CLOCK_SHIM_FILE");
    fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return mapped;
    found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED)
        mapped = found;
    return mapped;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    const long result = syscall(SYS_clock_gettime, clock, out);

    if (result == 0 && clock == CLOCK_REALTIME) {
        const int64_t ms = (int64_t)out->tv_sec * 1000 + *offset_ms();
        out->tv_sec = ms / 1000;
        out->tv_nsec = out->tv_nsec % 1000000 + (out->tv_nsec / 1000000 + ms % 1000) * 1000000;
        if (out->tv_nsec >= 1000000000) {
            out->tv_nsec -= 1000000000;
            out->tv_sec++;
        }
    }
    return (int)result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
