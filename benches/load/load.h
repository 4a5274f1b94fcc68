/* The load generator: `load --help` says what it does; the shared types of its files.
 *
 *   main.c     options, report
 *   loop.c     connections, schedule, latencies
 *   clock.c    the time, and when bytes came
 *   http.c     HTTP/1.1 requests and answers
 *   fastcgi.c  FastCGI requests and answers, as a web server sends and reads them
 */

#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

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
    FILE *moments; /* gets a line for each answer, or NULL */
};

struct latencies {
    double *seconds;
    size_t count;
};

struct outcome {
    long requests, errors, reconnects, retries, unfinished;
    double seconds;
    struct latencies instant, slow;
    struct latencies late; /* by how much this program sent after a request was due, though a connection was idle */
};

double now(void);

/* Has the kernel note when bytes come to this socket: for `receive`. */
bool stamp_arrivals(int fd);

/* As recv(2); `arrived` says when the last of the bytes came, by the clock of `now`. */
ssize_t receive(int fd, unsigned char *bytes, size_t length, double *arrived);

/* Runs the plan. Returns false, with a line on stderr, if not even the connections could be made. */
bool run(const struct plan *plan, struct outcome *outcome);

#endif
