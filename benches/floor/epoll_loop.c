/* See epoll_loop.h. The floor takes short cuts that a server must not take: an answer that doesn't fit into the
 * socket's buffer closes the connection, and there are no deadlines. */

#define _GNU_SOURCE
#include "epoll_loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int fd;
    size_t length;
    unsigned char input[INPUT_BYTES];
};

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 2048) < 0) {
        perror("cannot listen");
        exit(1);
    }
    return fd;
}

static void accept_all(int epoll, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *connection = malloc(sizeof *connection);
        if (!connection) {
            close(fd);
            return;
        }
        connection->fd = fd;
        connection->length = 0;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Returns false when the connection is to be closed. */
static bool answer_all(struct connection *connection, answerer answer)
{
    static unsigned char output[OUTPUT_BYTES];
    size_t consumed = 0, length = 0;
    bool last = false;
    while (!last && consumed < connection->length) {
        struct exchange exchange = {.input = connection->input + consumed,
                                    .input_length = connection->length - consumed,
                                    .output = output + length,
                                    .output_room = sizeof output - length};
        long took = answer(&exchange);
        if (took < 0)
            return false;
        if (took == 0)
            break;
        consumed += (size_t)took;
        length += exchange.output_length;
        last = exchange.close;
    }
    if (length > 0 && write(connection->fd, output, length) != (ssize_t)length)
        return false;
    connection->length -= consumed;
    if (connection->length > 0)
        memmove(connection->input, connection->input + consumed, connection->length);
    return !last && connection->length < sizeof connection->input;
}

static void on_readable(struct connection *connection, answerer answer)
{
    ssize_t count =
        read(connection->fd, connection->input + connection->length, sizeof connection->input - connection->length);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count > 0) {
        connection->length += (size_t)count;
        if (answer_all(connection, answer))
            return;
    }
    close(connection->fd);
    free(connection);
}

int serve(int argc, char **argv, answerer answer)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    int listener = listen_on(atoi(argv[1]));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                on_readable(events[i].data.ptr, answer);
            else
                accept_all(epoll, listener);
        }
    }
}
