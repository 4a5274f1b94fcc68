/* The floor of the CGI suite: one script after the other by posix_spawn, its output read to the end, then waited for.
 * No web, no other script at the same time. Prints one line of JSON:
 *
 *     spawn_floor SECONDS EXPECTED_BYTES SCRIPT
 *
 * An answer that hasn't EXPECTED_BYTES bytes, or a script that fails, ends the run with status 1. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* What a CGI server passes, so that exec and the start of the script have as much to copy. */
static char *ENVIRONMENT[] = {"GATEWAY_INTERFACE=CGI/1.1",
                              "SERVER_PROTOCOL=HTTP/1.1",
                              "SERVER_SOFTWARE=floor",
                              "SERVER_NAME=127.0.0.1",
                              "SERVER_PORT=80",
                              "REQUEST_METHOD=GET",
                              "REQUEST_URI=/cgi-bin/script",
                              "SCRIPT_NAME=/cgi-bin/script",
                              "QUERY_STRING=",
                              "REMOTE_ADDR=127.0.0.1",
                              "REMOTE_PORT=50000",
                              "HTTP_HOST=127.0.0.1",
                              "PATH=/usr/local/bin:/usr/bin:/bin",
                              NULL};

static size_t run(const char *script)
{
    int output[2];
    if (pipe2(output, O_CLOEXEC) < 0)
        fail("pipe2");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output[1], 1);
    pid_t pid;
    char *arguments[] = {(char *)script, NULL};
    int error = posix_spawn(&pid, script, &actions, NULL, arguments, ENVIRONMENT);
    posix_spawn_file_actions_destroy(&actions);
    close(output[1]);
    if (error) {
        fprintf(stderr, "%s: %s\n", script, strerror(error));
        exit(1);
    }
    char buffer[65536];
    size_t bytes = 0;
    for (ssize_t count; (count = read(output[0], buffer, sizeof buffer)) > 0;)
        bytes += (size_t)count;
    close(output[0]);
    int status;
    if (waitpid(pid, &status, 0) < 0)
        fail("waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "%s: wait status %d\n", script, status);
        exit(1);
    }
    return bytes;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s SECONDS EXPECTED_BYTES SCRIPT\n", argv[0]);
        return 2;
    }
    double seconds = atof(argv[1]);
    size_t expected = (size_t)atol(argv[2]);
    double start = now();
    long runs = 0;
    while (now() - start < seconds) {
        size_t bytes = run(argv[3]);
        if (bytes != expected) {
            fprintf(stderr, "%s wrote %zu bytes, not %zu\n", argv[3], bytes, expected);
            return 1;
        }
        runs++;
    }
    printf("{\"requests\": %ld, \"seconds\": %.6f}\n", runs, now() - start);
    return 0;
}
