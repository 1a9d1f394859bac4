/* The HTTP server against clients that stall, drip, flood or never read; and its socket. */
#include "http_fixture.h"

#include <sys/resource.h>

enum { STALLED = 300 };

/* Sends a byte every 20 ms, which no idle time-out would ever notice. */
static void cuts_a_dripping_client_and_serves_others(void **state)
{
    static const struct http_limits limits = {256, 400, 400};
    struct fixture f;
    struct reply r;
    bool closed = false;
    uint64_t begun_ms, took_ms;
    int fd;

    (void)state;
    start(&f, &limits);
    fd = dial(&f);
    begun_ms = clock_monotonic_ms();
    say(fd, "GET /hello HTTP/1.1\r\nX: ");
    for (int i = 0; !closed && i < 100; i++) {
        (void)send(fd, "x", 1, MSG_NOSIGNAL);
        free(hear(&f, fd, 1, 20, &closed));
        r = ask(&f, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_int_equal(r.status, 200);
    }
    took_ms = clock_monotonic_ms() - begun_ms;
    assert_true(closed);
    assert_in_range(took_ms, 350, 3000);
    close(fd);
    stop(&f);
}

static void closes_idle_connections_and_slow_later_requests(void **state)
{
    static const struct http_limits limits = {256, 4000, 200};
    struct fixture f;
    struct reply r;
    bool closed;
    uint64_t begun_ms;
    int fd;

    (void)state;
    start(&f, &limits);
    fd = dial(&f);
    say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    read_reply(&f, fd, false, 2000, &r);
    begun_ms = clock_monotonic_ms();
    say(fd, "GET /hel"); /* the beginning of a request does not prolong the wait for its headers */
    free(hear(&f, fd, SIZE_MAX, 3000, &closed));
    assert_true(closed);
    assert_in_range(clock_monotonic_ms() - begun_ms, 150, 2900);
    close(fd);
    stop(&f);
}

/* Reads nothing of a page that fits in no socket buffer. */
static void cuts_a_client_that_does_not_read(void **state)
{
    static const struct http_limits limits = {256, 300, 300};
    struct fixture f;
    bool closed;
    uint64_t end_ms;
    char *text;
    int fd;

    (void)state;
    start(&f, &limits);
    fd = dial(&f);
    say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    end_ms = clock_monotonic_ms() + 600;
    while (clock_monotonic_ms() < end_ms)
        tick(&f, 10);
    text = hear(&f, fd, SIZE_MAX, 2000, &closed);
    assert_true(closed);
    assert_true(strlen(text) < BIG_PAGE);
    free(text);
    close(fd);
    /* One that does gets all of it. */
    fd = dial(&f);
    say(fd, "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    text = hear(&f, fd, SIZE_MAX, 2000, &closed);
    assert_true(closed);
    assert_true(strlen(text) > BIG_PAGE);
    free(text);
    close(fd);
    stop(&f);
}

static bool is_closed(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

static void answers_a_probe_beside_stalled_clients(void **state)
{
    struct fixture f;
    struct reply r;
    int fds[STALLED];
    unsigned closed = 0;
    uint64_t begun_ms;

    (void)state;
    start(&f, NULL);
    for (size_t i = 0; i < STALLED; i++) {
        fds[i] = dial(&f);
        if (i % 2)
            say(fds[i], "GET /hello HT");
        if (i % 16 == 0)
            tick(&f, 0);
    }
    begun_ms = clock_monotonic_ms();
    for (int i = 0; i < 10; i++) {
        r = ask(&f, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_int_equal(r.status, 200);
    }
    assert_in_range(clock_monotonic_ms() - begun_ms, 0, 4000);
    /* Those that waited longest made room, and only as many as needed. */
    for (size_t i = 0; i < STALLED; i++) {
        closed += is_closed(fds[i]);
        close(fds[i]);
    }
    assert_in_range(closed, STALLED - 256, STALLED - 256 + 10);
    stop(&f);
}

/* A flood of connections takes no more of the process than the limit allows. */
static void bounds_its_file_descriptors(void **state)
{
    static const struct http_limits limits = {16, 5000, 5000};
    struct fixture f;
    int fds[200], probe;
    struct reply r;

    (void)state;
    start(&f, &limits);
    for (size_t i = 0; i < 200; i++)
        fds[i] = dial(&f);
    for (int i = 0; i < 20; i++)
        tick(&f, 0);
    probe = dup(0);
    assert_true(probe >= 0);
    assert_in_range(probe, 0, fds[199] + 16 + 32 + 8);
    close(probe);
    r = ask(&f, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 200);
    for (size_t i = 0; i < 200; i++)
        close(fds[i]);
    stop(&f);
}

/* With no file descriptor left the loop does not spin, and goes on when there are some. */
static void waits_for_file_descriptors(void **state)
{
    struct fixture f;
    struct rlimit before, none;
    struct reply r;
    unsigned ticks = 0;
    uint64_t end_ms;
    int fd;

    (void)state;
    start(&f, NULL);
    fd = dial(&f);
    say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){(rlim_t)fd + 1, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (end_ms = clock_monotonic_ms() + 250; clock_monotonic_ms() < end_ms; ticks++)
        tick(&f, 20);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_in_range(ticks, 1, 60);
    assert_int_equal(f.answered, 0);
    read_reply(&f, fd, false, 2000, &r);
    assert_int_equal(r.status, 200);
    close(fd);
    stop(&f);
}

/* However many requests come, most of the time is left to the rest of the loop. */
static void rests_in_a_flood_of_requests(void **state)
{
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    enum { CLIENTS = 100, REQUESTS = 1000 };
    uint64_t begin_us, end_us, left_us = 0;
    int fds[CLIENTS];
    struct fixture f;

    (void)state;
    start(&f, NULL);
    for (size_t i = 0; i < CLIENTS; i++) {
        fds[i] = dial(&f);
        for (size_t n = 0; n < REQUESTS; n++)
            if (send(fds[i], request, sizeof(request) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                break;
    }
    begin_us = clock_monotonic_us();
    do {
        const uint64_t tick_us = clock_monotonic_us();
        const unsigned before = f.answered;
        tick(&f, 0);
        end_us = clock_monotonic_us();
        left_us += f.answered == before ? end_us - tick_us : 0;
    } while (end_us - begin_us < 1000000);
    assert_in_range(f.answered, 100, CLIENTS * REQUESTS - 100); /* the flood was not over */
    assert_true(left_us > (end_us - begin_us) * 3 / 10);
    for (size_t i = 0; i < CLIENTS; i++)
        close(fds[i]);
    stop(&f);
}

static void says_which_port_is_taken(void **state)
{
    struct fixture f;
    struct error err = {0};
    char port[16];

    (void)state;
    start(&f, NULL);
    assert_null(http_new(f.loop, "127.0.0.1", http_port(f.http), NULL, answer, &f, &err));
    snprintf(port, sizeof(port), "%u", http_port(f.http));
    assert_non_null(strstr(err.text, port));
    assert_non_null(strstr(err.text, "in use"));
    stop(&f);
}

static void listens_on_names_and_ipv6(void **state)
{
    static const char *const good[] = {"localhost", "0.0.0.0", "::1", "[::1]", "::"};
    static const char *const bad[] = {"", "[]", "192.0.2.1"};
    struct error err = {0};
    struct loop *loop = loop_new(&err);
    int v6 = socket(AF_INET6, SOCK_STREAM, 0);

    (void)state;
    assert_non_null(loop);
    for (size_t i = 0; i < (v6 < 0 ? 2 : sizeof(good) / sizeof(good[0])); i++) {
        struct http *h = http_new(loop, good[i], 0, NULL, answer, NULL, &err);
        if (!h)
            fail_msg("%s: %s", good[i], err.text);
        http_destroy(h);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        error_clear(&err);
        assert_null(http_new(loop, bad[i], 0, NULL, answer, NULL, &err));
        assert_true(err.set);
    }
    if (v6 >= 0)
        close(v6);
    loop_destroy(loop);
}

static void ends_with_connections_open(void **state)
{
    struct fixture f;
    int half, idle;
    struct reply r;

    (void)state;
    http_destroy(NULL);
    start(&f, NULL);
    half = dial(&f);
    say(half, "GET /hel");
    idle = dial(&f);
    say(idle, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    read_reply(&f, idle, false, 2000, &r);
    stop(&f);
    close(half);
    close(idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_a_dripping_client_and_serves_others),
        cmocka_unit_test(closes_idle_connections_and_slow_later_requests),
        cmocka_unit_test(cuts_a_client_that_does_not_read),
        cmocka_unit_test(answers_a_probe_beside_stalled_clients),
        cmocka_unit_test(bounds_its_file_descriptors),
        cmocka_unit_test(waits_for_file_descriptors),
        cmocka_unit_test(rests_in_a_flood_of_requests),
        cmocka_unit_test(says_which_port_is_taken),
        cmocka_unit_test(listens_on_names_and_ipv6),
        cmocka_unit_test(ends_with_connections_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
