// The library from C++: sends one event to its first argument, and waits for the outcome.
#include <email_producer.h>

#include <atomic>
#include <cstdio>
#include <memory>

struct Destroy {
    void operator()(email_producer *p) const
    {
        email_producer_destroy(p, 5000);
    }
};

int main(int argc, char **argv)
{
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    std::atomic<int> result{-1};
    std::unique_ptr<email_producer, Destroy> producer(
        email_producer_new(nullptr, error, sizeof error));

    if (!producer) {
        std::fprintf(stderr, "%s\n", error);
        return 2;
    }
    email_event event = EMAIL_EVENT_INIT;
    event.to = argc > 1 ? argv[1] : "ada@example.com";
    event.subject = "From C++";
    event.text = "123456";
    const auto on_outcome = [](const email_outcome *outcome, void *context) {
        *static_cast<std::atomic<int> *>(context) = outcome->result;
        std::printf("%s %d %s\n", outcome->message_id, outcome->result, outcome->error);
    };
    if (email_producer_send(producer.get(), &event, on_outcome, &result, error, sizeof error) !=
        EMAIL_QUEUED) {
        std::fprintf(stderr, "%s\n", error);
        return 1;
    }
    email_producer_flush(producer.get(), -1);
    return result == EMAIL_PUBLISHED ? 0 : 1;
}
