/* A slow disk for one server, to be preloaded (LD_PRELOAD): each flush, each page of 8 kB that is read and each that is
 * written takes its turn, one after the other, and so many microseconds. The file named by SLOW_DISK holds the three
 * numbers; they are read each time, so that a disk can get faster while the server runs. Flushes do nothing else: how
 * fast the machine's own disk is plays no part.
 *
 *     cc -shared -fPIC -o slow_disk.so slow_disk.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FLUSH, READ, WRITE };

static void turn(int kind, size_t bytes)
{
    const char *path = getenv("SLOW_DISK");
    int file = path ? open(path, O_RDONLY) : -1;
    long wait[3] = {0, 0, 0};
    char text[64];
    ssize_t length;

    if (file < 0)
        return;
    length = read(file, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    if (sscanf(text, "%ld %ld %ld", &wait[FLUSH], &wait[READ], &wait[WRITE]) == 3 && wait[kind] > 0 &&
        flock(file, LOCK_EX) == 0)
        usleep(wait[kind] * ((bytes + 8191) / 8192));
    close(file);
}

static size_t total(const struct iovec *parts, int count)
{
    size_t bytes = 0;

    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

#define INSTEAD(kind, bytes, type, name, parameters, ...)      \
    type name parameters                                       \
    {                                                          \
        type (*real) parameters = dlsym(RTLD_NEXT, #name);     \
        turn(kind, bytes);                                     \
        return real(__VA_ARGS__);                              \
    }

int fsync(int fd)
{
    (void) fd;
    turn(FLUSH, 1);
    return 0;
}

int fdatasync(int fd)
{
    return fsync(fd);
}

INSTEAD(READ, size, ssize_t, pread, (int fd, void *to, size_t size, off_t at), fd, to, size, at)
INSTEAD(READ, size, ssize_t, pread64, (int fd, void *to, size_t size, off64_t at), fd, to, size, at)
INSTEAD(READ, total(to, n), ssize_t, preadv, (int fd, const struct iovec *to, int n, off_t at), fd, to, n, at)
INSTEAD(READ, total(to, n), ssize_t, preadv64, (int fd, const struct iovec *to, int n, off64_t at), fd, to, n, at)
INSTEAD(WRITE, size, ssize_t, pwrite, (int fd, const void *of, size_t size, off_t at), fd, of, size, at)
INSTEAD(WRITE, size, ssize_t, pwrite64, (int fd, const void *of, size_t size, off64_t at), fd, of, size, at)
INSTEAD(WRITE, total(of, n), ssize_t, pwritev, (int fd, const struct iovec *of, int n, off_t at), fd, of, n, at)
INSTEAD(WRITE, total(of, n), ssize_t, pwritev64, (int fd, const struct iovec *of, int n, off64_t at), fd, of, n, at)

/* Only to files, for others write to pipes and terminals; and no zeros, with which pg_receivewal fills each new file. */
ssize_t write(int fd, const void *of, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    const char *bytes = of;
    struct stat about;

    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && size > 0 &&
        (bytes[0] || memcmp(bytes, bytes + 1, size - 1)))
        turn(WRITE, size);
    return real(fd, of, size);
}
