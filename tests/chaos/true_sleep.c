/* libfaketime 0.9.10 turns some of Python's short sleeps into EINVAL: it reckons with a false clock also where the
   caller names the monotonic one, which is not faked here. Loaded before it, this hands them to the kernel as they are. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    int kept = errno;
    int failed = syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
    errno = kept;
    return failed;
}
