"""A seccomp filter without a library: the system calls that a Python program needs are allowed, all others refused.

Refused with EPERM are also numbers that no kernel had when this was written. The filter stands behind the namespaces,
not in their place: it keeps a candidate from kernel interfaces with a long record of holes, and from those by which
programs that share files could leave each other notes (locks, leases, watches). Under Landlock alone it is also what
keeps signals, sockets, and changes of a file's attributes in.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from della_bench.scoring.sandbox.inside.system import prctl

__all__ = ["ARCHITECTURES", "install"]

# What CPython 3.10 to 3.14 and the C library call. name: number on x86_64, number on aarch64; - where there is none.
ALLOWED = """
read:0:63 write:1:64 close:3:57 close_range:436:436 lseek:8:62 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66
preadv:295:69 pwritev:296:70 creat:85:- stat:4:- fstat:5:80 lstat:6:- newfstatat:262:79
statx:332:291 access:21:- faccessat:269:48 faccessat2:439:439 readlink:89:- readlinkat:267:78 getcwd:79:17
chdir:80:49 fchdir:81:50 getdents:78:- getdents64:217:61 umask:95:166 dup:32:23 dup2:33:-
dup3:292:24 pipe:22:- pipe2:293:59 poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:-
epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 eventfd2:290:19
sendfile:40:71 copy_file_range:326:285 fsync:74:82 fdatasync:75:83
mmap:9:222 mprotect:10:226 munmap:11:215 mremap:25:216 madvise:28:233 brk:12:214 msync:26:227
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 sigaltstack:131:132 rt_sigpending:127:136
rt_sigtimedwait:128:137 rt_sigsuspend:130:133 pause:34:- alarm:37:- getitimer:36:102 setitimer:38:103
nanosleep:35:101 gettimeofday:96:169 time:201:-
times:100:153 getrusage:98:165 getrandom:318:278 uname:63:160 sched_yield:24:124 sched_get_priority_max:146:125
sched_get_priority_min:147:126
getpid:39:172 getppid:110:173 gettid:186:178 getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177
getresuid:118:148 getresgid:120:150 getgroups:115:158 getpgrp:111:-
setpgid:109:154 setsid:112:157 wait4:61:260 waitid:247:95 getrlimit:97:163 setrlimit:160:164 exit:60:93
exit_group:231:94 set_robust_list:273:99 rseq:334:293
set_tid_address:218:96 arch_prctl:158:- restart_syscall:219:128
ftruncate:77:46
symlink:88:- symlinkat:266:36 recvfrom:45:207 shutdown:48:210 getsockname:51:204 getpeername:52:205
"""
# In a file tree of its own: what changes files.
FILES = """
mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38 renameat2:316:276
link:86:- linkat:265:37 truncate:76:45 fallocate:285:47
chmod:90:- fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 utime:132:- utimes:235:- utimensat:280:88 futimesat:261:-
"""
PROCESSES = "fork:57:- vfork:58:- execve:59:221 execveat:322:281"  # where a program may start some

# Calls of which some arguments are allowed: (argument, 0 to 5), and the values of its lower half.
DUPLICATE, GET_DESCRIPTOR, SET_DESCRIPTOR, GET_STATUS, SET_STATUS, DUPLICATE_CLOSING = 0, 1, 2, 3, 4, 1030
SET_PIPE_SIZE, GET_PIPE_SIZE = 1031, 1032
FCNTL = (DUPLICATE, GET_DESCRIPTOR, SET_DESCRIPTOR, GET_STATUS, SET_STATUS, DUPLICATE_CLOSING, SET_PIPE_SIZE)
TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX = 0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451
SET_NAME, GET_NAME = 15, 16
AF_UNIX, SOCK_STREAM, NONBLOCKING, CLOSING = 1, 1, 0o4000, 0o2000000
# Of a socket's options those that tell of this end; not who made the other (SO_PEERCRED, SO_PEERPIDFD).
SOL_SOCKET, OF_ONE_END = 1, (3, 4, 7, 8, 38, 39)  # SO_TYPE, ERROR, SNDBUF, RCVBUF, PROTOCOL, DOMAIN
CLOCKS = tuple(range(12))  # CLOCK_REALTIME to CLOCK_TAI; the numbers below 0 are the clocks of other processes
STREAMS = tuple(SOCK_STREAM | flags for flags in (0, NONBLOCKING, CLOSING, NONBLOCKING | CLOSING))
SOME_ARGUMENTS: tuple[tuple[str, tuple[tuple[int, tuple[int, ...]], ...]], ...] = (
    ("fcntl:72:25", ((1, (*FCNTL, GET_PIPE_SIZE)),)),
    ("ioctl:16:29", ((1, (TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX)),)),
    ("prctl:157:167", ((0, (SET_NAME, GET_NAME)),)),
    # Two ends that nobody else has, for asyncio; without an address to send to, and without control messages.
    ("socketpair:53:199", ((0, (AF_UNIX,)), (1, STREAMS))),
    ("sendto:44:206", ((4, (0,)), (5, (0,)))),
    ("getsockopt:55:209", ((1, (SOL_SOCKET,)), (2, OF_ONE_END))),
    ("getpriority:140:141", ((0, (0,)), (1, (0,)))),
)
OPENING = (("open:2:-", 1), ("openat:257:56", 2))  # and the argument that has the flags
UNNAMED_FILE = 0o20000000  # O_TMPFILE: a file that no folder shows
OWN_PROCESS = ("prlimit64:302:261", "sched_setaffinity:203:122")
# What asks about processes, by number or by the number of a clock: where there is no namespace, about one's own only.
QUESTIONS = (
    *("sched_getaffinity:204:123", "sched_getparam:143:121", "sched_getscheduler:145:120", "getpgid:121:155"),
    "getsid:124:156",
)
CLOCK_QUESTIONS = ("clock_gettime:228:113", "clock_getres:229:114", "clock_nanosleep:230:115")
OWN_SIGNALS = ("kill:62:129", "tkill:200:130", "tgkill:234:131")
# A futex that is not private to a process is one with that of any other process that has the same file in memory, if
# only to read: a note between programs. Who waits at such a one is told to look again (pthread_join does so).
FUTEX, FUTEX_PRIVATE = "futex:202:98", 128
CLONE, CLONE3 = "clone:56:220", "clone3:435:435"

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE_THREAD = 0x00010000
CLONE_NEW_ANY = 0x7E020080  # every CLONE_NEW* flag

LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
LOOK_AGAIN = 0x00050000 | errno.EAGAIN
UNKNOWN_CALL = 0x00050000 | errno.ENOSYS  # of clone3, whose flags a filter cannot see: libc falls back to clone
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, HALF = 0, 4, 16, 4
SECCOMP_MODE_FILTER, PR_SET_SECCOMP = 2, 22


def install(*, namespaces: bool, processes: bool) -> None:
    """Filter this process's system calls from now on, and its children's; needs no privilege once it can gain none.

    namespaces: whether it has process, network and mount namespaces of its own.
    processes: whether it may start processes.
    Raises OSError where the kernel takes no filter, KeyError on an architecture that the table lacks.
    """
    program = b"".join(_filter(os.uname().machine, os.getpid(), namespaces, processes))
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit count, padding, a pointer
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header, len(header)))


def _filter(machine: str, process: int, namespaces: bool, processes: bool) -> list[bytes]:
    """Return the instructions, which compare the number with one call after the other and refuse what is left.

    Numbers of the x32 interface are none of the table's, as they have a bit of their own.
    """
    column = list(ARCHITECTURES).index(machine)
    code = [
        _step(LOAD, ARCHITECTURE),
        _step(JUMP_EQUAL, ARCHITECTURES[machine], 1, 0),
        _step(RETURN, REFUSE),
        _step(LOAD, NUMBER),
    ]
    allowed = ALLOWED + (FILES if namespaces else "") + (PROCESSES if processes else "")
    for number in _numbers(allowed.split(), column):
        code += [_step(JUMP_EQUAL, number, 0, 1), _step(RETURN, ALLOW)]
    for number in _numbers([CLONE3], column):
        code += [_step(JUMP_EQUAL, number, 0, 1), _step(RETURN, UNKNOWN_CALL)]
    for number in _numbers([CLONE], column):
        thread = [] if processes else [_step(JUMP_SET, CLONE_THREAD, 1, 0), _step(RETURN, REFUSE)]
        steps = [*_load(0), _step(JUMP_SET, CLONE_NEW_ANY, 0, 1), _step(RETURN, REFUSE), *thread]
        code += _when(number, [*steps, _step(RETURN, ALLOW)])
    for number in _numbers([FUTEX], column):
        code += _when(
            number, [*_load(1), _step(JUMP_SET, FUTEX_PRIVATE, 1, 0), _step(RETURN, LOOK_AGAIN), _step(RETURN, ALLOW)]
        )
    for call, arguments in SOME_ARGUMENTS:
        for number in _numbers([call], column):
            checks = [step for at, values in arguments for step in _one_of(at, values, wide=call.startswith("sendto"))]
            code += _when(number, [*checks, _step(RETURN, ALLOW)])
    for call, flags in OPENING:
        for number in _numbers([call], column):
            seen = [] if namespaces else [*_load(flags), _step(JUMP_SET, UNNAMED_FILE, 0, 1), _step(RETURN, REFUSE)]
            code += _when(number, [*seen, _step(RETURN, ALLOW)])
    for number in _numbers(OWN_PROCESS, column):
        code += _when(number, [*_one_of(0, (0, process)), _step(RETURN, ALLOW)])
    for questions, answered in ((QUESTIONS, (0, process)), (CLOCK_QUESTIONS, CLOCKS)):
        for number in _numbers(questions, column):
            own = [] if namespaces else _one_of(0, answered)
            code += _when(number, [*own, _step(RETURN, ALLOW)])
    for number in _numbers(OWN_SIGNALS, column):  # a process namespace holds the program's own only
        own = [] if namespaces else _one_of(0, (process,))
        code += _when(number, [*own, _step(RETURN, ALLOW)])
    return [*code, _step(RETURN, REFUSE)]


def _when(number: int, steps: list[bytes]) -> list[bytes]:
    """Return `steps`, which end in a return, taken for call `number` only."""
    return [_step(JUMP_EQUAL, number, 0, len(steps)), *steps]


def _one_of(argument: int, values: tuple[int, ...], *, wide: bool = False) -> list[bytes]:
    """Return steps that refuse unless an argument's lower half is one of `values`; `wide`: and its upper half 0."""
    steps = _load(argument)
    for at, value in enumerate(values):
        steps.append(_step(JUMP_EQUAL, value, len(values) - at, 0))
    steps.append(_step(RETURN, REFUSE))
    if wide:
        steps += [_step(LOAD, FIRST_ARGUMENT + 8 * argument + HALF), _step(JUMP_EQUAL, 0, 1, 0), _step(RETURN, REFUSE)]
    return steps


def _load(argument: int) -> list[bytes]:
    return [_step(LOAD, FIRST_ARGUMENT + 8 * argument)]


def _numbers(calls: Iterable[str], column: int) -> list[int]:
    rows = [call.split(":")[1:] for call in calls]
    return [int(row[column]) for row in rows if row[column] != "-"]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
