/* The lightest client that still sees whether it was answered: for servers that answer faster than a generator that
 * parses can ask. A closed loop over kept HTTP connections; the first answer must be a 200 with the expected body, and
 * each later one must be as long as it, with the same body in the same place.
 *
 *     light PORT SECONDS CONNECTIONS PATH BODY
 *
 * Prints one line of JSON. `busy` is its own share of a processor: near 1, the figure is its own, not the server's. */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES = 1024, ANSWER_BYTES = 4096, EVENTS = 256 };

static const char OK[] = "HTTP/1.1 200 ";

struct connection {
    int fd;
    size_t length; /* of the answer, as far as it has come */
    char bytes[ANSWER_BYTES];
};

static char request[REQUEST_BYTES];
static size_t request_length;
static const char *body;
static size_t body_length;
static size_t answer_length, body_at; /* in every answer, once the first has told */

static _Noreturn void fail(const char *why)
{
    fprintf(stderr, "light: %s\n", why);
    exit(1);
}

static double seconds_of(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void ask(struct connection *connection)
{
    connection->length = 0;
    if (send(connection->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length)
        fail("a request could not be sent");
}

/* Whether an answer is complete. */
static bool is_answered(const struct connection *connection)
{
    if (connection->length < answer_length)
        return false;
    if (connection->length > answer_length || memcmp(connection->bytes, OK, sizeof OK - 1) != 0 ||
        memcmp(connection->bytes + body_at, body, body_length) != 0)
        fail("an answer is not like the first");
    return true;
}

static void receive(struct connection *connection)
{
    ssize_t count = recv(connection->fd, connection->bytes + connection->length, ANSWER_BYTES - connection->length, 0);
    if (count <= 0)
        fail("a connection was closed, or an answer is too long");
    connection->length += (size_t)count;
}

/* The first answer ends where nothing more comes: it may be in chunks. */
static void learn(struct connection *connection)
{
    struct pollfd more = {.fd = connection->fd, .events = POLLIN};
    ask(connection);
    for (int patience = 5000; poll(&more, 1, patience) > 0; patience = 200)
        receive(connection);
    const char *found = memmem(connection->bytes, connection->length, body, body_length);
    if (!found)
        fail("the answer lacks the body");
    answer_length = connection->length;
    body_at = (size_t)(found - connection->bytes);
    is_answered(connection);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail(strerror(errno));
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s PORT SECONDS CONNECTIONS PATH BODY\n", argv[0]);
        return 2;
    }
    int port = atoi(argv[1]), count = atoi(argv[3]);
    double seconds = atof(argv[2]);
    body = argv[5];
    body_length = strlen(body);
    request_length = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
                                      argv[4], port);
    struct connection *connections = calloc((size_t)(count > 0 ? count : 1), sizeof *connections);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (count < 1 || body_length == 0 || request_length >= sizeof request || !connections || epoll < 0)
        fail("an argument is out of range");
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &connections[i]};
        connections[i].fd = connect_to(port);
        epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event);
    }
    learn(&connections[0]);
    for (int i = 0; i < count; i++)
        ask(&connections[i]);
    long answered = 0;
    double start = seconds_of(CLOCK_MONOTONIC), used = seconds_of(CLOCK_PROCESS_CPUTIME_ID), now = start;
    while (now - start < seconds) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, 5000);
        if (ready == 0)
            fail("no answer has come for five seconds");
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            receive(connection);
            if (!is_answered(connection))
                continue;
            answered++;
            ask(connection);
        }
        now = seconds_of(CLOCK_MONOTONIC);
    }
    used = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - used;
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"busy\": %.4f}\n", answered, now - start, used / (now - start));
    return 0;
}
