/* The connections, and when which request goes out on which of them. One thread, level-triggered epoll. */

#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* How long the last answers may take after the last request was due. */
static const double PATIENCE = 10;

struct connection {
    int fd; /* -1 once it could not be made again */
    bool busy, retried;
    long index; /* of the request that it is busy with */
    double from; /* the begin of its latency */
    size_t length;
    unsigned char bytes[ANSWER_BYTES];
};

struct loop {
    const struct plan *plan;
    struct outcome *outcome;
    struct request request, slow_request;
    struct connection *connections;
    int *idle, idle_count;
    int epoll, timer;
    long total, started, finished;
    double start;
    double starved_until; /* no connection was idle then for the last time */
    uint64_t chance;
};

static bool is_slow(const struct plan *plan, long index)
{
    return plan->slow_every > 0 && index % plan->slow_every == plan->slow_every - 1;
}

static double due(const struct loop *loop, long index)
{
    const struct plan *plan = loop->plan;
    return loop->start + (double)(index / plan->burst * plan->burst) / plan->rate;
}

static bool connect_again(struct loop *loop, struct connection *connection)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)loop->plan->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    connection->length = 0;
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (connection->fd >= 0 && connect(connection->fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 && stamp_arrivals(connection->fd) &&
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, connection->fd, &event) == 0)
        return true;
    perror("load: cannot connect");
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    return false;
}

static void set_idle(struct loop *loop, struct connection *connection)
{
    connection->busy = false;
    if (loop->idle_count == 0)
        loop->starved_until = now();
    loop->idle[loop->idle_count++] = (int)(connection - loop->connections);
}

/* Takes a connection out of the idle ones: any, by chance, or this one. */
static struct connection *take_idle(struct loop *loop, int at)
{
    struct connection *connection = &loop->connections[loop->idle[at]];
    loop->idle[at] = loop->idle[--loop->idle_count];
    return connection;
}

static int any_idle(struct loop *loop)
{
    loop->chance ^= loop->chance << 13;
    loop->chance ^= loop->chance >> 7;
    loop->chance ^= loop->chance << 17;
    return (int)(loop->chance % (uint64_t)loop->idle_count);
}

static void finish(struct loop *loop, struct connection *connection, bool good, double arrived)
{
    struct outcome *outcome = loop->outcome;
    bool slow = is_slow(loop->plan, connection->index);
    struct latencies *latencies = slow ? &outcome->slow : &outcome->instant;
    loop->finished++;
    if (good)
        latencies->seconds[latencies->count++] = arrived - connection->from;
    else
        outcome->errors++;
    if (loop->plan->moments)
        fprintf(loop->plan->moments, "%.6f %.6f %.1f %s\n", connection->from, arrived,
                (arrived - connection->from) * 1e6, slow ? "slow" : "instant");
}

static void send_request(struct loop *loop, struct connection *connection)
{
    const struct request *request = is_slow(loop->plan, connection->index) ? &loop->slow_request : &loop->request;
    ssize_t count = send(connection->fd, request->bytes, request->length, MSG_NOSIGNAL);
    /* A reset connection shows when it is read; a full socket buffer can't be with one small request in it. */
    if (count >= 0 && (size_t)count != request->length) {
        fprintf(stderr, "load: a request was sent in part\n");
        exit(1);
    }
}

/* A request that had to wait for a connection has waited for the server. That this program came late is its own fault,
 * and does not count as latency. */
static void note_lateness(struct loop *loop, struct connection *connection)
{
    double due_at = due(loop, connection->index);
    struct latencies *late = &loop->outcome->late;
    if (due_at < loop->starved_until)
        connection->from = due_at;
    else
        late->seconds[late->count++] = connection->from - due_at;
}

static void start_requests(struct loop *loop)
{
    bool open = loop->plan->requests == 0;
    double time = open ? now() : 0;
    while (loop->idle_count > 0 && loop->started < loop->total && (!open || due(loop, loop->started) <= time)) {
        struct connection *connection = take_idle(loop, any_idle(loop));
        connection->busy = true;
        connection->retried = false;
        connection->index = loop->started++;
        connection->from = now();
        if (open)
            note_lateness(loop, connection);
        send_request(loop, connection);
    }
    if (!open || loop->started == loop->total || loop->idle_count == 0)
        return;
    double next = due(loop, loop->started);
    time_t whole = (time_t)next;
    struct itimerspec when = {.it_value = {.tv_sec = whole, .tv_nsec = (long)((next - (double)whole) * 1e9)}};
    timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* The server closed a connection. Between requests it may; under an unanswered request on a kept connection, that
 * may be the same decision overtaken by our request, so the request goes out once more. */
static void on_closed(struct loop *loop, struct connection *connection)
{
    bool again = connection->busy && connection->length == 0 && !connection->retried;
    loop->outcome->reconnects++;
    if (!connection->busy)
        for (int i = 0; i < loop->idle_count; i++)
            if (&loop->connections[loop->idle[i]] == connection) {
                take_idle(loop, i);
                break;
            }
    if (connection->busy && !again)
        finish(loop, connection, false, now());
    if (!connect_again(loop, connection)) {
        if (again)
            finish(loop, connection, false, now());
    } else if (again) {
        connection->retried = true;
        loop->outcome->retries++;
        send_request(loop, connection);
    } else {
        set_idle(loop, connection);
    }
}

static void on_readable(struct loop *loop, struct connection *connection)
{
    double arrived;
    ssize_t count = receive(connection->fd, connection->bytes + connection->length,
                            sizeof connection->bytes - connection->length, &arrived);
    if (count < 0 && errno == EINTR)
        return;
    bool eof = count <= 0;
    connection->length += count > 0 ? (size_t)count : 0;
    if (!connection->busy || connection->length == 0) {
        on_closed(loop, connection); /* bytes that nobody asked for end a connection too */
        return;
    }
    struct answer answer;
    enum progress progress = loop->plan->protocol->parse(connection->bytes, connection->length, eof, &answer);
    if (progress == MORE && connection->length < sizeof connection->bytes)
        return;
    const char *body = loop->plan->body;
    bool good = progress == DONE && answer.status == 200 &&
                (!body || (answer.body_length == strlen(body) && memcmp(answer.body, body, answer.body_length) == 0));
    finish(loop, connection, good, arrived);
    connection->length = 0;
    connection->busy = false;
    if (good && answer.keep && !eof) {
        set_idle(loop, connection);
        return;
    }
    loop->outcome->reconnects++;
    if (connect_again(loop, connection))
        set_idle(loop, connection);
}

static bool prepare(struct loop *loop)
{
    const struct plan *plan = loop->plan;
    if (!plan->protocol->write_request(&loop->request, plan->path, plan->port) ||
        !plan->protocol->write_request(&loop->slow_request, plan->slow_path, plan->port)) {
        fprintf(stderr, "load: the path is too long\n");
        return false;
    }
    loop->total = plan->requests > 0 ? plan->requests : (long)(plan->rate * plan->seconds);
    loop->connections = calloc((size_t)plan->connections, sizeof *loop->connections);
    loop->idle = calloc((size_t)plan->connections, sizeof *loop->idle);
    loop->outcome->instant.seconds = calloc((size_t)loop->total + 1, sizeof(double));
    loop->outcome->slow.seconds = calloc((size_t)loop->total + 1, sizeof(double));
    loop->outcome->late.seconds = calloc((size_t)loop->total + 1, sizeof(double));
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (!loop->connections || !loop->idle || !loop->outcome->instant.seconds || !loop->outcome->slow.seconds ||
        !loop->outcome->late.seconds || loop->epoll < 0 || loop->timer < 0 || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->timer, &event) < 0) {
        perror("load");
        return false;
    }
    for (int i = 0; i < plan->connections; i++) {
        loop->connections[i].fd = -1;
        if (!connect_again(loop, &loop->connections[i]))
            return false;
        set_idle(loop, &loop->connections[i]);
    }
    return true;
}

bool run(const struct plan *plan, struct outcome *outcome)
{
    struct loop loop = {.plan = plan, .outcome = outcome, .chance = 88172645463325252u};
    if (!prepare(&loop))
        return false;
    loop.start = now();
    double last = loop.start;
    start_requests(&loop);
    while (loop.finished < loop.total) {
        struct epoll_event events[256];
        int count = epoll_wait(loop.epoll, events, 256, 1000);
        for (int i = 0; i < count; i++) {
            uint64_t expirations;
            if (events[i].data.ptr)
                on_readable(&loop, events[i].data.ptr);
            else if (read(loop.timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
                return false;
        }
        start_requests(&loop);
        double time = now();
        if (count > 0)
            last = time;
        if (time - last > PATIENCE)
            break;
    }
    outcome->seconds = now() - loop.start;
    outcome->requests = loop.finished - outcome->errors;
    outcome->unfinished = loop.total - loop.finished;
    return true;
}
