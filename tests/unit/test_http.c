/* Requests to the HTTP server: what is answered, and what is refused. */
#include "http_fixture.h"

static void gets_a_page_with_its_headers(void **state)
{
    struct fixture f;
    struct reply r;

    (void)state;
    start(&f, NULL);
    r = ask(&f, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "hello");
    assert_header(&r, "Content-Type: text/plain");
    assert_header(&r, "Cache-Control: no-store");
    assert_header(&r, "X-Content-Type-Options: nosniff");
    assert_non_null(strcasestr(r.head, "Content-Security-Policy: default-src 'none'"));
    r = ask(&f, "GET /down HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 503);
    r = ask(&f, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body_len, 0);
    stop(&f);
}

static void ignores_the_query_and_takes_absolute_urls(void **state)
{
    struct fixture f;
    struct reply r;

    (void)state;
    start(&f, NULL);
    r = ask(&f, "GET /hello?a=b&c HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 200);
    assert_string_equal(f.last_path, "/hello");
    r = ask(&f, "GET http://x:80/hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 200);
    r = ask(&f, "GET /hello HTTP/1.0\r\n\r\n");
    assert_int_equal(r.status, 200);
    stop(&f);
}

static void answers_head_without_a_body(void **state)
{
    struct fixture f;
    struct reply r;

    (void)state;
    start(&f, NULL);
    r = ask(&f, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body_len, 5);
    assert_string_equal(r.body, "");
    stop(&f);
}

static void keeps_a_connection_alive(void **state)
{
    struct fixture f;
    struct reply r;
    int fd;

    (void)state;
    start(&f, NULL);
    fd = dial(&f);
    for (int i = 0; i < 20; i++) {
        say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        read_reply(&f, fd, false, 2000, &r);
        assert_int_equal(r.status, 200);
    }
    close(fd);
    assert_int_equal(f.answered, 20);
    stop(&f);
}

static void answers_pipelined_requests_in_order(void **state)
{
    struct fixture f;
    bool closed;
    char *text;
    int fd;

    (void)state;
    start(&f, NULL);
    fd = dial(&f);
    say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
            "GET /down HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    text = hear(&f, fd, SIZE_MAX, 2000, &closed);
    assert_true(closed);
    assert_non_null(strstr(text, "hello"));
    assert_non_null(strstr(strstr(text, "hello"), " 404 "));
    assert_non_null(strstr(strstr(text, " 404 "), " 503 "));
    free(text);
    close(fd);
    stop(&f);
}

static void refuses_unknown_paths_and_methods(void **state)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"};
    struct fixture f;
    struct reply r;

    (void)state;
    start(&f, NULL);
    r = ask(&f, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 404);
    assert_string_equal(r.body, "{\"error\":\"not found\"}\n");
    assert_header(&r, "Content-Type: application/json");
    r = ask(&f, "GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 404);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        char request[128];
        snprintf(request, sizeof(request), "%s /hello HTTP/1.1\r\nHost: x\r\n\r\n", methods[i]);
        r = ask(&f, request);
        assert_int_equal(r.status, 405);
        assert_header(&r, "Allow: GET, HEAD");
        assert_string_equal(r.body, "{\"error\":\"method not allowed\"}\n");
    }
    stop(&f);
}

static void takes_no_bodies(void **state)
{
    struct fixture f;
    struct reply r;
    bool closed;
    char *text, *body = calloc(1, 200001);
    int fd;

    (void)state;
    assert_non_null(body);
    memset(body, 'x', 200000);
    start(&f, NULL);
    r = ask(&f, "POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_int_equal(r.status, 405);
    /* A body is not taken for the next request. */
    fd = dial(&f);
    say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd");
    read_reply(&f, fd, false, 2000, &r);
    assert_int_equal(r.status, 200);
    say(fd, "GET /down HTTP/1.1\r\nHost: x\r\n\r\n");
    read_reply(&f, fd, false, 2000, &r);
    assert_int_equal(r.status, 503);
    close(fd);
    /* A large one is answered at once and not waited for. */
    fd = dial(&f);
    say(fd, "POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nabc");
    text = hear(&f, fd, SIZE_MAX, 2000, &closed);
    assert_true(closed);
    assert_non_null(strstr(text, " 405 "));
    free(text);
    close(fd);
    /* One of unknown length is read up to a bound. */
    fd = dial(&f);
    say(fd, "POST /hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n30D40\r\n");
    (void)send(fd, body, 200000, MSG_NOSIGNAL | MSG_DONTWAIT);
    free(hear(&f, fd, SIZE_MAX, 2000, &closed));
    assert_true(closed);
    close(fd);
    free(body);
    stop(&f);
}

static void survives_garbage(void **state)
{
    static const char *const garbage[] = {
        "\r\n\r\n\r\n\r\n",
        "hello\r\n\r\n",
        "\x16\x03\x01\x02\x01\x01\xFF\xFE\r\n\r\n\r\n\r\n",
        "GET /hello HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET\r\nHost\r\n\r\n",
        "GET /%zz%00%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "GET /hello HTTP/1.1\r\n: x\r\n\xFF\r\n\r\n",
    };
    static const struct http_limits limits = {256, 300, 300};
    struct fixture f;
    struct reply r;

    (void)state;
    start(&f, &limits);
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        bool closed;
        int fd = dial(&f);
        say(fd, garbage[i]);
        shutdown(fd, SHUT_WR);
        free(hear(&f, fd, SIZE_MAX, 1000, &closed));
        assert_true(closed);
        close(fd);
        r = ask(&f, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_int_equal(r.status, 200);
    }
    stop(&f);
}

static void refuses_oversized_headers(void **state)
{
    struct fixture f;
    struct reply r;
    bool closed;
    char *text, *long_text = calloc(1, 60001);
    int fd;

    (void)state;
    assert_non_null(long_text);
    memset(long_text, 'x', 60000);
    start(&f, NULL);
    fd = dial(&f);
    say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Long: ");
    (void)send(fd, long_text, 60000, MSG_NOSIGNAL);
    text = hear(&f, fd, SIZE_MAX, 2000, &closed);
    assert_true(closed);
    assert_null(strstr(text, " 200 "));
    free(text);
    close(fd);
    fd = dial(&f);
    say(fd, "GET /");
    (void)send(fd, long_text, 60000, MSG_NOSIGNAL);
    free(hear(&f, fd, SIZE_MAX, 2000, &closed));
    assert_true(closed);
    close(fd);
    r = ask(&f, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 200);
    free(long_text);
    stop(&f);
}

static void answers_500_where_memory_is_out(void **state)
{
    struct fixture f;
    struct reply r;

    (void)state;
    start(&f, NULL);
    r = ask(&f, "GET /memory HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(r.status, 500);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gets_a_page_with_its_headers),
        cmocka_unit_test(ignores_the_query_and_takes_absolute_urls),
        cmocka_unit_test(answers_head_without_a_body),
        cmocka_unit_test(keeps_a_connection_alive),
        cmocka_unit_test(answers_pipelined_requests_in_order),
        cmocka_unit_test(refuses_unknown_paths_and_methods),
        cmocka_unit_test(takes_no_bodies),
        cmocka_unit_test(survives_garbage),
        cmocka_unit_test(refuses_oversized_headers),
        cmocka_unit_test(answers_500_where_memory_is_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
