"""Escape attempts, each with what it tried and what it got: nothing, in words the model can read.

A program that gets through prints ESCAPED, or does not get the answer that stands beside it. The table of system calls
goes through a raw ``syscall`` so that no library stands between the program and the kernel.
"""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pyseccomp
import pytest
import pytest_asyncio

from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = Limits(wall_seconds=5, cpu_seconds=1, memory_bytes=64 << 20, output_bytes=50_000, observation_chars=2000)
REFUSED = "PermissionError"
DIED = "ProcessDiedError"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox():
    """With a file that every user of the machine may read and write, so that nothing but the sandbox guards it."""
    with tempfile.TemporaryDirectory(prefix="host-") as folder:
        secret = Path(folder) / "secret"
        secret.write_text("ESCAPED")
        secret.chmod(0o666)
        os.chmod(folder, 0o777)
        async with start(LIMITS, libraries=()) as sandbox:
            sandbox.secret = secret
            yield sandbox


async def attempt(sandbox, code):
    branch = await sandbox.open()
    result = await branch.run(code.replace("SECRET", str(sandbox.secret)).replace("OPEN/", f"{sandbox.secret.parent}/"))
    assert "ESCAPED" not in result.output
    assert [path.name for path in sandbox.secret.parent.iterdir()] == ["secret"]
    assert sandbox.secret.read_text() == "ESCAPED"
    assert (await branch.run("print('alive')")).output == "alive"
    await branch.close()
    return result


FAMILIES = {
    "unix": 1, "inet": 2, "ax25": 3, "ipx": 4, "inet6": 10, "key": 15, "netlink": 16, "packet": 17, "rds": 21,
    "can": 29, "tipc": 30, "bluetooth": 31, "alg": 38, "nfc": 39, "vsock": 40, "kcm": 41, "qipcrtr": 42, "smc": 43,
    "xdp": 44, "mctp": 45,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("kind", [1, 2, 3], ids=["stream", "datagram", "raw"])
async def test_no_socket_of_any_family(sandbox, family, kind):
    code = f"import socket\nsocket.socket({family}, {kind}, 0)\nprint('ESCAPED')"
    assert (await attempt(sandbox, code)).error == REFUSED


RAW = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else 'ESCAPED'
"""

SYSTEM_CALLS = """
    socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmmsg getsockname
    getpeername setsockopt getsockopt shutdown
    fork vfork execve execveat wait4 waitid kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open
    pidfd_send_signal pidfd_getfd process_madvise process_mrelease kcmp ptrace process_vm_readv process_vm_writev
    unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree move_mount mount_setattr
    setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset keyctl add_key request_key
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register io_setup io_submit
    memfd_create memfd_secret seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    personality modify_ldt ioperm iopl reboot sethostname setdomainname settimeofday clock_settime adjtimex
    clock_adjtime swapon swapoff init_module finit_module delete_module kexec_load kexec_file_load syslog acct quotactl
    vhangup shmget shmat shmctl semget semop msgget msgsnd mq_open mq_unlink pipe pipe2 eventfd eventfd2 epoll_create
    epoll_create1 timerfd_create timer_create signalfd signalfd4 inotify_init inotify_init1 fanotify_init splice tee
    vmsplice sendfile copy_file_range link linkat symlink symlinkat mknod mknodat chmod fchmod fchmodat chown fchown
    lchown fchownat setxattr lsetxattr fsetxattr removexattr utime utimes utimensat futimesat truncate statfs open creat
    openat2 open_by_handle_at name_to_handle_at setrlimit setpriority sched_setscheduler sched_setparam sched_setattr
    sched_setaffinity ioprio_set setpgid setsid getpgid getsid set_tid_address set_thread_area mlock mlockall
    remap_file_pages mbind migrate_pages move_pages set_mempolicy membarrier pkey_alloc pkey_mprotect sync syncfs
    get_robust_list arch_prctl
"""


@pytest.mark.parametrize("name", SYSTEM_CALLS.split())
async def test_a_system_call_that_is_not_on_the_list_fails(sandbox, name):
    number = pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)
    result = await attempt(sandbox, f"{RAW}\nprint(syscall({number}, 0, 0, 0, 0, 0, 0))")
    assert result.output == "EPERM"


def number(name):
    return pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)


ARGUMENTS = {
    "shared anonymous memory": f"{number('mmap')}, 0, 4096, 3, 0x21, -1, 0",
    "shared and validated memory": f"{number('mmap')}, 0, 4096, 3, 0x23, -1, 0",
    "writable code": f"{number('mmap')}, 0, 4096, 7, 0x22, -1, 0",
    "thread without a stack": f"{number('clone')}, 0x3d0f00, 0, 0, 0, 0",
    "thread in a user namespace": f"{number('clone')}, 0x3d0f00 | 0x10000000, STACK, 0, 0, 0",
    "thread in a namespace of mounts": f"{number('clone')}, 0x3d0f00 | 0x20000, STACK, 0, 0, 0",
    "process that shares its memory": f"{number('clone')}, 0x100 | 17, STACK, 0, 0, 0",
    "process that shares its files": f"{number('clone')}, 0x400 | 17, STACK, 0, 0, 0",
    "thread that keeps its own memory": f"{number('clone')}, 0x10000, STACK, 0, 0, 0",
    "ordinary fork": f"{number('clone')}, 17, 0, 0, 0, 0",
    "fork into a user namespace": f"{number('clone')}, 0x10000011, 0, 0, 0, 0",
    "limits of its own": f"{number('prlimit64')}, 0, 7, ctypes.byref((ctypes.c_ulong * 2)(99, 99)), 0",
    "limits of another": f"{number('prlimit64')}, 1, 7, 0, ctypes.create_string_buffer(16)",
    "affinity of another": f"{number('sched_getaffinity')}, 1, 128, ctypes.create_string_buffer(128)",
    "the CPU clock of another": f"{number('clock_gettime')}, ctypes.c_long(~os.getppid() << 3 | 2), CLOCK",
    "the CPU clock of another's thread": f"{number('clock_gettime')}, ctypes.c_long(~os.getppid() << 3 | 6), CLOCK",
    "the clock of another, by half a register": f"{number('clock_gettime')}, "
    "(~os.getppid() << 3 | 2) & 0xFFFFFFFF, CLOCK",
    "the clock of another, with more in the register": f"{number('clock_gettime')}, "
    "(~os.getppid() << 3 | 2) & 0xFFFFFFFF | 1 << 40, CLOCK",
    "whether another has a clock": f"{number('clock_getres')}, ctypes.c_long(~os.getppid() << 3 | 2), CLOCK",
    "waiting by the clock of another": f"{number('clock_nanosleep')}, "
    "ctypes.c_long(~os.getppid() << 3 | 2), 0, CLOCK, 0",
    "dumpable": f"{number('prctl')}, 4, 1, 0, 0, 0",
    "not dying with the daemon": f"{number('prctl')}, 1, 0, 0, 0, 0",
    "being a subreaper": f"{number('prctl')}, 36, 1, 0, 0, 0",
    "letting anyone trace": f"{number('prctl')}, 0x59616d61, -1, 0, 0, 0",
    "a filter of its own": f"{number('prctl')}, 22, 1, 0, 0, 0",
    "owner of signals on a descriptor": f"{number('fcntl')}, 3, 8, 1",
    "signals on a descriptor": f"{number('fcntl')}, 3, 4, 0x2000",
    "a lease": f"{number('fcntl')}, 0, 1024, 1",
    "folder notices": f"{number('fcntl')}, 0, 1026, 1",
    "bigger pipes": f"{number('fcntl')}, 0, 1031, 1",
    "typing into a terminal": f"{number('ioctl')}, 0, 0x5412, 0",
    "asynchronous input": f"{number('ioctl')}, 3, 0x5452, 0",
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
async def test_an_allowed_call_with_other_arguments_fails(sandbox, arguments):
    result = await attempt(
        sandbox,
        f"{RAW}\nimport os\nCLOCK = ctypes.create_string_buffer(16)\n"
        f"STACK = ctypes.c_long(ctypes.addressof(ctypes.create_string_buffer(1 << 16)) + (1 << 15))\n"
        f"print(syscall({arguments}))",
    )
    assert result.output == "EPERM"


async def test_clocks_of_its_own_and_of_the_machine_can_be_read(sandbox):
    code = """
import time
fixed = [getattr(time, name) for name in dir(time) if name.startswith('CLOCK_')]
print([clock for clock in fixed if time.clock_gettime(clock) < 0 or time.clock_getres(clock) < 0])
print(time.clock_gettime(-6) > 0, time.clock_gettime(-2) > 0, time.process_time() > 0, time.thread_time() > 0)
"""
    assert (await attempt(sandbox, code)).output == "[]\nTrue True True True"


ADDRESSES = {"null": 0, "of no page": 8, "of no process": 1 << 47, "of the kernel": 1 << 63, "the last": (1 << 64) - 1}


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
async def test_no_address_of_a_path_leaves_its_asker_waiting(sandbox, address):
    path = f"ctypes.c_ulong({address})"
    at = "ctypes.c_long(-100)"
    calls = [f"{number(name)}, {path}, 0o755" for name in ("mkdir", "unlink", "rmdir")]
    calls += [f"{number('openat')}, {at}, {path}, {os.O_WRONLY | os.O_CREAT}, 0o644"]
    calls += [f"{number(name)}, {at}, {path}, 0o755" for name in ("mkdirat", "unlinkat")]
    calls += [f"{number('rename')}, {path}, {path}", f"{number('renameat')}, {at}, {path}, {at}, {path}"]
    printed = "".join(f"print(syscall({call}))\n" for call in calls)
    assert (await attempt(sandbox, f"{RAW}\n{printed}")).output.split() == ["EFAULT"] * len(calls)


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
async def test_no_address_of_a_path_or_of_times_sets_anything(sandbox, address):
    given = f"ctypes.c_ulong({address})"
    at = "ctypes.c_long(-100)"
    calls = [f"{number('chmod')}, {given}, 0o777", f"{number('fchmodat')}, {at}, {given}, 0o777"]
    calls += [f"{number('utimensat')}, {at}, {given}, 0, 0"]
    wrong = f"{number('utimensat')}, {at}, b'x', {given}, 0"
    printed = "".join(f"print(syscall({call}))\n" for call in calls)
    printed += f"open('x', 'w').close()\nprint(syscall({wrong}))" if address else ""
    said = (await attempt(sandbox, f"{RAW}\n{printed}")).output.split()
    assert said == ["EPERM"] * len(calls) + ["EFAULT"] * bool(address)


async def test_no_mode_hides_a_file_from_its_session_or_opens_it_to_others(sandbox):
    code = "import os\nos.mkdir('d'); open('d/f', 'w').write('1')\n"
    code += "for mode in (0, 0o777, 0o200):\n    os.chmod('d', mode); os.chmod('d/f', mode)\n"
    code += "    print(oct(os.stat('d').st_mode), oct(os.stat('d/f').st_mode), open('d/f').read())"
    branch = await sandbox.open()
    result = await branch.run(code)
    assert result.output.splitlines() == ["0o40755 0o100444 1", "0o40755 0o100755 1", "0o40755 0o100644 1"]
    again = "import shutil; print(open('d/f').read()); shutil.rmtree('d'); print(os.listdir())"
    assert (await result.branch.run(again)).output == "1\n[]"


async def test_clone3_is_as_if_the_kernel_had_none(sandbox):
    assert (await attempt(sandbox, f"{RAW}\nprint(syscall({number('clone3')}, 0, 0))")).output == "ENOSYS"


MACHINE_CODE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, ctypes.c_long(0))
ctypes.memmove(page, CODE, len(CODE))
libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), 5)
print('calling', flush=True)
print('ESCAPED', ctypes.CFUNCTYPE(ctypes.c_long)(page)())
"""

FOREIGN_ENTRIES = {
    "x32": f"{RAW}\nprint('calling', flush=True)\nprint('ESCAPED', syscall(0x40000000 + 39))",
    "x32 socket": f"{RAW}\nprint('calling', flush=True)\nprint('ESCAPED', syscall(0x40000000 + 41, 2, 1, 0))",
    "int 0x80 getpid": "CODE = bytes.fromhex('b814000000cd80c3')" + MACHINE_CODE,
    "int 0x80 socketcall": "CODE = bytes.fromhex('b866000000cd80c3')" + MACHINE_CODE,
    "int 0x80 execve": "CODE = bytes.fromhex('b80b000000cd80c3')" + MACHINE_CODE,
}


@pytest.mark.parametrize("code", FOREIGN_ENTRIES.values(), ids=FOREIGN_ENTRIES)
async def test_a_foreign_entry_to_the_kernel_ends_the_process(sandbox, code):
    result = await attempt(sandbox, code)
    assert result.error == DIED
    assert result.output.startswith("calling") and "SIGSYS" in result.output


FORBIDDEN_READS = """
    SECRET /etc/passwd /etc/shadow /etc/hostname /etc/resolv.conf /root/.bashrc /root/.ssh/id_rsa /home
    /proc/self/environ /proc/self/mem /proc/self/maps /proc/self/cmdline /proc/self/status /proc/self/fd
    /proc/self/root/etc/passwd /proc/self/cwd/../../../../etc/passwd /proc/self/task /proc/1/environ /proc/1/cmdline
    /proc/1/mem /proc/1/root /proc/version /proc/cpuinfo /proc/meminfo /proc/net/tcp /proc/sys/kernel/hostname
    /proc/kcore /proc/kallsyms /proc/keys /proc/mounts /sys /sys/class/net /sys/kernel /sys/fs/cgroup
    /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/tty /dev/ptmx /dev/shm /dev/zero /dev/urandom /dev/fuse /dev/kvm
    /dev/net/tun /dev/vsock /var/run/secrets /var/run/secrets/kubernetes.io/serviceaccount/token /run /run/docker.sock
    /var/run/docker.sock /tmp /var/tmp /var/log / .. ../.. ../../.. /usr/bin /bin/sh /boot
"""


@pytest.mark.parametrize("path", FORBIDDEN_READS.split())
async def test_nothing_of_the_machine_can_be_read(sandbox, path):
    code = f"""
import os
for opened in (lambda p: os.open(p, os.O_RDONLY), os.listdir, lambda p: os.read(os.open(p, os.O_RDONLY), 10)):
    try:
        print('ESCAPED', opened({path!r}))
    except OSError as error:
        print(type(error).__name__)
"""
    result = await attempt(sandbox, code)
    assert set(result.output.split()) <= {"PermissionError", "FileNotFoundError", "NotADirectoryError"}


@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd", "cwd", "root", "exe", "cmdline"])
async def test_nothing_of_the_daemon_or_the_client_can_be_read(sandbox, name):
    code = f"""
import os
for pid in (os.getppid(), {os.getpid()}):
    for get in (os.listdir, os.readlink, lambda p: open(p, 'rb').read(10)):
        try:
            print('ESCAPED', get(f'/proc/{{pid}}/{name}'))
        except OSError as error:
            print(type(error).__name__)
"""
    result = await attempt(sandbox, code)
    refusals = {"PermissionError", "FileNotFoundError", "NotADirectoryError", "OSError", "ProcessLookupError"}
    assert set(result.output.split()) <= refusals


# None of these exists but SECRET, and none would hurt the machine: a daemon of root does what it does not refuse.
FORBIDDEN_WRITES = """
    SECRET OPEN/x /etc/x /root/x /home/x /tmp/x /var/tmp/x /dev/shm/x /run/x /var/run/x /usr/lib/x /x ../x ../../x
    ../../kept/x d/../../x ./../x //etc/x /proc/self/cwd/../x /proc/self/root/tmp/x /proc/self/mem /proc/self/fd/1
"""


@pytest.mark.parametrize("path", FORBIDDEN_WRITES.split())
async def test_nothing_can_be_written_outside_the_scratch_folder(sandbox, path):
    code = f"""
import os
calls = [
    lambda p: open(p, 'w'), lambda p: open(p, 'a'), lambda p: open(p, 'x'), lambda p: open(p, 'r+'), os.mkdir,
    os.unlink, os.rmdir, lambda p: os.rename('mine', p), lambda p: os.rename(p, 'theirs'), lambda p: os.truncate(p, 0),
    lambda p: os.open(p, os.O_RDONLY | os.O_CREAT), lambda p: os.open(p, os.O_RDONLY | os.O_TRUNC),
]
open('mine', 'w').write('mine')
for call in calls:
    try:
        print('ESCAPED', call({path!r}))
    except OSError as error:
        print(type(error).__name__)
print(os.listdir('.'), open('mine').read())
"""
    result = await attempt(sandbox, code)
    *refusals, kept = result.output.splitlines()
    assert len(refusals) == 12 and kept == "['mine'] mine"


LINKS = {
    "symbolic link out": "os.symlink('/etc', 'x'); print('ESCAPED')",
    "hard link in": "os.link('SECRET', 'x'); print('ESCAPED')",
    "hard link of its own": "open('a', 'w'); os.link('a', 'b'); print('ESCAPED')",
    "fifo": "os.mkfifo('x'); print('ESCAPED')",
    "device": "os.mknod('x', 0o600 | 0o020000, os.makedev(1, 1)); print('ESCAPED')",
    "setuid bit": "open('a', 'w'); os.chmod('a', 0o4755); print('ESCAPED')",
    "setuid bit of an open file": "f = open('a', 'w')\ntry: os.fchmod(f.fileno(), 0o4755)\nfinally: f.close()",
    "mode of the standard library": "os.chmod(os.__file__, 0o777); print('ESCAPED')",
    "mode of the secret": "os.chmod('SECRET', 0o777); print('ESCAPED')",
    "mode of its own folder": "os.chmod('.', 0o777); print('ESCAPED')",
    "mode of the folder above": "os.chmod('..', 0o777); print('ESCAPED')",
    "mode of an open file of others": "os.fchmod(os.open(os.__file__, 0), 0o777); print('ESCAPED')",
    "mode of its channel": "os.fchmod(3, 0o777); print('ESCAPED')",
    "mode of its output": "os.fchmod(1, 0o777); print('ESCAPED')",
    "times of the secret": "os.utime('SECRET', (1, 1)); print('ESCAPED')",
    "times of the standard library": "os.utime(os.__file__); print('ESCAPED')",
    "times of an open file of others": "os.utime(os.open(os.__file__, 0), (1, 1)); print('ESCAPED')",
    "its own folder away": "os.rename(os.getcwd(), '../x'); print('ESCAPED')",
    "its own folder removed": "os.rmdir(os.getcwd()); print('ESCAPED')",
    "listing the other folders": "print('ESCAPED', os.listdir('..'))",
    "relative to a folder outside": "d = os.open(os.path.dirname(os.__file__) + '/re', 0); os.open('x', 64, dir_fd=d)",
    "after changing away": "os.chdir('/'); open('tmp/x', 'w'); print('ESCAPED')",
    "relative to the root": "os.chdir('/'); print('ESCAPED', os.listdir('.'))",
    "the standard library": "open(os.__file__, 'a'); print('ESCAPED')",
    "beside the standard library": "open(os.path.dirname(os.__file__) + '/x.py', 'w'); print('ESCAPED')",
    "a path that changes": f"{RAW}\nbuffer = ctypes.create_string_buffer(b'../x'); "
    f"assert syscall({number('openat')}, -100, buffer, 0o101, 0o600) == 'EACCES'; open('../x')",
    "a path that is not there": f"{RAW}\nassert syscall({number('openat')}, -100, 1, 65, 384) in ('EIO', 'EFAULT'); "
    "open('../x', 'w')",
    "a path without end": "open('x' * 5000, 'w')",
    "a path descriptor": "os.open('/etc/passwd', os.O_PATH); open(f'/proc/self/fd/4'); print('ESCAPED')",
    "the socket of the daemon": "open('../../../sandbox.sock'); print('ESCAPED')",
}


@pytest.mark.parametrize("code", LINKS.values(), ids=LINKS)
async def test_no_trick_with_paths_leads_out(sandbox, code):
    result = await attempt(sandbox, f"import os\n{code}")
    assert result.error in {REFUSED, "FileNotFoundError", "OSError"}, result.output


PROCESSES = {
    "fork": "os.fork()",
    "forkpty": "os.forkpty()",
    "system": "assert os.system('true') == 0",
    "popen": "os.popen('true').read()",
    "exec": "os.execv('/bin/true', ['true'])",
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "spawn": "assert os.spawnv(os.P_WAIT, '/bin/true', ['true']) == 0",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "multiprocessing": "import multiprocessing; multiprocessing.Process(target=print).start()",
    "pool": "import multiprocessing; multiprocessing.Pool(2)",
    "process executor": "from concurrent.futures import *; ProcessPoolExecutor().submit(print).result()",
    "a process of an event loop": "import asyncio; asyncio.run(asyncio.create_subprocess_exec('true'))",
    "a connection of an event loop": "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', 80))",
    "an event loop with sockets": "import asyncio; asyncio.SelectorEventLoop()",
    "a file that is mapped to be shared": "import mmap; f = open('x', 'wb+'); f.write(b'x'); f.flush()\n"
    "try: mmap.mmap(f.fileno(), 0)\nfinally: f.close()",
    "pseudo terminal": "import pty; pty.spawn('/bin/sh')",
    "kill the daemon": "os.kill(os.getppid(), 9)",
    "kill init": "os.kill(1, 9)",
    "kill everybody": "os.kill(-1, 9)",
    "kill its group": "os.killpg(0, 9)",
    "kill its parent state": "os.kill(os.getpid() - 1, 9)",
    "stop itself": "os.kill(os.getpid(), 19)",
    "stop itself by raise": "import signal; signal.raise_signal(signal.SIGSTOP)",
    "priority": "os.nice(-5)",
    "its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "its group": "os.setpgid(0, 0)",
    "its session": "os.setsid()",
    "its user": "os.setuid(0)",
    "its root": "os.chroot('.')",
    "shared memory": "import mmap; mmap.mmap(-1, 4096)",
    "shared memory of multiprocessing": "from multiprocessing import shared_memory as s; s.SharedMemory('x', True, 9)",
    "pipe": "os.pipe()",
    "socket pair": "import socket; socket.socketpair()",
    "memory file": "os.memfd_create('x')",
    "event descriptor": "os.eventfd(0)",
    "waiting for others": "os.waitpid(-1, 0)",
    "a name of the network": "import socket; socket.getaddrinfo('example.com', 80)",
    "a page of the network": "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
    "descriptors over the channel": "import socket; s = socket.socket(1, 1, 0, 3)\n"
    "try: socket.send_fds(s, [b'x'], [0])\nfinally: s.detach()",
    "who is at the channel": "import socket; s = socket.socket(1, 1, 0, 3)\ntry: s.getpeername()\nfinally: s.detach()",
}


@pytest.mark.parametrize("code", PROCESSES.values(), ids=PROCESSES)
async def test_no_process_signal_or_channel_of_its_own(sandbox, code):
    result = await attempt(sandbox, f"import os\n{code}\nprint('ESCAPED')")
    assert result.error in {REFUSED, "RuntimeError", "AssertionError", "gaierror", "URLError", "OSError", "ValueError"}


IN_A_THREAD = {
    "reads": "open('SECRET').read()",
    "writes": "open('SECRET', 'w')",
    "writes beside": "open('../x', 'w')",
    "changes a mode": "os.chmod('SECRET', 0o777)",
    "connects": "import _socket; _socket.socket(1, 1, 0)",
    "forks": f"said = syscall({number('clone')}, 17, 0, 0, 0, 0)\nif said == 'EPERM': raise PermissionError",
    "ends another": "os.kill(os.getppid(), 9)",
    "sees a clock of another": "time.clock_gettime(~os.getppid() << 3 | 2)",
}


@pytest.mark.parametrize("code", IN_A_THREAD.values(), ids=IN_A_THREAD)
async def test_a_thread_may_do_no_more_than_its_process(sandbox, code):
    body = "".join(f"        {line}\n" for line in code.split("\n"))
    program = f"{RAW}\nimport os, threading, time\ndef work():\n    try:\n{body}        print('ESCAPED')\n"
    program += "    except OSError as error: print(type(error).__name__)\nthreading.Thread(target=work).start()"
    result = await attempt(sandbox, program)
    assert result.output in (REFUSED, "FileNotFoundError"), result.output


UNENDING = {
    "is left": ("threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", "OSError"),
    "spins and is left": ("def f():\n    while True: pass\nthreading.Thread(target=f, daemon=True).start()", "OSError"),
    "never ends": ("threading.Thread(target=time.sleep, args=(99,)).start()", "TimeoutError"),
    "spins with others": (
        "def f():\n    while True: pass\nfor _ in range(3): threading.Thread(target=f).start()",
        "TimeoutError",
    ),
    "starts others for ever": (
        "def f(): threading.Thread(target=f, daemon=True).start(); time.sleep(9)\nf()",
        "TimeoutError",
    ),
    "outlives the first one": (
        f"threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\nsyscall({number('exit')}, 0)",
        "TimeoutError",
    ),
    "reports for a first one that has ended": (
        "def f():\n    time.sleep(0.2); os.dup2(0, 1); os.dup2(0, 2)\n    os.write(3, frame({'answer': '1'}))\n"
        "    os.write(3, frame({'state': '0' * 16})); time.sleep(9)\n"
        f"threading.Thread(target=f, daemon=True).start()\nsyscall({number('exit')}, 0)",
        "OSError",
    ),
    "forks as the daemon has it done": (
        f"def f(): syscall({number('clone')}, 0x8011, 0, 0, 0, 0)\nthreading.Thread(target=f).start(); time.sleep(9)",
        DIED,
    ),
    "says a first word": (
        f"def f(): syscall({number('prctl')}, 1, 9, 1, 0, 0)\nthreading.Thread(target=f).start(); time.sleep(9)",
        DIED,
    ),
}


@pytest.mark.parametrize(("code", "error"), UNENDING.values(), ids=UNENDING)
async def test_no_thread_outlives_its_step(sandbox, code, error):
    prelude = "import os, json, struct, threading, time\ndef frame(m):\n    b = json.dumps(m).encode()\n"
    prelude += "    return struct.pack('>I', len(b)) + b\n"
    branch = await sandbox.open()
    result = await branch.run(f"{RAW}\n{prelude}{code}")
    assert (result.error, result.answer, result.branch) == (error, None, branch), result.output
    assert (await branch.run("print('alive')")).output == "alive"
    await branch.close()


LATE = """
os.dup2(0, 1); os.dup2(0, 2); os.write(3, frame({'answer': '1'})); os.write(3, frame({'state': '0' * 16}))
while True:
    try: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
    except RuntimeError: pass
"""


async def test_a_state_that_says_it_has_ended_has_no_thread(sandbox):
    prelude = "import os, json, struct, threading, time\ndef frame(m):\n    b = json.dumps(m).encode()\n"
    prelude += "    return struct.pack('>I', len(b)) + b\n"
    for _ in range(5):
        branch = await sandbox.open()
        result = await branch.run(prelude + LATE)
        assert result.error == "OSError" if result.branch is branch else result.answer == "1"
        if result.branch is not branch:
            assert (await result.branch.run("print('ESCAPED')")).error == DIED
        await branch.close()


FORGERIES = {
    "another message": "os.write(3, frame({'output': 'forged', 'branch': 1}))",
    "two ends": "os.write(3, frame({'answer': '1', 'state': '0' * 16}) * 2); time.sleep(9)",
    "an end with output": "os.write(3, frame({'answer': '1', 'state': '0' * 16, 'output': 'forged'})); time.sleep(8)",
    "a call of no tool": "os.write(3, frame({'call': 'judge', 'args': [], 'kwargs': {}}))",
    "no JSON": "os.write(3, struct.pack('>I', 4) + b'{{{{')",
    "a pickle": "import pickle; body = pickle.dumps(print); os.write(3, struct.pack('>I', len(body)) + body)",
    "a huge length": "os.write(3, struct.pack('>I', 0xffffffff)); time.sleep(9)",
    "deep JSON": "body = b'[' * 100_000; os.write(3, struct.pack('>I', len(body)) + body)",
    "a state that is none": "os.write(3, frame({'state': 'x'}))",
    "an error that is none": "os.write(3, frame({'error': 'a b', 'line': '', 'state': '0' * 16}))",
    "half a message": "os.write(3, b'\\0\\0'); os._exit(0)",
    "closing": "os.close(3); time.sleep(9)",
    "closing everything": "os.closerange(0, 100); time.sleep(9)",
    "another file in its place": "open('x', 'w'); os.dup2(os.open('x', os.O_RDONLY), 3); time.sleep(9)",
    "a flood": "while True: os.write(3, b'\\xff' * 65536)",
    "a first word again": f"{RAW}\nsyscall({number('prctl')}, 1, 9, 1, 0, 0)\ntime.sleep(9)",
    "a fork as the daemon has it made": f"{RAW}\nsyscall({number('clone')}, 0x8011, 0, 0, 0, 0)\ntime.sleep(9)",
}


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_word_ends_the_step_and_is_believed_by_nobody(sandbox, code):
    prelude = "import os, json, struct, time\ndef frame(m):\n    b = json.dumps(m).encode()\n"
    prelude += "    return struct.pack('>I', len(b)) + b\n"
    result = await attempt(sandbox, prelude + code)
    ends = "* 2)" in code  # with an answer and a state, and leave the output open, which a state may not
    assert (result.error, result.answer) == ("OSError" if ends else DIED, None), result.output
    assert "forged" not in result.output


INSIDE = {
    "garbage collector": "import gc; print([o for o in gc.get_objects() if 'ESCAPE' + 'D' in repr(type(o))])",
    "modules": "import sys; print(sorted(m for m in sys.modules if 'daemon' in m or 'client' in m or 'agent' in m))",
    "subclasses": "print([c for c in object.__subclasses__() if c.__name__ == 'Daemon'])",
    "smolagents CVE-2025-5120": "import random; print(random._os.system('echo ESC' + 'APED'))",
    "smolagents CVE-2025-9959": "print(().__class__.__base__.__subclasses__()[0].__init__.__globals__['__builtins__'])",
    "dunder import": "print(dict(__import__('os').environ))",
    "loader of builtins": "print(__builtins__.__loader__ if hasattr(__builtins__, '__loader__') else 1)",
    "code objects": "f = lambda: 0\nprint(len(f.__code__.replace(co_code=b'd' * 300).co_code))",
    "a pickle that runs": "import pickle; pickle.loads(b\"cos\\nsystem\\n(S'echo ESC'\\ntR.\")",
    "a module finder": "import sys\nclass F:\n def find_spec(self, *a): raise OSError\nsys.meta_path.insert(0, F())",
    "builtins gone": "import builtins\nfor n in list(vars(builtins)): delattr(builtins, n)",
    "json gone": "import json, os, sys\njson.dumps = json.loads = None; sys.modules.clear()",
    "write gone": "import os\nos.write = os.read = os.dup2 = None",
    "tools patched": "import builtins\nbuiltins.final_answer_print = lambda x: None\nfinal_answer_print(1)",
    "trace": "import sys\nsys.settrace(lambda *a: 1 / 0)",
    "profile": "import sys\nsys.setprofile(lambda *a: 1 / 0)",
    "audit hook": "import sys\nsys.addaudithook(lambda *a: 1 / 0)",
    "atexit": "import atexit, os\natexit.register(print, 'late'); os._exit(0)",
    "destructor": "class A:\n def __del__(self):\n  while True: pass\na = A(); del a",
    "destructor at the end": "class A:\n def __del__(self): 1 / 0\na = A()",
    "signal handlers": "import signal\nfor n in range(1, 30):\n  if n not in (9, 19): signal.signal(n, signal.SIG_IGN)",
    "no CPU limit": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    "alarm": "import signal, time\nsignal.alarm(1); time.sleep(9)",
    "timers": "import signal, time\nsignal.signal(14, lambda *a: 0); signal.setitimer(0, 1e-6, 1e-6); time.sleep(9)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "deep recursion in C": "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "deep JSON": "import json, sys\nsys.setrecursionlimit(10**9)\njson.loads('[' * 10**7)",
    "a huge number": "print(10 ** 10 ** 8)",
    "a huge text": "print('x' * 10 ** 12)",
    "memory": "x = []\nwhile True: x.append('x' * 10**6)",
    "memory again and again": "while True:\n  try: x = [0] * 10**8\n  except MemoryError: pass",
    "memory mapped": "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE))",
    "disk": "for n in range(10**6): open(str(n), 'wb').write(bytes(10**6))",
    "one big file": "f = open('x', 'wb')\nwhile True: f.write(bytes(10**6))",
    "a sparse file": "f = open('x', 'wb'); f.truncate(1 << 40)",
    "many folders": "import os\nfor n in range(10**6): os.mkdir(str(n))",
    "deep folders": "import os\nwhile True: os.mkdir('d'); os.chdir('d')",
    "file calls for ever": "import os\nwhile True:\n  try: os.mkdir('/x')\n  except OSError: pass",
    "descriptors": "x = []\nwhile True: x.append(open('/dev/null'))",
    "output": "while True: print('x' * 1000)",
    "log": "import sys\nwhile True: print('x' * 1000, file=sys.stderr)",
    "output around python": "import os\nwhile True: os.write(1, b'x' * 65536)",
    "output moved": "import os\nos.lseek(1, 1 << 40, 0); os.write(1, b'x')",
    "output cut": "import os\nos.ftruncate(1, 1 << 40)",
    "sleep": "import time\nwhile True: time.sleep(99)",
    "sleep in a handler": "import time\ntry: time.sleep(99)\nfinally: time.sleep(99)",
    "a lock": "import threading\nx = threading.Lock(); x.acquire(); x.acquire()",
    "a regular expression": "import re\nre.match('(a*)*b', 'a' * 40)",
    "a crash": "import ctypes\nctypes.string_at(8)",
    "exit": "import os\nos._exit(0)",
}


PRINTED = {
    "garbage collector": "[]", "modules": "[]", "subclasses": "[]",
    "dunder import": "{}", "loader of builtins": "1", "code objects": "300",
    "a module finder": "None", "json gone": "None", "tools patched": "None", "destructor at the end": "None",
    "signal handlers": "None",
}  # fmt: skip
RAISED = {
    "AttributeError": ["smolagents CVE-2025-9959"],
    "NameError": ["builtins gone"],
    "ZeroDivisionError": ["profile"],
    "ProcessDiedError": [
        "write gone", "trace", "audit hook", "atexit", "alarm", "deep recursion in C", "deep JSON",
        "file calls for ever", "a crash", "exit",
    ],
    "TimeoutError ProcessDiedError MemoryError": ["deep recursion"],  # what it meets first
    "TimeoutError": [
        "destructor", "no CPU limit", "timers", "a huge number", "memory again and again",
        "sleep", "sleep in a handler", "a lock", "a regular expression",
    ],
    "MemoryError": ["a huge text", "memory"],
    "OutputLimitError": ["output", "log"],
    "PermissionError": ["output around python", "smolagents CVE-2025-5120", "a pickle that runs"],
    "OSError": [
        "memory mapped", "disk", "one big file", "a sparse file", "many folders", "deep folders", "descriptors",
        "output moved", "output cut",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
async def test_what_a_session_does_to_itself_leads_nowhere(sandbox, name):
    result = await attempt(sandbox, INSIDE[name])
    assert (result.output, result.error) == (PRINTED[name], None)


@pytest.mark.parametrize(("error", "name"), [(error, name) for error, names in RAISED.items() for name in names])
async def test_what_a_session_does_to_itself_is_its_own(sandbox, error, name):
    result = await attempt(sandbox, INSIDE[name])
    assert result.error in error.split(), result.output
    assert len(result.output) <= LIMITS.observation_chars


async def test_each_of_these_has_an_outcome():
    assert {*PRINTED, *(name for names in RAISED.values() for name in names)} == set(INSIDE)


async def test_another_process_of_the_same_user_stays_alive(sandbox):
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    with subprocess.Popen(["sleep", "1000"], user=user) as victim:
        try:
            code = f"{RAW}\nimport os\nprint(syscall({number('kill')}, {victim.pid}, 9))\nos.kill({victim.pid}, 9)"
            result = await attempt(sandbox, code)
            assert (result.error, victim.poll()) == (REFUSED, None)
        finally:
            victim.kill()


async def test_no_connection_arrives_at_a_server_of_the_machine(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = server.getsockname()
        result = await attempt(sandbox, f"import socket\nsocket.create_connection({address})")
        assert result.error == REFUSED
        with pytest.raises(BlockingIOError):
            server.accept()
