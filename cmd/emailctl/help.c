/* The texts of --help. */
#include "ctl.h"

static const char overview[] =
    "Usage: emailctl COMMAND [options]\n\n"
    "Publishes email events, looks after dead letters, and checks what the email service needs.\n\n"
    "Commands:\n"
    "  publish        publish one event from flags, or JSON lines from stdin\n"
    "  dlq list       list the dead letters\n"
    "  dlq show       show one with all that it holds\n"
    "  dlq redrive    bring dead letters back to the topic of events\n"
    "  dlq purge      delete old dead letters\n"
    "  check          check configuration, Kafka, Redis and the relay, without sending\n\n"
    "emailctl COMMAND --help tells a command's flags. All commands take the flags and variables\n"
    "below, which are the service's.\n";

static const char publish[] =
    "Usage: emailctl publish [flags]            one event, from the flags\n"
    "       emailctl publish [flags] -          one event a line, as JSON, from stdin\n\n"
    "Validates as the service does, and publishes; an event that is wrong is refused with the\n"
    "reason, others are published all the same. Prints the messageID, or with stdin a summary.\n"
    "Without flags of an event, stdin is read where it is not a terminal.\n\n"
    "The event:\n"
    "  --to ADDRESS         recipient (again for more), as a@example.com or Name <a@example.com>\n"
    "  --cc ADDRESS, --bcc ADDRESS\n"
    "  --from ADDRESS       sender instead of the service's own\n"
    "  --reply-to ADDRESS\n"
    "  --subject TEXT\n"
    "  --text TEXT, --text-file FILE\n"
    "  --html TEXT, --html-file FILE\n"
    "  --template NAME      with --data JSON and --locale LOCALE\n"
    "  --attach FILE        attachment (again for more)\n"
    "  --header NAME:VALUE  extra header (again for more)\n"
    "  --type TYPE          kind of mail (default: generic)\n"
    "  --message-id ID      identity (default: a random one)\n"
    "  --expires-in SECONDS not to be sent later than that\n"
    "  --metadata JSON      object that is carried along\n\n"
    "Flags:\n"
    "  --key KEY            record key (default: first recipient in lower case; empty: none)\n"
    "  --dry-run            validate only\n";

#define FILTERS                                                                                    \
    "  --reason REASON      only letters of this reason (again for more)\n"                        \
    "  --since TIME         only letters that failed at or after TIME\n"                           \
    "  --until TIME         only letters that failed before TIME\n"                                \
    "  --type TYPE          only events of this type\n"                                            \
    "  --message-id ID      only the event with this messageID\n"                                  \
    "  --limit N            at most so many\n"

#define TIME "\nTIME is like 2026-11-21T08:00:00Z, or how long ago: 90s, 15m, 2h, 3d, 1w.\n"

static const char dlq[] = "Usage: emailctl dlq list|show|redrive|purge [flags]\n\n"
                          "  list       list the dead letters\n"
                          "  show       show one with all that it holds\n"
                          "  redrive    bring dead letters back to the topic of events\n"
                          "  purge      delete old dead letters\n";

static const char dlq_list[] =
    "Usage: emailctl dlq list [flags]\n\n"
    "Lists the dead letters, oldest first.\n\n"
    "Flags:\n" FILTERS "  --json               one JSON object a line\n" TIME;

static const char dlq_show[] =
    "Usage: emailctl dlq show PARTITION:OFFSET | --message-id ID [flags]\n\n"
    "Shows a dead letter: its key, its headers and the event. IT HOLDS THE MAIL'S CONTENT.\n\n"
    "Flags:\n"
    "  --message-id ID      every letter of the event with this messageID\n"
    "  --json               one JSON object a line\n";

static const char dlq_redrive[] =
    "Usage: emailctl dlq redrive [PARTITION:OFFSET] [flags]\n\n"
    "Brings dead letters back to the topic of events, with their own key and headers and the\n"
    "header dlq-redriven (how often). Where only some recipients were refused, the event goes to\n"
    "those alone, under a messageID of its own. What was redriven is remembered in Kafka (group\n"
    "emailctl-redrive), so that running it again goes on where it stopped.\n\n"
    "Flags:\n" FILTERS "  --rate N             at most N a second\n"
    "  --max-redrives N     skip letters that were redriven N times (default: 3)\n"
    "  --again              also those that were redriven before\n"
    "  --force              also invalid and expired events, and beyond --max-redrives\n"
    "  --dry-run            say what would be redriven\n" TIME;

static const char dlq_purge[] =
    "Usage: emailctl dlq purge --before TIME | --all [flags]\n\n"
    "Deletes dead letters for good. Kafka deletes from the beginning of a partition only: those\n"
    "go that are before the first letter that is not older than TIME.\n\n"
    "Flags:\n"
    "  --before TIME        letters that failed before TIME\n"
    "  --all                all letters that are there now\n"
    "  --yes                without a question\n"
    "  --dry-run            say what would be deleted\n" TIME;

static const char check[] =
    "Usage: emailctl check [flags]\n\n"
    "Checks the configuration, Kafka and its topics, Redis and its eviction policy, and the relay\n"
    "up to the login. Sends nothing. One line a check: ✓ right, ! a warning, ✗ wrong; exit code 1\n"
    "where one is wrong.\n\n"
    "Flags:\n"
    "  --json               one JSON object a line\n";

static const char *text_of(enum ctl_command command)
{
    switch (command) {
    case CTL_NONE: break;
    case CTL_PUBLISH: return publish;
    case CTL_DLQ: return dlq;
    case CTL_DLQ_LIST: return dlq_list;
    case CTL_DLQ_SHOW: return dlq_show;
    case CTL_DLQ_REDRIVE: return dlq_redrive;
    case CTL_DLQ_PURGE: return dlq_purge;
    case CTL_CHECK: return check;
    }
    return NULL;
}

void ctl_help(struct buf *out, enum ctl_command command)
{
    const char *text = text_of(command);

    if (!text) {
        config_help(out, CONFIG_CTL, overview);
        return;
    }
    buf_add_str(out, text);
    if (command != CTL_DLQ)
        buf_add_str(out, "\n  --timeout SECONDS    for each answer of a server (default: 10)\n");
    buf_add_str(out,
                "\nFor the flags that every command takes see emailctl --help.\n"
                "Exit codes: 0 done, 1 failed while running, 2 wrong flags or configuration.\n");
}
