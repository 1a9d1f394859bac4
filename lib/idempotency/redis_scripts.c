#include "idempotency/redis_scripts.h"

/* clang-format off: Lua, a line a line */

/* GET, where a key of another type (somebody's list) is neither ours nor nothing. */
#define GET_VALUE "local v = redis.pcall('GET', KEYS[1])\n"

/* Whether v is the C or the D of this token. */
#define IS_OURS                                                                                    \
    "local claimed = v == 'C|' .. ARGV[1] .. '|' .. ARGV[2]\n"                                     \
    "local dot = type(v) == 'string' and v:sub(1, 3 + #ARGV[1]) == 'D|' .. ARGV[1] .. '|'\n"

#define NOW_MS                                                                                     \
    "local t = redis.call('TIME')\n"                                                               \
    "local now = t[1] * 1000 + t[2] / 1000\n"

/* The D that we leave: its deadline is by Redis' own clock, and the key lives for the whole TTL. */
#define SET_DOT                                                                                    \
    "redis.call('SET', KEYS[1], 'D|' .. ARGV[1] .. '|' .. ARGV[2] .. '|' ..\n"                     \
    "           string.format('%.0f', now + ARGV[3]) .. '|' .. n, 'PX', ARGV[4])\n"

/* The object of a final mark as a table, else nil; what somebody wrote by hand must not fail. */
#define READ_OBJECT                                                                                \
    "local function object(state)\n"                                                               \
    "  if type(v) ~= 'string' or v:sub(1, 1) ~= '{' then return nil end\n"                         \
    "  local read, o = pcall(cjson.decode, v)\n"                                                   \
    "  if read and type(o) == 'table' and o.state == state then return o end\n"                    \
    "end\n"

static const char *const sources[REDIS_SCRIPTS] = {
    /* SET key C|token|fp NX GET PX lease, for Redis before 7. ARGV[5]: C|token|fp.
     * -> nil won | what stands there */
    [SCRIPT_CLAIM] = "local v = redis.call('GET', KEYS[1])\n"
                     "if v then return v end\n"
                     "redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[3])\n"
                     "return false\n",

    /* Claims over the dead mark of another record. ARGV[5]: the mark as it was read.
     * -> 1 won | 0 changed meanwhile, read again */
    [SCRIPT_CLAIM_OVER] =
        GET_VALUE "if v ~= ARGV[5] then return 0 end\n"
                  "redis.call('SET', KEYS[1], 'C|' .. ARGV[1] .. '|' .. ARGV[2], 'PX', ARGV[3])\n"
                  "return 1\n",

    /* Takes an expired D over, and keeps it a D: the ambiguity is never forgotten, whoever crashes
     * next. ARGV[5]: the D as it was read.
     * -> n > 0 ours, the n-th takeover | -wait_ms alive | 0 changed meanwhile, read again */
    [SCRIPT_TAKE] =
        GET_VALUE "if v ~= ARGV[5] then return 0 end\n"
                  "local deadline, n = v:match('^D|[^|]*|[^|]*|(%d+)|(%d+)$')\n"
                  "if not deadline then return 0 end\n" NOW_MS
                  "if tonumber(deadline) > now then return -math.ceil(deadline - now) end\n"
                  "n = string.format('%.0f', n + 1)\n" SET_DOT "return tonumber(n)\n",

    /* The heartbeat. -> 1 still ours, for another lease | 0 lost: cancel before the dot */
    [SCRIPT_RENEW] =
        GET_VALUE IS_OURS "if claimed then return redis.call('PEXPIRE', KEYS[1], ARGV[3]) end\n"
                          "local n = dot and v:match('|(%d+)$')\n"
                          "if not n then return 0 end\n" NOW_MS SET_DOT "return 1\n",

    /* Right before the final dot. The value: C|token|fp. -> 1 ours as D | 0 lost: no dot */
    [SCRIPT_FENCE] =
        NOW_MS "local deadline = string.format('%.0f', now + ARGV[1])\n"
               "local answers = {}\n"
               "for i = 2, #KEYS do\n"
               "  local v, claimed, n = redis.pcall('GET', KEYS[i]), ARGV[2 * i + 1]\n"
               "  if v == claimed then\n"
               "    n = '0'\n"
               "  else\n"
               "    local dot = 'D|' .. ARGV[2 * i] .. '|'\n"
               "    n = type(v) == 'string' and v:sub(1, #dot) == dot and v:match('|(%d+)$')\n"
               "  end\n"
               "  if n then\n"
               "    redis.call('SET', KEYS[i], 'D' .. claimed:sub(2) .. '|' .. deadline .. '|' .. "
               "n, 'PX', ARGV[2])\n"
               "  end\n"
               "  answers[i - 1] = n and '1' or '0'\n"
               "end\n"
               "return table.concat(answers)\n",

    /* After the 250. A true fact wins over whatever stands there but another attempt's sent object.
     * The value: the sent object. -> REDIS_MARK_…
     * The count of records is a convenience: its failure (somebody's string in email:records)
     * undoes nothing. */
    [SCRIPT_MARK_SENT] =
        "local v\n" READ_OBJECT "local answers, written = {}, 0\n"
        "for i = 2, #KEYS do\n"
        "  v = redis.pcall('GET', KEYS[i])\n"
        "  local sent = object('sent')\n"
        "  if sent then\n"
        "    answers[i - 1] = sent.token == ARGV[2 * i] and '3' or '2'\n"
        "  else\n"
        "    redis.call('SET', KEYS[i], ARGV[2 * i + 1], 'PX', ARGV[2])\n"
        "    answers[i - 1] = '1'\n"
        "    written = written + 1\n"
        "  end\n"
        "end\n"
        "if written > 0 then\n" NOW_MS
        "  local bucket = math.ceil((now + ARGV[2]) / ARGV[3]) * ARGV[3]\n"
        "  redis.pcall('HINCRBY', KEYS[1], string.format('%.0f', bucket), written)\n"
        "  local keep = math.ceil(bucket - now) + 60000\n"
        "  local kept = redis.pcall('PTTL', KEYS[1])\n"
        "  if type(kept) == 'number' and kept < keep then redis.pcall('PEXPIRE', KEYS[1], keep) "
        "end\n"
        "end\n"
        "return table.concat(answers)\n",

    /* After the dead letter was acknowledged: over our own C or D, over nothing, or our own dead
     * mark again (the reply was lost). ARGV[5]: the dead object.
     * -> 1 written | 0 somebody else's */
    [SCRIPT_MARK_DEAD] =
        GET_VALUE IS_OURS READ_OBJECT "local dead = object('dead')\n"
                                      "if dead and dead.token == ARGV[1] then return 1 end\n"
                                      "if v and not claimed and not dot then return 0 end\n"
                                      "redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[4])\n"
                                      "return 1\n",

    /* After a definite failure: deletes only our own C or D. -> 1 gone | 0 not ours */
    [SCRIPT_RELEASE] =
        GET_VALUE IS_OURS "if claimed or dot then return redis.call('DEL', KEYS[1]) end\n"
                          "return 0\n",

    /* Mails marked sent and not yet expired: the sum of the buckets to come. Those that have passed
     * are removed.
     * -> the number | -1 email:records is not ours */
    [SCRIPT_COUNT] = "local h = redis.pcall('HGETALL', KEYS[2])\n"
                     "if h.err then return -1 end\n"
                     "local sum = 0\n" NOW_MS "for i = 1, #h, 2 do\n"
                     "  if (tonumber(h[i]) or 0) > now then\n"
                     "    sum = sum + (tonumber(h[i + 1]) or 0)\n"
                     "  else\n"
                     "    redis.pcall('HDEL', KEYS[2], h[i])\n"
                     "  end\n"
                     "end\n"
                     "return sum\n",
};

/* clang-format on */

const char *redis_script_source(enum redis_script script)
{
    return sources[script];
}
