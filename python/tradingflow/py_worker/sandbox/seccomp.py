"""A seccomp filter that takes away what an interpreter never needs: network, other processes, new kernel doors.

Standard library only: it is installed by the sandbox launcher, before the interpreter starts. Classic BPF as in
`seccomp(2)`; refused calls fail with EPERM, a call of a foreign architecture ends the process.
"""

from __future__ import annotations

import ctypes
import platform
import struct

EPERM, ENOSYS = 1, 38
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
OFFSET_NUMBER, OFFSET_ARCHITECTURE, OFFSET_ARGUMENT_0 = 0, 4, 16
CLONE_THREAD = 0x10000
X32_BIT = 0x40000000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
# name: (x86_64, aarch64); None where the architecture has no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "fork": (57, None),
    "vfork": (58, None),
    "kill": (62, 129),
    "tkill": (200, 130),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "personality": (135, 92),
    "mknod": (133, None),
    "mknodat": (259, 33),
}


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def filter_program(machine: str) -> bytes:
    """The filter for one architecture. Raises KeyError for one we have no numbers for."""
    column = list(ARCHITECTURES).index(machine)
    program = [
        _instruction(LOAD, OFFSET_ARCHITECTURE),
        _instruction(JUMP_EQUAL, ARCHITECTURES[machine], 1, 0),
        _instruction(RETURN, KILL_PROCESS),
        _instruction(LOAD, OFFSET_NUMBER),
    ]
    if machine == "x86_64":
        program += _refuse(_instruction(JUMP_AT_LEAST, X32_BIT, 0, 1), EPERM)
    for numbers in DENIED.values():
        if (number := numbers[column]) is not None:
            program += _refuse(_instruction(JUMP_EQUAL, number, 0, 1), EPERM)
    # clone3 hides its flags in memory, where a filter cannot look: the C library then uses clone.
    program += _refuse(_instruction(JUMP_EQUAL, CLONE3, 0, 1), ENOSYS)
    program += [
        _instruction(JUMP_EQUAL, CLONE[machine], 0, 3),
        _instruction(LOAD, OFFSET_ARGUMENT_0),
        _instruction(JUMP_SET, CLONE_THREAD, 1, 0),
        _instruction(RETURN, ERRNO | EPERM),
        _instruction(RETURN, ALLOW),
    ]
    return b"".join(program)


def _refuse(test: bytes, errno: int) -> list[bytes]:
    return [test, _instruction(RETURN, ERRNO | errno)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def install() -> None:
    """Bind this process and all it becomes. Cannot be undone. Raises OSError where the kernel refuses."""
    instructions = filter_program(platform.machine())
    program = _Program(len(instructions) // 8, instructions)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))


def prctl(option: int, *arguments: object) -> int:
    """`prctl(2)`. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, *[0] * (4 - len(arguments))]
    # Variadic in C: every argument must be as wide as a register.
    result = int(libc.prctl(option, *(ctypes.c_ulong(a) if isinstance(a, int) else a for a in padded)))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} was refused")
    return result
