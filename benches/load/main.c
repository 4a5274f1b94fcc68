/* Options and report of the load generator. */

#define _GNU_SOURCE
#include "load.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "load --port PORT --requests N [options]             closed loop: each connection asks again once it is answered\n"
    "load --port PORT --rate R --seconds S [options]     open loop: requests come at their time, answered or not\n"
    "\n"
    "  --protocol http|fastcgi   [http]      --connections N   kept connections, all made before the start [64]\n"
    "  --path PATH               [/]         --body TEXT       what each answer has to hold; else it is an error\n"
    "  --slow-every N  --slow-path PATH      every Nth request goes there, and is counted apart\n"
    "  --burst N                             open loop: N requests at the same moment, at the same mean rate [1]\n"
    "  --moments FILE            a line for each answer: when it was sent and answered (CLOCK_MONOTONIC), the latency in\n"
    "                            microseconds, and whether it was a slow one\n"
    "\n"
    "Latencies of the open loop count from the moment at which a request was due, whenever it could be sent: a request\n"
    "that finds every connection busy waits, and its wait counts. Only what the generator itself was late is not the\n"
    "server's: it is left out, and reported as `late`. Latencies end when the kernel has put the answer to the socket.\n"
    "Each request goes to an idle connection chosen by chance (the same chance in each run). Prints one line of JSON.\n";

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void print_latencies(const char *name, struct latencies *latencies)
{
    static const struct {
        const char *name;
        double share;
    } shares[] = {{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"max_us", 1}};
    printf(", \"%s\": {\"count\": %zu", name, latencies->count);
    qsort(latencies->seconds, latencies->count, sizeof(double), by_value);
    for (size_t i = 0; latencies->count > 0 && i < sizeof shares / sizeof *shares; i++) {
        size_t at = (size_t)(shares[i].share * (double)latencies->count);
        at = at >= latencies->count ? latencies->count - 1 : at;
        printf(", \"%s\": %.1f", shares[i].name, latencies->seconds[at] * 1e6);
    }
    printf("}");
}

static void usage(const char *problem)
{
    fprintf(stderr, "load: %s; see load --help\n", problem);
    exit(2);
}

static double number(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || value < 0)
        usage("a number is wrong");
    return value;
}

static void read_options(int argc, char **argv, struct plan *plan)
{
    static const struct option options[] = {
        {"protocol", 1, 0, 'P'}, {"port", 1, 0, 'p'},       {"connections", 1, 0, 'c'}, {"requests", 1, 0, 'n'},
        {"rate", 1, 0, 'r'},     {"seconds", 1, 0, 's'},    {"burst", 1, 0, 'b'},       {"slow-every", 1, 0, 'e'},
        {"path", 1, 0, 'u'},     {"slow-path", 1, 0, 'w'},  {"body", 1, 0, 'x'},        {"help", 0, 0, 'h'},
        {"moments", 1, 0, 'm'},  {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'P':
            if (strcmp(optarg, "fastcgi") != 0 && strcmp(optarg, "http") != 0)
                usage("the protocol is http or fastcgi");
            plan->protocol = strcmp(optarg, "fastcgi") == 0 ? &FASTCGI : &HTTP;
            break;
        case 'p': plan->port = (int)number(optarg); break;
        case 'c': plan->connections = (int)number(optarg); break;
        case 'n': plan->requests = (long)number(optarg); break;
        case 'r': plan->rate = number(optarg); break;
        case 's': plan->seconds = number(optarg); break;
        case 'b': plan->burst = (long)number(optarg); break;
        case 'e': plan->slow_every = (long)number(optarg); break;
        case 'u': plan->path = optarg; break;
        case 'w': plan->slow_path = optarg; break;
        case 'x': plan->body = optarg; break;
        case 'm':
            if (!(plan->moments = fopen(optarg, "w")))
                usage("the file for the moments can't be written");
            break;
        case 'h': fputs(HELP, stdout); exit(0);
        default: exit(2);
        }
    }
    if (plan->port < 1 || plan->port > 65535 || plan->connections < 1 || plan->burst < 1)
        usage("--port, --connections or --burst is missing or out of range");
    if ((plan->requests > 0) == (plan->rate > 0 && plan->seconds > 0))
        usage("either --requests, or --rate and --seconds");
}

int main(int argc, char **argv)
{
    struct plan plan = {.protocol = &HTTP, .connections = 64, .burst = 1, .path = "/", .slow_path = "/slow"};
    struct outcome outcome = {0};
    read_options(argc, argv, &plan);
    if (!run(&plan, &outcome))
        return 1;
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"errors\": %ld, \"unfinished\": %ld, \"reconnects\": %ld, "
           "\"retries\": %ld",
           outcome.requests, outcome.seconds, outcome.errors, outcome.unfinished, outcome.reconnects, outcome.retries);
    print_latencies("instant", &outcome.instant);
    print_latencies("slow", &outcome.slow);
    print_latencies("late", &outcome.late);
    printf("}\n");
    return 0;
}
