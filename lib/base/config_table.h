/* The table of variables and the pure part of reading them; private to config*.c and its tests. */
#ifndef BASE_CONFIG_TABLE_H
#define BASE_CONFIG_TABLE_H

#include "base/config.h"

enum config_type { CONFIG_STRING, CONFIG_NUMBER, CONFIG_BOOL, CONFIG_CHOICE };
enum config_flags { CONFIG_SECRET = 1 };

struct config_entry {
    const char *name;
    enum config_type type;
    size_t offset;              /* into struct config */
    const char *initial;        /* default, as text; NULL: none */
    uint64_t min, max;          /* CONFIG_NUMBER */
    const char *const *choices; /* CONFIG_CHOICE: the value is the index; NULL-terminated */
    unsigned programs, flags;
    const char *help;
};

extern const struct config_entry config_table[]; /* sorted by theme, as in docs/configuration.md */
extern const size_t config_table_len;

/* Parses `text` into the entry's field. On a mistake adds a line and leaves the field alone. */
void config_apply(struct config *c, const struct config_entry *entry, struct slice text,
                  struct buf *mistakes);

/* redis://[[user]:password@]host[:port][/db], rediss:// likewise, parts percent-decoded. */
BASE_CHECK bool config_parse_redis_url(struct config *c, struct slice url, struct error *err);

/* One line of a .env file: NAME=value, with optional `export`, quotes and a trailing comment. An
 * empty or comment line gives an empty name. The value may be rewritten in place. */
BASE_CHECK bool config_parse_env_line(struct slice line, struct arena *arena, struct slice *name,
                                      struct slice *value);

/* "KAFKA_CONFIG_SECURITY_PROTOCOL" → "security.protocol"; NULL where it is no such variable or
 * memory is out. */
char *config_property_name(struct arena *arena, struct slice variable);

#endif
