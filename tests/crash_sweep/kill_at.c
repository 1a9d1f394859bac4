/* Runs a program and kills it right before the N-th system call of the process, whichever thread
 * makes it.
 *
 *   kill-at REPORT SEGMENT N TEXT[,TEXT...] PROGRAM [ARGUMENT...]
 *
 * Calls are counted from execve (segment 0), and anew from each call that sends a TEXT (segments 1,
 * 2, ...): the call that sends it is the first of its segment. Threads make the number of calls
 * before the event arrives vary from run to run; counting from what is sent finds the same place
 * again all the same. N = 0 kills nothing.
 *
 * SIGKILL at the entry of a call: the call is not carried out. REPORT gets one line of JSON;
 * `outcome` is "killed", "over" (the segment was shorter than N; the program is killed at its end),
 * "ended" (by itself) or "stopped" (by SIGTERM to kill-at). The exit status is 0 for each of these
 * and 77 where tracing is not permitted.
 *
 * strace cannot do this: it counts `when=N` for each thread and each kind of call on its own, so
 * that with `-f -e inject=all:signal=KILL:when=N` most calls are never the one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Kernel's own header: glibc has PTRACE_GET_SYSCALL_INFO, but its structure's name changed between
 * versions. */
#include <linux/ptrace.h>

enum { SEGMENTS = 32, TEXTS = 8, PEEK = 16384, IOVECS = 64, NOT_PERMITTED = 77 };

struct run {
    pid_t pid;
    bool started; /* execve was seen */
    int segment;
    unsigned long counts[SEGMENTS];
    int target_segment;
    unsigned long target_n;
    const char *outcome;
    char thread[32];
    long syscall;
    int texts_len;
    char *texts[TEXTS];
};

static volatile sig_atomic_t stop_wanted;

static void on_sigterm(int signo)
{
    (void)signo;
    stop_wanted = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "kill-at: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- what a call sends ---- */

static bool has_text(const struct run *r, const char *bytes, size_t len)
{
    for (int i = 0; i < r->texts_len; i++)
        if (memmem(bytes, len, r->texts[i], strlen(r->texts[i])))
            return true;
    return false;
}

static size_t peek(pid_t tid, uint64_t address, void *out, size_t len)
{
    struct iovec local = {out, len}, remote = {(void *)(uintptr_t)address, len};
    ssize_t n = process_vm_readv(tid, &local, 1, &remote, 1, 0);

    if (n < 0 && errno != EFAULT && errno != ESRCH) /* bad arguments, or killed meanwhile */
        die("process_vm_readv");
    return n < 0 ? 0 : (size_t)n;
}

static bool buffer_has_text(const struct run *r, pid_t tid, uint64_t address, uint64_t len)
{
    char bytes[PEEK];

    return has_text(r, bytes, peek(tid, address, bytes, len < PEEK ? len : PEEK));
}

static bool vector_has_text(const struct run *r, pid_t tid, uint64_t address, uint64_t count)
{
    struct iovec vector[IOVECS];
    size_t n = count < IOVECS ? count : IOVECS;

    n = peek(tid, address, vector, n * sizeof(*vector)) / sizeof(*vector);
    for (size_t i = 0; i < n; i++)
        if (buffer_has_text(r, tid, (uintptr_t)vector[i].iov_base, vector[i].iov_len))
            return true;
    return false;
}

static bool sends_text(const struct run *r, pid_t tid, const struct ptrace_syscall_info *info)
{
    const __u64 *args = info->entry.args;
    struct msghdr message;

    switch (info->entry.nr) {
    case SYS_write:
    case SYS_sendto: return buffer_has_text(r, tid, args[1], args[2]);
    case SYS_writev: return vector_has_text(r, tid, args[1], args[2]);
    case SYS_sendmsg:
        return peek(tid, args[1], &message, sizeof(message)) == sizeof(message) &&
               vector_has_text(r, tid, (uintptr_t)message.msg_iov, message.msg_iovlen);
    default: return false;
    }
}

/* ---- counting ---- */

static void end_run(struct run *r, const char *outcome)
{
    if (!r->outcome)
        r->outcome = outcome;
    kill(r->pid, SIGKILL);
}

static void read_thread_name(struct run *r, pid_t tid)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)r->pid, (int)tid);
    file = fopen(path, "r");
    if (!file || !fgets(r->thread, sizeof(r->thread), file))
        strcpy(r->thread, "?");
    r->thread[strcspn(r->thread, "\n")] = '\0';
    if (file)
        fclose(file);
}

static void on_entry(struct run *r, pid_t tid, const struct ptrace_syscall_info *info)
{
    r->started = r->started || info->entry.nr == SYS_execve;
    if (!r->started || r->outcome)
        return;
    if (r->segment + 1 < SEGMENTS && sends_text(r, tid, info)) {
        if (r->target_n && r->segment == r->target_segment) {
            end_run(r, "over");
            return;
        }
        r->segment++;
    }
    r->counts[r->segment]++;
    if (r->segment != r->target_segment || r->counts[r->segment] != r->target_n)
        return;
    read_thread_name(r, tid);
    r->syscall = (long)info->entry.nr;
    end_run(r, "killed");
}

/* ---- tracing ---- */

static void start_program(struct run *r, char **argv)
{
    int status;

    r->pid = fork();
    if (r->pid < 0)
        die("fork");
    if (r->pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(NOT_PERMITTED);
        kill(getpid(), SIGSTOP);
        execv(argv[0], argv);
        _exit(127);
    }
    if (waitpid(r->pid, &status, 0) < 0)
        die("waitpid");
    if (!WIFSTOPPED(status)) {
        fprintf(stderr, "kill-at: tracing is not permitted here\n");
        exit(NOT_PERMITTED);
    }
    if (ptrace(PTRACE_SETOPTIONS, r->pid, NULL,
               PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                   PTRACE_O_EXITKILL) < 0)
        die("ptrace");
    ptrace(PTRACE_SYSCALL, r->pid, NULL, NULL);
}

/* The signal that the thread is to get on its way. */
static int on_stop(struct run *r, pid_t tid, int status)
{
    struct ptrace_syscall_info info;

    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
        if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info) > 0 &&
            info.op == PTRACE_SYSCALL_INFO_ENTRY)
            on_entry(r, tid, &info);
        return 0;
    }
    /* A new thread starts with a SIGSTOP, and ptrace's own events are SIGTRAPs: neither is for the
     * program. */
    return status >> 16 || WSTOPSIG(status) == SIGSTOP || WSTOPSIG(status) == SIGTRAP
               ? 0
               : WSTOPSIG(status);
}

static void trace(struct run *r)
{
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);

        if (stop_wanted)
            end_run(r, "stopped");
        if (tid < 0 && errno == EINTR)
            continue;
        if (tid < 0)
            return; /* ECHILD: all threads are gone */
        if (WIFSTOPPED(status))
            ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(intptr_t)on_stop(r, tid, status));
    }
}

static void write_report(const struct run *r, const char *path)
{
    FILE *file = fopen(path, "w");

    if (!file)
        die(path);
    fprintf(file, "{\"outcome\":\"%s\",\"thread\":\"%s\",\"syscall\":%ld,\"counts\":[", r->outcome,
            r->thread, r->syscall);
    for (int i = 0; i <= r->segment; i++)
        fprintf(file, "%s%lu", i ? "," : "", r->counts[i]);
    fprintf(file, "]}\n");
    if (fclose(file) != 0)
        die(path);
}

int main(int argc, char **argv)
{
    struct run r = {.outcome = NULL};
    const struct sigaction action = {.sa_handler =
                                         on_sigterm}; /* without SA_RESTART: waitpid returns */

    if (argc < 6) {
        fprintf(stderr, "usage: kill-at REPORT SEGMENT N TEXT[,TEXT...] PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    r.target_segment = atoi(argv[2]);
    r.target_n = strtoul(argv[3], NULL, 10);
    for (char *text = strtok(argv[4], ","); text && r.texts_len < TEXTS; text = strtok(NULL, ","))
        r.texts[r.texts_len++] = text;
    start_program(&r, argv + 5);
    sigaction(SIGTERM, &action, NULL);
    trace(&r);
    if (!r.outcome)
        r.outcome = "ended";
    write_report(&r, argv[1]);
    return 0;
}
