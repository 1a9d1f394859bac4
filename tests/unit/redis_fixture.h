/* A real redis-server for a test: on a free loopback port, in a directory of its own, gone when the
 * test program is, however that ends. */
#ifndef TEST_REDIS_FIXTURE_H
#define TEST_REDIS_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

struct redis_server {
    pid_t pid;
    unsigned port;
    char dir[64];
};

static void fixture_sleep_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

static unsigned fixture_free_port(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&any, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&any, &len) < 0) {
        perror("a free port");
        abort();
    }
    close(fd);
    return ntohs(any.sin_port);
}

/* NULL where nothing answers yet. */
static redisContext *fixture_connect(unsigned port)
{
    const struct timeval patience = {10, 0};
    redisContext *c = redisConnectWithTimeout("127.0.0.1", (int)port, patience);

    if (c && c->err) {
        redisFree(c);
        c = NULL;
    }
    if (c)
        redisSetTimeout(c, patience);
    return c;
}

static void fixture_exec(const struct redis_server *s, const char *const extra[])
{
    const char *argv[32] = {"redis-server", "--save",    "",      "--appendonly", "no",
                            "--bind",       "127.0.0.1", "--dir", s->dir,         "--port"};
    char port[16];
    int argc = 10, out = open("/dev/null", O_WRONLY | O_CLOEXEC);

    snprintf(port, sizeof(port), "%u", s->port);
    argv[argc++] = port;
    for (size_t i = 0; extra && extra[i]; i++)
        argv[argc++] = extra[i];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

/* Whether it is our server that answers there, and not another test's that was quicker to take the
 * port. One that refuses INFO (a password) is given the benefit of the doubt. */
static bool fixture_is_ours(const struct redis_server *s, redisContext *c)
{
    redisReply *r = redisCommand(c, "INFO server");
    char line[40];
    bool ours;

    snprintf(line, sizeof(line), "process_id:%ld\r", (long)s->pid);
    ours = !r || r->type != REDIS_REPLY_STRING || strstr(r->str, line);
    freeReplyObject(r);
    return ours;
}

/* Starts it again on the port it has. False where it ended at once (the port was taken meanwhile).
 */
static bool redis_server_launch(struct redis_server *s, const char *const extra[])
{
    s->pid = fork();
    if (s->pid == 0)
        fixture_exec(s, extra);
    for (int i = 0; i < 1000; i++) {
        redisContext *c;
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
            return false;
        c = fixture_connect(s->port);
        if (c) {
            bool ours = fixture_is_ours(s, c);
            redisFree(c);
            return ours;
        }
        fixture_sleep_ms(10);
    }
    return false;
}

static void redis_server_kill(struct redis_server *s)
{
    if (s->pid <= 0)
        return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

static void redis_server_stop(struct redis_server *s)
{
    redis_server_kill(s);
    if (s->dir[0])
        rmdir(s->dir); /* it persists nothing, so the directory is empty */
    s->dir[0] = '\0';
}

static void redis_server_start(struct redis_server *s, const char *const extra[])
{
    *s = (struct redis_server){.dir = "/tmp/test-redis-XXXXXX"};
    if (!mkdtemp(s->dir)) {
        perror("mkdtemp");
        abort();
    }
    for (int tries = 0; tries < 5; tries++) {
        s->port = fixture_free_port();
        if (redis_server_launch(s, extra))
            return;
        redis_server_kill(s);
    }
    fprintf(stderr, "redis-server does not start; is the package redis-server installed?\n");
    abort();
}

/* One command from beside the store; the answer is the caller's to free, and NULL where there is
 * none. */
static redisReply *redis_server_ask(const struct redis_server *s, const char *const words[])
{
    redisContext *c = fixture_connect(s->port);
    const char *argv[32];
    redisReply *reply = NULL;
    int argc = 0;

    if (!c)
        return NULL;
    for (; words[argc]; argc++)
        argv[argc] = words[argc];
    reply = redisCommandArgv(c, argc, argv, NULL);
    redisFree(c);
    return reply;
}

#define REDIS_ASK(server, ...) redis_server_ask(server, (const char *const[]){__VA_ARGS__, NULL})
#define REDIS_DO(server, ...) freeReplyObject(REDIS_ASK(server, __VA_ARGS__))

#endif
