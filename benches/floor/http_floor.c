/* The floor of the HTTP suites: what one epoll loop costs that looks for the end of the request's head and answers
 * a constant. It serves kept connections and pipelined requests without a body, and nothing else. */

#define _GNU_SOURCE
#include "epoll_loop.h"

#include <string.h>

static const char ANSWER[] = "HTTP/1.1 200 OK\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "Content-Length: 21\r\n"
                             "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                             "\r\n"
                             "Hello from forkhorn!\n";

static long answer(struct exchange *exchange)
{
    const unsigned char *end = memmem(exchange->input, exchange->input_length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (exchange->output_room < sizeof ANSWER - 1)
        return -1;
    memcpy(exchange->output, ANSWER, sizeof ANSWER - 1);
    exchange->output_length = sizeof ANSWER - 1;
    return end + 4 - exchange->input;
}

int main(int argc, char **argv)
{
    return serve(argc, argv, answer);
}
