/* HTTP/1.1: GET without a body; answers by Content-Length, chunked, or to the end of the connection. */

#define _GNU_SOURCE
#include "load.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool write_request(struct request *request, const char *path, int port)
{
    int length = snprintf((char *)request->bytes, sizeof request->bytes,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", path, port);
    request->length = (size_t)length;
    return length > 0 && (size_t)length < sizeof request->bytes;
}

/* The value of a field, with its length, or NULL. `head` ends with an empty line. */
static const char *field(const char *head, const char *end, const char *name, size_t *length)
{
    size_t name_length = strlen(name);
    for (const char *line = memmem(head, (size_t)(end - head), "\r\n", 2); line && line + 2 < end;) {
        line += 2;
        const char *next = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!next)
            return NULL;
        if ((size_t)(next - line) > name_length && line[name_length] == ':' &&
            strncasecmp(line, name, name_length) == 0) {
            const char *value = line + name_length + 1;
            while (value < next && (*value == ' ' || *value == '\t'))
                value++;
            *length = (size_t)(next - value);
            return value;
        }
        line = next;
    }
    return NULL;
}

static bool value_is(const char *value, size_t length, const char *expected)
{
    return value && length == strlen(expected) && strncasecmp(value, expected, length) == 0;
}

/* Walks the chunks; with `join`, moves their data together at the start. MORE leaves the bytes alone. */
static enum progress chunks(unsigned char *body, size_t length, bool join, size_t *joined)
{
    size_t at = 0;
    *joined = 0;
    for (;;) {
        unsigned char *end = memmem(body + at, length - at, "\r\n", 2);
        if (!end)
            return MORE;
        if (!isxdigit(body[at]))
            return BROKEN;
        size_t size = strtoul((char *)body + at, NULL, 16);
        at = (size_t)(end + 2 - body);
        if (size > ANSWER_BYTES)
            return BROKEN;
        if (length - at < size + 2)
            return MORE;
        if (size == 0)
            return memcmp(body + at, "\r\n", 2) == 0 ? DONE : BROKEN; /* no server here sends trailers */
        if (join)
            memmove(body + *joined, body + at, size);
        *joined += size;
        at += size + 2;
    }
}

static enum progress parse(unsigned char *bytes, size_t length, bool eof, struct answer *answer)
{
    char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end)
        return eof ? BROKEN : MORE;
    const char *head = (const char *)bytes;
    if (length < 12 || memcmp(head, "HTTP/1.", 7) != 0)
        return BROKEN;
    answer->status = atoi(head + 9);
    answer->body = (unsigned char *)end + 4;
    size_t have = length - (size_t)(answer->body - bytes), size = 0;
    const char *value = field(head, end + 4, "Connection", &size);
    answer->keep = head[7] == '1' ? !value_is(value, size, "close") : value_is(value, size, "keep-alive");
    value = field(head, end + 4, "Transfer-Encoding", &size);
    if (value_is(value, size, "chunked")) {
        unsigned char *body = (unsigned char *)end + 4;
        enum progress progress = chunks(body, have, false, &answer->body_length);
        if (progress == DONE)
            chunks(body, have, true, &answer->body_length);
        return progress == MORE && eof ? BROKEN : progress;
    }
    value = field(head, end + 4, "Content-Length", &size);
    if (value) {
        answer->body_length = strtoul(value, NULL, 10);
        if (have > answer->body_length)
            return BROKEN;
        return have == answer->body_length ? DONE : eof ? BROKEN : MORE;
    }
    answer->keep = false;
    answer->body_length = have;
    return eof ? DONE : MORE;
}

const struct protocol HTTP = {write_request, parse};
