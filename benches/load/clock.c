/* The time, and when bytes came: by the kernel's own stamp, so that it does not matter when this program got to read. */

#define _GNU_SOURCE
#include "load.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

static double seconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

double now(void)
{
    return seconds(CLOCK_MONOTONIC);
}

bool stamp_arrivals(int fd)
{
    int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0;
}

/* The kernel stamps with the time of day; only the age of the bytes is taken from it. */
static double stamp(struct msghdr *message)
{
    double age = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part))
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec time;
            memcpy(&time, CMSG_DATA(part), sizeof time);
            age = seconds(CLOCK_REALTIME) - ((double)time.tv_sec + (double)time.tv_nsec / 1e9);
        }
    return now() - (age > 0 ? age : 0);
}

ssize_t receive(int fd, unsigned char *bytes, size_t length, double *arrived)
{
    _Alignas(struct cmsghdr) char control[128];
    struct iovec place = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(fd, &message, 0);
    *arrived = count > 0 ? stamp(&message) : now();
    return count;
}
