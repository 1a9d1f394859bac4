#include "idempotency/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "idempotency/store_private.h"

enum { HOST_LEN = 32 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char host[HOST_LEN + 1];
static uint64_t nonce;
static atomic_uint_fast64_t counter;

uint64_t store_random_seed(void)
{
    uint64_t seed;

    /* Fails only before the kernel's pool is seeded or where a sandbox forbids it. */
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = clock_monotonic_us() ^ (uint64_t)clock_unix_ms() << 20 ^ (uint64_t)getpid() << 48;
    return seed;
}

static void draw(void)
{
    char name[256] = "";

    (void)gethostname(name, sizeof(name) - 1); /* "" will do: the nonce is what makes it unique */
    for (size_t i = 0; i < HOST_LEN && name[i]; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '.' || c == '-';
        host[i] = plain ? c : '_';
    }
    nonce = store_random_seed();
}

void store_new_token(char out[CLAIM_TOKEN_SIZE])
{
    (void)pthread_once(&once, draw);
    snprintf(out, CLAIM_TOKEN_SIZE, "%s-%ld-%016" PRIx64 "-%" PRIuFAST64, host, (long)getpid(),
             nonce, atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed));
}
