/* The load generator: `load --help` says what it does; the shared types of its four files.
 *
 *   main.c     options, report
 *   loop.c     connections, schedule, latencies
 *   http.c     HTTP/1.1 requests and answers
 *   fastcgi.c  FastCGI requests and answers, as a web server sends and reads them
 */

#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>

#define ANSWER_BYTES (256 * 1024)
#define REQUEST_BYTES 4096

struct answer {
    int status;
    bool keep; /* the connection serves another request */
    const unsigned char *body;
    size_t body_length;
};

enum progress { MORE, DONE, BROKEN };

struct request {
    size_t length;
    unsigned char bytes[REQUEST_BYTES];
};

/* Both protocols are these two functions. `parse` gets everything that came for this request; it may change the
 * bytes, and is called again with the same start and more bytes only after MORE, which leaves them as they were. */
struct protocol {
    bool (*write_request)(struct request *request, const char *path, int port);
    enum progress (*parse)(unsigned char *bytes, size_t length, bool eof, struct answer *answer);
};

extern const struct protocol HTTP, FASTCGI;

struct plan {
    const struct protocol *protocol;
    int port, connections;
    long requests;  /* closed loop: so many in all; 0 for an open loop */
    double rate;    /* open loop: requests per second */
    double seconds; /* open loop: how long */
    long burst;     /* open loop: arrivals that come at the same moment; 1 is steady */
    long slow_every;
    const char *path, *slow_path, *body;
};

struct latencies {
    double *seconds;
    size_t count;
};

struct outcome {
    long requests, errors, reconnects, retries, unfinished;
    double seconds;
    struct latencies instant, slow;
};

/* Runs the plan. Returns false, with a line on stderr, if not even the connections could be made. */
bool run(const struct plan *plan, struct outcome *outcome);

#endif
