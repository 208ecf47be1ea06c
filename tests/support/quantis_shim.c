/*
 * A Quantis card for one process: preloaded, it answers the card's ioctls on the file $QUANTIS_SHIM_PATH from the state file
 * $QUANTIS_SHIM_STATE, and lets reads of it behave as the kernel driver's do. Everything else passes through.
 *
 * The state file is one line of seven numbers: driver version in tenths, board version, mask of modules, their status, PCI bus and device
 * (-1: the driver does not know this question), errno of every ioctl (0: none), errno of every read (0: none).
 *
 * The file is a terminal's end, for that is a character device anybody can make; so isatty() is told otherwise, and epoll, which the
 * driver does not support, is refused. The driver's read ignores O_NONBLOCK and fills the whole request, at most 128 KiB; it is EIO when
 * the card gives nothing for a while. With a module's status bit clear it fails too, as on the card.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_MAX (32 * 4096)
#define GIVE_UP_MS 2000

struct state {
    unsigned int driver, board, mask, status;
    long pci;
    int ioctl_errno, read_errno;
};

static int is_card(int fd)
{
    const char *path = getenv("QUANTIS_SHIM_PATH");
    char link[64], name[PATH_MAX];
    ssize_t size;
    int saved = errno;

    if (!path)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, name, sizeof name - 1);
    errno = saved;
    if (size < 0)
        return 0;
    name[size] = 0;
    return strcmp(name, path) == 0;
}

static struct state card_state(void)
{
    struct state now;
    FILE *file = fopen(getenv("QUANTIS_SHIM_STATE"), "r");

    if (!file || fscanf(file, "%u %u %u %u %ld %d %d", &now.driver, &now.board, &now.mask, &now.status, &now.pci, &now.ioctl_errno,
                        &now.read_errno) != 7)
        abort();
    fclose(file);
    return now;
}

static int failed(int number)
{
    errno = number;
    return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int, unsigned long, ...);
    struct state now;
    unsigned int *word;
    va_list rest;

    va_start(rest, request);
    word = va_arg(rest, void *);
    va_end(rest);
    if (!next)
        next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    if (_IOC_TYPE(request) != 'q' || !is_card(fd))
        return next(fd, request, word);
    now = card_state();
    if (now.ioctl_errno)
        return failed(now.ioctl_errno);
    if (request == _IOR('q', 0, unsigned int))
        *word = now.driver;
    else if (request == _IOR('q', 1, unsigned int))
        *word = 1;
    else if (request == _IOR('q', 2, unsigned int))
        *word = now.mask;
    else if (request == _IOR('q', 3, unsigned int))
        *word = now.board;
    else if (request == _IOR('q', 8, unsigned int))
        *word = now.status;
    else if (request == _IOR('q', 9, unsigned int) && now.pci >= 0)
        *word = (unsigned int)now.pci;
    else
        return failed(ENOTTY);
    return 0;
}

static ssize_t card_read(int fd, char *to, size_t size)
{
    static ssize_t (*next)(int, void *, size_t);
    struct state now = card_state();
    size_t done = 0;

    if (!next)
        next = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (now.read_errno)
        return failed(now.read_errno);
    if (!now.mask || (now.mask & ~now.status))
        return failed(EIO);
    if (size > READ_MAX)
        size = READ_MAX;
    while (done < size) {
        struct pollfd wait = {fd, POLLIN, 0};
        ssize_t got;

        if (poll(&wait, 1, GIVE_UP_MS) <= 0)
            return failed(EIO);
        got = next(fd, to + done, size - done);
        if (got <= 0)
            return got;
        done += got;
    }
    return done;
}

ssize_t read(int fd, void *to, size_t size)
{
    static ssize_t (*next)(int, void *, size_t);

    if (!next)
        next = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return is_card(fd) ? card_read(fd, to, size) : next(fd, to, size);
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    static ssize_t (*next)(int, const struct iovec *, int);

    if (!next)
        next = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "readv");
    return is_card(fd) && count > 0 ? card_read(fd, parts[0].iov_base, parts[0].iov_len) : next(fd, parts, count);
}

int isatty(int fd)
{
    static int (*next)(int);

    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "isatty");
    return is_card(fd) ? (errno = ENOTTY, 0) : next(fd);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    static int (*next)(int, int, int, struct epoll_event *);

    if (!next)
        next = (int (*)(int, int, int, struct epoll_event *))dlsym(RTLD_NEXT, "epoll_ctl");
    return operation == EPOLL_CTL_ADD && is_card(fd) ? failed(EPERM) : next(epoll, operation, fd, event);
}
