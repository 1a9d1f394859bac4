/* What can be told of values without trying them: names, addresses, files. */
#include "base/config_check.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_TOPIC = 249, MAX_HOST = 255 };

static bool only(struct slice text, const char *more)
{
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.ptr[i];
        const bool alnum =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && !strchr(more, c))
            return false;
    }
    return text.len > 0;
}

bool config_check_topic(const char *topic, struct error *err)
{
    const struct slice name = slice_str(topic);

    if (name.len > MAX_TOPIC || !only(name, "._-") || slice_is(name, ".") || slice_is(name, ".."))
        return error_set(
            err, "a topic's name has 1 to %d letters, digits, dots, underscores and hyphens",
            MAX_TOPIC);
    return true;
}

/* A name, or an IPv4 address, or an IPv6 address; UTF-8 for internationalised names. */
bool config_check_host(struct slice host, struct error *err)
{
    if (host.len == 0 || host.len > MAX_HOST)
        return error_set(err, "there is no host in it, or a longer one than there can be");
    if (memchr(host.ptr, '@', host.len)) /* and before it there may be a password */
        return error_set(err, "there is an '@' in it, and no login belongs there");
    for (size_t i = 0; i < host.len; i++)
        if ((unsigned char)host.ptr[i] <= 0x20 || strchr("/@,;\"'<>\\\x7F", host.ptr[i]))
            return error_set(err, "'%.*s' is not the name or address of a host", SLICE_ARG(host));
    return true;
}

static bool is_port(struct slice text)
{
    unsigned long port = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || i > 4)
            return false;
        port = port * 10 + (unsigned)(text.ptr[i] - '0');
    }
    return port > 0 && port < 65536;
}

/* [scheme://]host[:port], as librdkafka takes it; IPv6 in brackets. */
static bool check_broker(struct slice broker, struct error *err)
{
    const char *scheme = memmem(broker.ptr, broker.len, "://", 3);
    const char *bracket, *colon;
    struct slice host = broker;

    if (memchr(broker.ptr, '@', broker.len))
        return config_check_host(broker, err);
    if (scheme)
        host = slice_of(scheme + 3, broker.len - (size_t)(scheme + 3 - broker.ptr));
    bracket = memrchr(host.ptr, ']', host.len);
    colon = memrchr(host.ptr, ':', host.len);
    if (colon && (!bracket || colon > bracket)) {
        const struct slice port = slice_of(colon + 1, host.len - (size_t)(colon + 1 - host.ptr));
        if (!is_port(port))
            return error_set(err, "'%.*s' has no port from 1 to 65535 after its ':'",
                             SLICE_ARG(broker));
        host.len = (size_t)(colon - host.ptr);
    }
    if (!bracket && memchr(host.ptr, ':', host.len))
        return error_set(err, "'%.*s' is not host:port (IPv6 addresses go in brackets)",
                         SLICE_ARG(broker));
    return config_check_host(host, err);
}

bool config_check_brokers(const char *brokers, struct error *err)
{
    struct slice rest = slice_str(brokers);

    while (rest.ptr) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        struct slice broker = comma ? slice_of(rest.ptr, (size_t)(comma - rest.ptr)) : rest;
        rest = comma ? slice_of(comma + 1, rest.len - broker.len - 1) : slice_of(NULL, 0);
        while (broker.len && broker.ptr[0] == ' ')
            broker = slice_of(broker.ptr + 1, broker.len - 1);
        while (broker.len && broker.ptr[broker.len - 1] == ' ')
            broker.len--;
        if (!check_broker(broker, err))
            return false;
    }
    return true;
}

bool config_check_listen(const char *listen, struct error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char host[MAX_HOST + 1];
    size_t len = strlen(listen);
    int code;

    if (len >= sizeof(host))
        return error_set(err, "longer than an address can be");
    memcpy(host, listen, len + 1);
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    }
    code = getaddrinfo(host, NULL, &hints, &found);
    if (code)
        return error_set(err, "'%s' is not an address of this machine: %s", listen,
                         gai_strerror(code));
    freeaddrinfo(found);
    return true;
}

bool config_check_ca_file(const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");
    char line[256];
    bool found = false;

    if (!file)
        return error_set(err, "%s: %s", path, strerror(errno));
    while (!found && fgets(line, sizeof(line), file))
        found = strstr(line, "-----BEGIN ") && strstr(line, "CERTIFICATE-----");
    fclose(file);
    return found || error_set(err, "%s: there is no certificate in PEM form in it", path);
}
