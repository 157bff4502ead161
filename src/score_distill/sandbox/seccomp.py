"""The system calls a session may make: a short allow-list, and a few kinds that the daemon grants one by one.

Compiled by libseccomp (through pyseccomp) in the daemon, put on by the zygote. What is not named fails with EPERM, so
honest code sees a ``PermissionError``; a call through a foreign entry point (32-bit, x32) ends the process. A filter
does not see memory, so paths are Landlock's to judge. Two filters, because a descriptor to grant by must be sent to the
daemon between them: the stricter answer of the two counts.
"""

import os
import signal
import tempfile

import pyseccomp
from pyseccomp import ALLOW, EQ, ERRNO, KILL_PROCESS, MASKED_EQ, NOTIFY, Arg

from score_distill.sandbox.session import APART

CLONE_PARENT = 0x8000
FORK_FLAGS = CLONE_PARENT | signal.SIGCHLD
THREAD_FLAGS = 0x3D0F00  # as the C library starts a thread: it shares all, and no namespace is new
WRITING = (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)
SETTING = ("chmod", "fchmod", "fchmodat", "utimensat")
CHANGING = ("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", *SETTING)

_EPERM, _ENOSYS, _ENOTSUP = 1, 38, 95
_NONE = ("listxattr", "llistxattr", "flistxattr", "getxattr", "lgetxattr", "fgetxattr")  # as where files have none
_PR_SET_PDEATHSIG = 1
_MAP_KIND, _MAP_PRIVATE = 0x0F, 0x02
_WRITE_AND_EXECUTE = 0x02 | 0x04
_FCNTL = (0, 1, 2, 3, 1030)  # duplicate, read and set close-on-exec, read flags
_IOCTL = (0x5401, 0x5450, 0x5451)  # is it a terminal, set close-on-exec
_CLOCKS = ("clock_gettime", "clock_getres", "clock_nanosleep")
_OWN_CLOCKS = ((0xFFFFFFF0, 0), (0xFFFFFFF8, 0xFFFFFFF8))  # mask and value: fixed ones, and those of process 0, oneself
_FUTEX_PRIVATE = 128  # without it, sessions could wait for each other at a file that both read

_ALLOWED = """
    read readv pread64 write writev pwrite64 lseek close close_range dup dup2 dup3 recvmsg poll ppoll select pselect6
    fstat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir getdents64
    openat ftruncate fsync fdatasync umask
    brk munmap mremap madvise rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
    setitimer getitimer alarm pause nanosleep gettimeofday time
    getpid getppid gettid getuid geteuid getgid getegid getpgrp getrusage times uname sysinfo getrandom
    sched_yield exit exit_group
"""


def allow_list() -> bytes:
    """The filter of what a session may call at all."""
    rules = pyseccomp.SyscallFilter(ERRNO(_EPERM))
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, KILL_PROCESS)
    for name in (*_ALLOWED.split(), *CHANGING):
        rules.add_rule(ALLOW, name)
    for command in _FCNTL:
        rules.add_rule(ALLOW, "fcntl", Arg(1, EQ, command))
    for name in _CLOCKS:  # the number of a clock may name any process
        for mask, value in _OWN_CLOCKS:
            rules.add_rule(ALLOW, name, Arg(0, MASKED_EQ, mask, value))
    for command in _IOCTL:
        rules.add_rule(ALLOW, "ioctl", Arg(1, EQ, command))
    rules.add_rule(ALLOW, "futex", Arg(1, MASKED_EQ, _FUTEX_PRIVATE, _FUTEX_PRIVATE))
    for flags in (FORK_FLAGS, THREAD_FLAGS):
        rules.add_rule(ALLOW, "clone", Arg(0, EQ, flags))
    rules.add_rule(ALLOW, "prctl", Arg(0, EQ, _PR_SET_PDEATHSIG), Arg(1, EQ, signal.SIGKILL))
    rules.add_rule(ALLOW, "landlock_restrict_self", Arg(0, EQ, APART), Arg(1, EQ, 0))
    rules.add_rule(ALLOW, "prlimit64", Arg(0, EQ, 0), Arg(2, EQ, 0))
    rules.add_rule(ALLOW, "sched_getaffinity", Arg(0, EQ, 0))
    for protection in (0x02, 0x04, 0x00):
        harmless = Arg(2, MASKED_EQ, _WRITE_AND_EXECUTE, protection)
        rules.add_rule(ALLOW, "mprotect", harmless)
        rules.add_rule(ALLOW, "mmap", harmless, Arg(3, MASKED_EQ, _MAP_KIND, _MAP_PRIVATE))
    rules.add_rule(ERRNO(_ENOSYS), "clone3")
    for name in _NONE:
        rules.add_rule(ERRNO(_ENOTSUP), name)
    return _compiled(rules)


def ask_list() -> bytes:
    """The filter of what waits for the daemon's word: a fork, a thread, a child's first word, and changes to files."""
    rules = pyseccomp.SyscallFilter(ALLOW)
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, KILL_PROCESS)
    for flags in (FORK_FLAGS, THREAD_FLAGS):
        rules.add_rule(NOTIFY, "clone", Arg(0, EQ, flags))
    rules.add_rule(NOTIFY, "prctl", Arg(0, EQ, _PR_SET_PDEATHSIG))
    for flag in WRITING:
        rules.add_rule(NOTIFY, "openat", Arg(2, MASKED_EQ, flag, flag))
    for name in CHANGING:
        rules.add_rule(NOTIFY, name)
    return _compiled(rules)


def names(numbers_of: tuple[str, ...]) -> dict[int, str]:
    """The system calls of this machine by their number; those it does not have are left out."""
    arch = pyseccomp.system_arch()
    numbers = {pyseccomp.resolve_syscall(arch, name): name for name in numbers_of}
    return {number: name for number, name in numbers.items() if number >= 0}


def _compiled(rules: pyseccomp.SyscallFilter) -> bytes:
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
