/* The floor of the FastCGI suites: one epoll loop that frames the records of a request (BEGIN_REQUEST, PARAMS, STDIN,
 * each stream to its empty record) and answers a constant. It keeps the connection if the web server asks for that
 * (FCGI_KEEP_CONN). Parameters and bodies are skipped, not decoded. */

#include "epoll_loop.h"

#include <string.h>

enum { HEADER_BYTES = 8, VERSION_1 = 1, BEGIN_REQUEST = 1, END_REQUEST = 3, STDIN = 5, STDOUT = 6, KEEP_CONN = 1 };

static const char ANSWER[] = "Status: 200 OK\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "Content-Length: 21\r\n"
                             "\r\n"
                             "Hello from forkhorn!\n";

static unsigned char *record(unsigned char *at, int type, const unsigned char *id, const void *content, size_t length)
{
    unsigned char header[HEADER_BYTES] = {VERSION_1, (unsigned char)type, id[0], id[1],
                                          (unsigned char)(length >> 8), (unsigned char)length, 0, 0};
    memcpy(at, header, sizeof header);
    if (length > 0)
        memcpy(at + sizeof header, content, length);
    return at + sizeof header + length;
}

static long answer(struct exchange *exchange)
{
    static const unsigned char complete[8];
    bool keep = false, ended = false;
    size_t at = 0;
    const unsigned char *id = NULL;
    while (!ended) {
        if (exchange->input_length - at < HEADER_BYTES)
            return 0;
        const unsigned char *header = exchange->input + at;
        size_t length = (size_t)header[4] << 8 | header[5];
        size_t whole = HEADER_BYTES + length + header[6];
        if (header[0] != VERSION_1)
            return -1;
        if (exchange->input_length - at < whole)
            return 0;
        if (header[1] == BEGIN_REQUEST && length >= 3)
            keep = header[HEADER_BYTES + 2] & KEEP_CONN;
        ended = header[1] == STDIN && length == 0;
        id = header + 2;
        at += whole;
    }
    if (exchange->output_room < sizeof ANSWER + 4 * HEADER_BYTES)
        return -1;
    unsigned char *end = record(exchange->output, STDOUT, id, ANSWER, sizeof ANSWER - 1);
    end = record(end, STDOUT, id, NULL, 0);
    end = record(end, END_REQUEST, id, complete, sizeof complete);
    exchange->output_length = (size_t)(end - exchange->output);
    exchange->close = !keep;
    return (long)at;
}

int main(int argc, char **argv)
{
    return serve(argc, argv, answer);
}
