/* FastCGI: a GET with the parameters that nginx's stock fastcgi_params send, on a connection that is kept. */

#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEADER_BYTES = 8, BEGIN_REQUEST = 1, END_REQUEST = 3, PARAMS = 4, STDIN = 5, STDOUT = 6 };

static void put_header(struct request *request, int type, size_t length)
{
    unsigned char header[HEADER_BYTES] = {1, (unsigned char)type, 0, 1, (unsigned char)(length >> 8),
                                          (unsigned char)length, 0, 0};
    memcpy(request->bytes + request->length, header, sizeof header);
    request->length += sizeof header;
}

/* Names and values here are shorter than 128 bytes, whose length takes one byte; `write_request` checks the path. */
static void put_pair(struct request *request, const char *name, const char *value)
{
    unsigned char *at = request->bytes + request->length;
    size_t name_length = strlen(name), value_length = strlen(value);
    at[0] = (unsigned char)name_length;
    at[1] = (unsigned char)value_length;
    memcpy(at + 2, name, name_length);
    memcpy(at + 2 + name_length, value, value_length);
    request->length += 2 + name_length + value_length;
}

static bool write_request(struct request *request, const char *path, int port)
{
    char port_text[8], host[32];
    if (strlen(path) > 127)
        return false;
    snprintf(port_text, sizeof port_text, "%d", port);
    snprintf(host, sizeof host, "127.0.0.1:%d", port);
    static const unsigned char begin[8] = {0, 1, 1}; /* responder, keep the connection */
    request->length = 0;
    put_header(request, BEGIN_REQUEST, sizeof begin);
    memcpy(request->bytes + request->length, begin, sizeof begin);
    request->length += sizeof begin;
    size_t header = request->length;
    request->length += HEADER_BYTES;
    const char *pairs[][2] = {
        {"QUERY_STRING", ""},          {"REQUEST_METHOD", "GET"},       {"CONTENT_TYPE", ""},
        {"CONTENT_LENGTH", ""},        {"SCRIPT_NAME", path},           {"REQUEST_URI", path},
        {"DOCUMENT_URI", path},        {"DOCUMENT_ROOT", "/srv/www"},   {"SERVER_PROTOCOL", "HTTP/1.1"},
        {"REQUEST_SCHEME", "http"},    {"GATEWAY_INTERFACE", "CGI/1.1"}, {"SERVER_SOFTWARE", "nginx/1.22.1"},
        {"REMOTE_ADDR", "127.0.0.1"},  {"REMOTE_PORT", "50000"},        {"REMOTE_USER", ""},
        {"SERVER_ADDR", "127.0.0.1"},  {"SERVER_PORT", port_text},      {"SERVER_NAME", "localhost"},
        {"REDIRECT_STATUS", "200"},    {"HTTP_HOST", host},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        put_pair(request, pairs[i][0], pairs[i][1]);
    size_t end = request->length;
    request->length = header;
    put_header(request, PARAMS, end - header - HEADER_BYTES);
    request->length = end;
    put_header(request, PARAMS, 0);
    put_header(request, STDIN, 0);
    return true;
}

/* Splits the CGI answer into its head and body. */
static enum progress parse_head(unsigned char *bytes, size_t length, struct answer *answer)
{
    unsigned char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end)
        return BROKEN;
    answer->status = 200;
    if (length > 8 && strncasecmp((char *)bytes, "Status:", 7) == 0)
        answer->status = atoi((char *)bytes + 7);
    answer->body = end + 4;
    answer->body_length = length - (size_t)(end + 4 - bytes);
    return DONE;
}

static enum progress parse(unsigned char *bytes, size_t length, bool eof, struct answer *answer)
{
    /* First see whether the last record is here: only then are the contents moved together. */
    size_t at = 0;
    for (bool ended = false; !ended;) {
        if (length - at < HEADER_BYTES)
            return eof ? BROKEN : MORE;
        size_t whole = HEADER_BYTES + ((size_t)bytes[at + 4] << 8 | bytes[at + 5]) + bytes[at + 6];
        if (bytes[at] != 1)
            return BROKEN;
        if (length - at < whole)
            return eof ? BROKEN : MORE;
        ended = bytes[at + 1] == END_REQUEST;
        at += whole;
    }
    if (at != length)
        return BROKEN;
    size_t joined = 0;
    for (at = 0; at < length;) {
        size_t content = (size_t)bytes[at + 4] << 8 | bytes[at + 5];
        size_t whole = HEADER_BYTES + content + bytes[at + 6];
        if (bytes[at + 1] == STDOUT) {
            memmove(bytes + joined, bytes + at + HEADER_BYTES, content);
            joined += content;
        }
        at += whole;
    }
    answer->keep = !eof;
    return parse_head(bytes, joined, answer);
}

const struct protocol FASTCGI = {write_request, parse};
