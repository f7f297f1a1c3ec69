/* Faults that no test can cause otherwise: a stepped wall clock, a file system without hard links or
 * locks, a full disk. Preloaded into every process of a run; `shims.py` builds it and writes its
 * environment variables:
 *
 *   SHIM_CLOCK    a file that holds seconds; the wall clock shows that much more than the true one.
 *                 The file is read at each call. Steady clocks are never touched.
 *   SHIM_FAULTS   one fault a line: operations|errno|text in the path|times|markers|while
 *
 * With `times`, a fault strikes so often over all processes: each strike creates `markers.N`. With
 * `while`, it strikes only while that file exists.
 *
 * Wrappers only ask and pass on. What they do themselves goes by `raw`, so that none calls another. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <linux/futex.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define BILLION 1000000000LL
#define LONGEST 4096

enum { LINK = 1, SYMLINK = 2, LOCK = 4, OPEN = 8, CREATE = 16, WRITE = 32, SYNC = 64, RENAME = 128,
       REMOVE = 256, MKDIR = 512, STAT = 1024, READ = 2048, CHANGE = 4096 };

static const struct { const char *name; int bit; } OPERATIONS[] = {
    {"link", LINK}, {"symlink", SYMLINK}, {"lock", LOCK}, {"open", OPEN}, {"create", CREATE},
    {"write", WRITE}, {"sync", SYNC}, {"rename", RENAME}, {"remove", REMOVE}, {"mkdir", MKDIR},
    {"stat", STAT}, {"read", READ}, {"change", CHANGE}};

struct fault {
    int operations, error;
    const char *text, *markers, *while_file;
    int times; /* 0: always */
};

static struct fault faults[32];
static int fault_count, any_operation;
static const char *clock_file;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- reaching libc ------------------------------------------------------------------------- */

typedef long (*syscall_type)(long, ...);
static syscall_type real_syscall;

static long raw(long number, long a, long b, long c, long d) {
    if (!real_syscall) real_syscall = (syscall_type)dlsym(RTLD_NEXT, "syscall");
    return real_syscall(number, a, b, c, d, 0L, 0L);
}

static void *next(const char *name) {
    /* Two versions of this one exist, and dlsym may return the old one. */
    void *found = NULL;
    if (!strncmp(name, "pthread_cond_", 13)) found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

#define REAL(result, name, ...)                                                                    \
    static result (*real)(__VA_ARGS__);                                                            \
    if (!real) real = (result(*)(__VA_ARGS__))next(name)

/* --- the environment ----------------------------------------------------------------------- */

static int operations_named(char *names) {
    int found = 0;
    char *rest = NULL;
    for (char *name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        for (size_t i = 0; i < sizeof OPERATIONS / sizeof *OPERATIONS; i++)
            if (!strcmp(name, OPERATIONS[i].name)) found |= OPERATIONS[i].bit;
    return found;
}

static void read_environment(void) {
    const char *file = getenv("SHIM_CLOCK"), *lines = getenv("SHIM_FAULTS");
    if (file && *file) clock_file = strdup(file);
    if (!lines || !*lines) return;
    char *copy = strdup(lines); /* kept: the faults point into it */
    while (copy && *copy && fault_count < 32) {
        char *line = strsep(&copy, "\n"), *fields[6];
        int count = 0;
        while (count < 6 && line) fields[count++] = strsep(&line, "|");
        if (count < 6) continue;
        struct fault *fault = &faults[fault_count++];
        fault->operations = operations_named(fields[0]);
        fault->error = atoi(fields[1]);
        fault->text = fields[2];
        fault->times = atoi(fields[3]);
        fault->markers = fields[4];
        fault->while_file = fields[5];
        any_operation |= fault->operations;
    }
}

/* --- does a fault strike? ------------------------------------------------------------------ */

static int strike(struct fault *fault) {
    if (!fault->times) return 1;
    char marker[LONGEST];
    for (int i = 0; i < fault->times; i++) {
        snprintf(marker, sizeof marker, "%s.%d", fault->markers, i);
        long fd = raw(SYS_openat, AT_FDCWD, (long)marker, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
                      0666);
        if (fd >= 0) {
            raw(SYS_close, fd, 0, 0, 0);
            return 1;
        }
    }
    return 0;
}

/* An absolute path in `into`; that of an open file where `path` is NULL. */
static void locate(int folder, const char *path, char *into) {
    char link[64];
    into[0] = 0;
    size_t used = 0;
    if (!path || path[0] != '/') {
        if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        long length = raw(SYS_readlinkat, AT_FDCWD, (long)link, (long)into, LONGEST - 2);
        used = length > 0 ? (size_t)length : 0;
        if (path) into[used++] = '/';
        into[used] = 0;
    }
    if (path) {
        strncpy(into + used, path, LONGEST - used - 1);
        into[LONGEST - 1] = 0;
    }
}

/* 0, or the errno that an operation on a path fails with. Leaves errno alone. */
static int fails(int operation, int folder, const char *path) {
    pthread_once(&once, read_environment);
    if (!(any_operation & operation)) return 0;
    int before = errno, error = 0;
    char place[LONGEST];
    int known = 0;
    for (int i = 0; i < fault_count && !error; i++) {
        struct fault *fault = &faults[i];
        if (!(fault->operations & operation)) continue;
        if (*fault->while_file &&
            raw(SYS_faccessat, AT_FDCWD, (long)fault->while_file, F_OK, 0) != 0)
            continue;
        if (!known++) locate(folder, path, place);
        if (strstr(place, fault->text) && strike(fault)) error = fault->error;
    }
    errno = before;
    return error;
}

#define FAIL(value, operation, folder, path)                                                       \
    do {                                                                                           \
        int error_ = fails(operation, folder, path);                                               \
        if (error_) {                                                                              \
            errno = error_;                                                                        \
            return value;                                                                          \
        }                                                                                          \
    } while (0)

/* --- files --------------------------------------------------------------------------------- */

static int opening(int flags) {
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    return OPEN | (writes ? CREATE : READ);
}

#define MODE                                                                                       \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                         \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode = va_arg(arguments, mode_t);                                                          \
        va_end(arguments);                                                                         \
    }

#define WRAP_OPEN(name)                                                                            \
    EXPORT int name(const char *path, int flags, ...) {                                            \
        REAL(int, #name, const char *, int, ...);                                                  \
        MODE FAIL(-1, opening(flags), AT_FDCWD, path);                                             \
        return real(path, flags, mode);                                                            \
    }
#define WRAP_OPENAT(name)                                                                          \
    EXPORT int name(int folder, const char *path, int flags, ...) {                                \
        REAL(int, #name, int, const char *, int, ...);                                             \
        MODE FAIL(-1, opening(flags), folder, path);                                               \
        return real(folder, path, flags, mode);                                                    \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)

/* What compilers make of open() where they check buffers. */
#define WRAP_OPEN_2(name)                                                                          \
    EXPORT int name(const char *path, int flags) {                                                 \
        REAL(int, #name, const char *, int);                                                       \
        FAIL(-1, opening(flags), AT_FDCWD, path);                                                  \
        return real(path, flags);                                                                  \
    }
#define WRAP_OPENAT_2(name)                                                                        \
    EXPORT int name(int folder, const char *path, int flags) {                                     \
        REAL(int, #name, int, const char *, int);                                                  \
        FAIL(-1, opening(flags), folder, path);                                                    \
        return real(folder, path, flags);                                                          \
    }
WRAP_OPEN_2(__open_2)
WRAP_OPEN_2(__open64_2)
WRAP_OPENAT_2(__openat_2)
WRAP_OPENAT_2(__openat64_2)

#define WRAP_FOPEN(name)                                                                           \
    EXPORT FILE *name(const char *path, const char *mode) {                                        \
        REAL(FILE *, #name, const char *, const char *);                                           \
        FAIL(NULL, OPEN | (strpbrk(mode, "wa+") ? CREATE : READ), AT_FDCWD, path);                 \
        return real(path, mode);                                                                   \
    }
WRAP_FOPEN(fopen)
WRAP_FOPEN(fopen64)

/* One wrapper each: result, name, (parameters), (arguments), operation, folder or file, path. */
#define WRAP(result, name, parameters, arguments, operation, folder, path)                         \
    EXPORT result name parameters {                                                                \
        static result(*real) parameters;                                                           \
        if (!real) real = (result(*) parameters)next(#name);                                       \
        FAIL(-1, operation, folder, path);                                                         \
        return real arguments;                                                                     \
    }

WRAP(int, creat, (const char *p, mode_t m), (p, m), OPEN | CREATE, AT_FDCWD, p)
WRAP(int, creat64, (const char *p, mode_t m), (p, m), OPEN | CREATE, AT_FDCWD, p)

WRAP(ssize_t, read, (int f, void *b, size_t n), (f, b, n), READ, f, NULL)
WRAP(ssize_t, pread, (int f, void *b, size_t n, off_t o), (f, b, n, o), READ, f, NULL)
WRAP(ssize_t, pread64, (int f, void *b, size_t n, off64_t o), (f, b, n, o), READ, f, NULL)
WRAP(ssize_t, readv, (int f, const struct iovec *v, int n), (f, v, n), READ, f, NULL)

WRAP(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), WRITE, f, NULL)
WRAP(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), WRITE, f, NULL)
WRAP(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), WRITE, f, NULL)
WRAP(ssize_t, writev, (int f, const struct iovec *v, int n), (f, v, n), WRITE, f, NULL)
WRAP(ssize_t, pwritev, (int f, const struct iovec *v, int n, off_t o), (f, v, n, o), WRITE, f, NULL)
WRAP(ssize_t, pwritev64, (int f, const struct iovec *v, int n, off64_t o), (f, v, n, o), WRITE, f,
     NULL)
WRAP(ssize_t, sendfile, (int t, int f, off_t *o, size_t n), (t, f, o, n), WRITE, t, NULL)
WRAP(ssize_t, sendfile64, (int t, int f, off64_t *o, size_t n), (t, f, o, n), WRITE, t, NULL)
WRAP(ssize_t, copy_file_range, (int f, off64_t *a, int t, off64_t *b, size_t n, unsigned g),
     (f, a, t, b, n, g), WRITE, t, NULL)
WRAP(int, fallocate, (int f, int m, off_t o, off_t n), (f, m, o, n), WRITE, f, NULL)
WRAP(int, fallocate64, (int f, int m, off64_t o, off64_t n), (f, m, o, n), WRITE, f, NULL)

/* This one returns its error and leaves errno. */
#define WRAP_ALLOCATE(name, type)                                                                  \
    EXPORT int name(int file, type offset, type length) {                                          \
        REAL(int, #name, int, type, type);                                                         \
        int error = fails(WRITE, file, NULL);                                                      \
        return error ? error : real(file, offset, length);                                         \
    }
WRAP_ALLOCATE(posix_fallocate, off_t)
WRAP_ALLOCATE(posix_fallocate64, off64_t)

WRAP(int, fsync, (int f), (f), SYNC, f, NULL)
WRAP(int, fdatasync, (int f), (f), SYNC, f, NULL)

WRAP(int, link, (const char *a, const char *b), (a, b), LINK, AT_FDCWD, b)
WRAP(int, linkat, (int d, const char *a, int e, const char *b, int g), (d, a, e, b, g), LINK, e, b)
WRAP(int, symlink, (const char *a, const char *b), (a, b), SYMLINK, AT_FDCWD, b)
WRAP(int, symlinkat, (const char *a, int e, const char *b), (a, e, b), SYMLINK, e, b)

WRAP(int, rename, (const char *a, const char *b), (a, b), RENAME, AT_FDCWD, b)
WRAP(int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), RENAME, e, b)
WRAP(int, renameat2, (int d, const char *a, int e, const char *b, unsigned g), (d, a, e, b, g),
     RENAME, e, b)
WRAP(int, unlink, (const char *p), (p), REMOVE, AT_FDCWD, p)
WRAP(int, unlinkat, (int d, const char *p, int g), (d, p, g), REMOVE, d, p)
WRAP(int, rmdir, (const char *p), (p), REMOVE, AT_FDCWD, p)
WRAP(int, mkdir, (const char *p, mode_t m), (p, m), MKDIR, AT_FDCWD, p)
WRAP(int, mkdirat, (int d, const char *p, mode_t m), (d, p, m), MKDIR, d, p)

WRAP(int, truncate, (const char *p, off_t n), (p, n), CHANGE, AT_FDCWD, p)
WRAP(int, truncate64, (const char *p, off64_t n), (p, n), CHANGE, AT_FDCWD, p)
WRAP(int, chmod, (const char *p, mode_t m), (p, m), CHANGE, AT_FDCWD, p)
WRAP(int, fchmodat, (int d, const char *p, mode_t m, int g), (d, p, m, g), CHANGE, d, p)
WRAP(int, utimensat, (int d, const char *p, const struct timespec t[2], int g), (d, p, t, g),
     CHANGE, d, p)
WRAP(int, futimens, (int f, const struct timespec t[2]), (f, t), CHANGE, f, NULL)

WRAP(int, stat, (const char *p, struct stat *s), (p, s), STAT, AT_FDCWD, p)
WRAP(int, stat64, (const char *p, struct stat64 *s), (p, s), STAT, AT_FDCWD, p)
WRAP(int, lstat, (const char *p, struct stat *s), (p, s), STAT, AT_FDCWD, p)
WRAP(int, lstat64, (const char *p, struct stat64 *s), (p, s), STAT, AT_FDCWD, p)
WRAP(int, fstatat, (int d, const char *p, struct stat *s, int g), (d, p, s, g), STAT, d, p)
WRAP(int, fstatat64, (int d, const char *p, struct stat64 *s, int g), (d, p, s, g), STAT, d, p)
/* Programs built for older libcs call these. */
WRAP(int, __xstat, (int v, const char *p, struct stat *s), (v, p, s), STAT, AT_FDCWD, p)
WRAP(int, __xstat64, (int v, const char *p, struct stat64 *s), (v, p, s), STAT, AT_FDCWD, p)
WRAP(int, __lxstat, (int v, const char *p, struct stat *s), (v, p, s), STAT, AT_FDCWD, p)
WRAP(int, __lxstat64, (int v, const char *p, struct stat64 *s), (v, p, s), STAT, AT_FDCWD, p)
WRAP(int, __fxstatat, (int v, int d, const char *p, struct stat *s, int g), (v, d, p, s, g), STAT,
     d, p)
WRAP(int, __fxstatat64, (int v, int d, const char *p, struct stat64 *s, int g), (v, d, p, s, g),
     STAT, d, p)
WRAP(int, statx, (int d, const char *restrict p, int g, unsigned m, struct statx *restrict s),
     (d, p, g, m, s), STAT, d, p)

/* --- locks --------------------------------------------------------------------------------- */

WRAP(int, flock, (int f, int operation), (f, operation), LOCK, f, NULL)
WRAP(int, lockf, (int f, int c, off_t n), (f, c, n), LOCK, f, NULL)
WRAP(int, lockf64, (int f, int c, off64_t n), (f, c, n), LOCK, f, NULL)

#define WRAP_FCNTL(name)                                                                           \
    EXPORT int name(int file, int command, ...) {                                                  \
        REAL(int, #name, int, int, ...);                                                           \
        va_list arguments;                                                                         \
        va_start(arguments, command);                                                              \
        void *argument = va_arg(arguments, void *);                                                \
        va_end(arguments);                                                                         \
        if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK ||                 \
            command == F_OFD_SETLKW)                                                               \
            FAIL(-1, LOCK, file, NULL);                                                            \
        return real(file, command, argument);                                                      \
    }
WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)

/* --- the wall clock ------------------------------------------------------------------------ */

/* Nanoseconds that the wall clock is ahead. */
static long long ahead(void) {
    pthread_once(&once, read_environment);
    if (!clock_file) return 0;
    int before = errno;
    long long sum = 0;
    long fd = raw(SYS_openat, AT_FDCWD, (long)clock_file, O_RDONLY | O_CLOEXEC, 0);
    if (fd >= 0) {
        char text[64];
        long length = raw(SYS_read, fd, (long)text, sizeof text - 1, 0);
        raw(SYS_close, fd, 0, 0, 0);
        if (length > 0) {
            text[length] = 0;
            sum = (long long)(atof(text) * 1e6) * 1000;
        }
    }
    errno = before;
    return sum;
}

static void move(struct timespec *time, long long by) {
    long long nanoseconds = time->tv_nsec + by % BILLION;
    time->tv_sec += by / BILLION + (nanoseconds >= BILLION) - (nanoseconds < 0);
    time->tv_nsec = (nanoseconds + BILLION) % BILLION;
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *into) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, into);
    if (result == 0 && is_wall(clock)) move(into, ahead());
    return result;
}

EXPORT int gettimeofday(struct timeval *restrict into, void *restrict zone) {
    REAL(int, "gettimeofday", struct timeval *restrict, void *restrict);
    int result = real(into, zone);
    if (result == 0) {
        struct timespec time = {into->tv_sec, into->tv_usec * 1000};
        move(&time, ahead());
        into->tv_sec = time.tv_sec;
        into->tv_usec = time.tv_nsec / 1000;
    }
    return result;
}

EXPORT time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

EXPORT int timespec_get(struct timespec *into, int base) {
    REAL(int, "timespec_get", struct timespec *, int);
    int result = real(into, base);
    if (result == TIME_UTC) move(into, ahead());
    return result;
}

/* A wait until a moment of the moved clock: the kernel counts by the true one, and would wait as much
 * longer as the clock was moved. Moments of steady clocks are small numbers. */
static const struct timespec *true_moment(const struct timespec *moment, struct timespec *into) {
    if (!moment || moment->tv_sec < BILLION) return moment;
    long long by = ahead();
    if (!by) return moment;
    *into = *moment;
    move(into, -by);
    if (into->tv_sec < 0) into->tv_sec = into->tv_nsec = 0;
    return into;
}

#define WRAP_WAIT(name, parameters, arguments)                                                     \
    EXPORT int name parameters {                                                                   \
        static int(*real) parameters;                                                              \
        if (!real) real = (int(*) parameters)next(#name);                                          \
        struct timespec moved;                                                                     \
        t = true_moment(t, &moved);                                                                \
        return real arguments;                                                                     \
    }
typedef const struct timespec *moment;
WRAP_WAIT(pthread_cond_timedwait,
          (pthread_cond_t *restrict c, pthread_mutex_t *restrict m, const struct timespec *restrict t),
          (c, m, t))
WRAP_WAIT(pthread_cond_clockwait,
          (pthread_cond_t *restrict c, pthread_mutex_t *restrict m, clockid_t k,
           const struct timespec *restrict t), (c, m, k, t))
WRAP_WAIT(pthread_mutex_timedlock,
          (pthread_mutex_t *restrict m, const struct timespec *restrict t), (m, t))
WRAP_WAIT(pthread_rwlock_timedrdlock,
          (pthread_rwlock_t *restrict l, const struct timespec *restrict t), (l, t))
WRAP_WAIT(pthread_rwlock_timedwrlock,
          (pthread_rwlock_t *restrict l, const struct timespec *restrict t), (l, t))
WRAP_WAIT(sem_timedwait, (sem_t *restrict s, const struct timespec *restrict t), (s, t))
WRAP_WAIT(sem_clockwait, (sem_t *restrict s, clockid_t k, const struct timespec *restrict t),
          (s, k, t))

EXPORT int clock_nanosleep(clockid_t clock, int flags, moment t, struct timespec *left) {
    REAL(int, "clock_nanosleep", clockid_t, int, moment, struct timespec *);
    struct timespec moved;
    return real(clock, flags, (flags & TIMER_ABSTIME) ? true_moment(t, &moved) : t, left);
}

EXPORT int timerfd_settime(int file, int flags, const struct itimerspec *new, struct itimerspec *old) {
    REAL(int, "timerfd_settime", int, int, const struct itimerspec *, struct itimerspec *);
    struct itimerspec moved = *new;
    if (flags & TFD_TIMER_ABSTIME) moved.it_value = *true_moment(&new->it_value, &moved.it_value);
    return real(file, flags, &moved, old);
}

/* abseil waits, and older C++ libraries read the clock, past libc. */
EXPORT long syscall(long number, ...) {
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (!real_syscall) real_syscall = (syscall_type)dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_clock_gettime) return clock_gettime((clockid_t)a[0], (struct timespec *)a[1]);
    struct timespec moved;
    if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME))
        a[3] = (long)true_moment((moment)a[3], &moved);
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
