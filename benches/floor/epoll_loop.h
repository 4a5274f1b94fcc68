/* The loop that http_floor.c and fastcgi_floor.c share: one process, one thread, level-triggered epoll, three
 * system calls for a request on a kept connection (wait, read, write). What is left out is the application. */

#ifndef EPOLL_LOOP_H
#define EPOLL_LOOP_H

#include <stdbool.h>
#include <stddef.h>

#define INPUT_BYTES 65536
#define OUTPUT_BYTES 65536

struct exchange {
    const unsigned char *input; /* what has come and was not consumed yet */
    size_t input_length;
    unsigned char *output; /* room for the answer */
    size_t output_room;
    size_t output_length; /* set by the answerer */
    bool close;           /* set by the answerer: close once the answer is written */
};

/* Answers the first whole request of the input. Returns how many bytes it took, 0 if it needs more, or -1 if the
 * peer broke the protocol (the connection is closed). */
typedef long (*answerer)(struct exchange *exchange);

/* Listens on 127.0.0.1 at the port that argv[1] names, and answers until a signal ends the process. */
int serve(int argc, char **argv, answerer answer);

#endif
