"""A seccomp filter without a library: a list of system calls that no candidate needs is refused with EPERM.

It stands behind the namespaces, not in their place: it keeps a candidate from kernel interfaces with a long record of
holes, and from the few that reach other processes of the same user. Under Landlock alone it is also what keeps signals,
sockets and changes of a file's attributes in.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from della_bench.scoring.sandbox.inside.system import prctl

__all__ = ["ARCHITECTURES", "install"]

# name: number on x86_64, number on aarch64; - where there is none.
ALWAYS = """
ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 kcmp:312:272 pidfd_open:434:434 pidfd_getfd:438:438
pidfd_send_signal:424:424 process_madvise:440:440 process_mrelease:448:448 migrate_pages:256:238 move_pages:279:239
unshare:272:97 setns:308:268 mount:165:40 umount2:166:39 pivot_root:155:41 chroot:161:51 move_mount:429:429
open_tree:428:428 fsopen:430:430 fsmount:432:432 fsconfig:431:431 fspick:433:433 mount_setattr:442:442
bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 keyctl:250:219 add_key:248:217 request_key:249:218
io_uring_setup:425:425 io_uring_enter:426:426 io_uring_register:427:427 fanotify_init:300:262
kexec_load:246:104 kexec_file_load:320:294 init_module:175:105 finit_module:313:273 delete_module:176:106
reboot:169:142 swapon:167:224 swapoff:168:225 syslog:103:116 acct:163:89 quotactl:179:60 personality:135:92
open_by_handle_at:304:264 name_to_handle_at:303:265 mknod:133:- mknodat:259:33 vhangup:153:58
clock_settime:227:112 settimeofday:164:170 adjtimex:159:171 clock_adjtime:305:266 sethostname:170:161
setdomainname:171:162 memfd_create:319:279 memfd_secret:447:447 shmget:29:194 shmat:30:196 msgget:68:186
semget:64:190 mq_open:240:180 setpriority:141:140 ioprio_set:251:30 sched_setscheduler:144:119
sched_setparam:142:118 sched_setattr:314:274
"""
# Without namespaces: what reaches other processes, the network, and attributes of files that Landlock leaves alone.
WITHOUT_NAMESPACES = """
socket:41:198 execve:59:221 execveat:322:281 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240
chmod:90:- fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 chown:92:- fchown:93:55 lchown:94:- fchownat:260:54
utime:132:- utimes:235:- utimensat:280:88 futimesat:261:- setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7
removexattr:197:14 lremovexattr:198:15 fremovexattr:199:16
"""
OWN_PROCESS_ONLY = "prlimit64:302:261 sched_setaffinity:203:122"
OWN_SIGNALS_ONLY = "kill:62:129 tkill:200:130 tgkill:234:131"
NEW_PROCESSES = "fork:57:- vfork:58:-"
CLONE, CLONE3, SOCKET = "clone:56:220", "clone3:435:435", "socket:41:198"

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
CLONE_THREAD = 0x00010000
CLONE_NEW_ANY = 0x7E020080  # every CLONE_NEW* flag
AF_UNIX = 1

LOAD, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
UNKNOWN_CALL = 0x00050000 | errno.ENOSYS  # of clone3, whose flags a filter cannot see: libc falls back to clone
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
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
    column = list(ARCHITECTURES).index(machine)
    code = [
        _step(LOAD, ARCHITECTURE),
        _step(JUMP_EQUAL, ARCHITECTURES[machine], 1, 0),
        _step(RETURN, REFUSE),
        _step(LOAD, NUMBER),
    ]
    if machine == "x86_64":
        code += [_step(JUMP_GREATER_OR_EQUAL, X32_BIT, 0, 1), _step(RETURN, REFUSE)]
    refused = ALWAYS + (NEW_PROCESSES if not processes else "") + (WITHOUT_NAMESPACES if not namespaces else "")
    for number in _numbers(refused, column):
        code += [_step(JUMP_EQUAL, number, 0, 1), _step(RETURN, REFUSE)]
    for number in _numbers(CLONE3, column):
        code += [_step(JUMP_EQUAL, number, 0, 1), _step(RETURN, UNKNOWN_CALL)]
    for number in _numbers(CLONE, column):
        no_thread = [] if processes else [_step(JUMP_SET, CLONE_THREAD, 1, 0), _step(RETURN, REFUSE)]
        code += _when(number, [_step(JUMP_SET, CLONE_NEW_ANY, 0, 1), _step(RETURN, REFUSE), *no_thread])
    if namespaces:
        for number in _numbers(SOCKET, column):  # a network namespace holds no vsock
            code += _when(number, [_step(JUMP_EQUAL, AF_UNIX, 1, 0), _step(RETURN, REFUSE)])
    for number in _numbers(OWN_PROCESS_ONLY, column):
        own = [_step(JUMP_EQUAL, 0, 2, 0), _step(JUMP_EQUAL, process, 1, 0), _step(RETURN, REFUSE)]
        code += _when(number, own)
    if not namespaces:
        for number in _numbers(OWN_SIGNALS_ONLY, column):
            code += _when(number, [_step(JUMP_EQUAL, process, 1, 0), _step(RETURN, REFUSE)])
    return [*code, _step(RETURN, ALLOW)]


def _when(number: int, steps: list[bytes]) -> list[bytes]:
    """Return `steps` over the first argument's lower half, taken for call `number` only; they fall through to allow."""
    body = [_step(LOAD, FIRST_ARGUMENT), *steps, _step(RETURN, ALLOW)]
    return [_step(JUMP_EQUAL, number, 0, len(body)), *body]


def _numbers(table: str, column: int) -> list[int]:
    rows = [row.split(":")[1:] for row in table.split()]
    return [int(row[column]) for row in rows if row[column] != "-"]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
