"""What a decoding process may not do, set on itself before it sees the first byte of a clip.

Resource limits hold on every POSIX system. On Linux a system call filter (seccomp, x86-64 and
arm64) leaves it reading and computing: no socket, no other program, no signal to another process,
nothing created, renamed or removed. A library that is taken over by a crafted file can do no more.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _REFUSE, _UNKNOWN, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD = 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# System calls by number, from the kernel's tables (unistd_64.h; asm-generic/unistd.h): sockets,
# programs, other processes, other places of the file system, what changes files by name, and
# io_uring, which would go around this list.
_X86_64 = (
    *(41, 42, 43, 49, 50, 53, 57, 58, 59, 62, 76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92),
    *(94, 101, 133, 155, 161, 165, 166, 175, 200, 234, 246, 248, 249, 250, 258, 259, 260, 263),
    *(264, 265, 266, 268, 272, 288, 298, 303, 304, 308, 310, 311, 313, 316, 320, 321, 322, 323),
    *(424, 425, 426, 427, 428, 429, 430, 431, 432, 434, 437, 438, 442, 452),
)
_ARM64 = (
    *(33, 34, 35, 36, 37, 38, 39, 40, 41, 45, 46, 51, 52, 53, 54, 97, 104, 105, 106, 117, 129),
    *(130, 131, 198, 199, 200, 201, 202, 203, 217, 218, 219, 221, 241, 242, 264, 265, 268, 270),
    *(271, 273, 276, 280, 281, 282, 294, 424, 425, 426, 427, 428, 429, 430, 431, 432, 434, 437),
    *(438, 442, 452),
)
_OPEN_CALLS = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}
"""The calls that open by name, with the place of their flags among the arguments."""
_CLONE, _CLONE3 = {"x86_64": 56, "aarch64": 220}, 435
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _ARM64)}


def limit_process(*, memory_bytes: int, cpu_s: int) -> None:
    """Limit this process for the rest of its life; it dies with its parent where that can be had.

    Args:
        memory_bytes: address space on top of what it has now.
        cpu_s: processor time, whole seconds, at least 1.
    """
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":  # elsewhere this limit is not kept, or stops the process itself
        limits[resource.RLIMIT_AS] = _address_space_bytes() + memory_bytes
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One more second to the hard limit, so that the end of the soft one can be told apart.
        beyond = value + 1 if name == resource.RLIMIT_CPU and hard != value else value
        resource.setrlimit(name, (value, beyond))
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def refuse_system_calls() -> bool:
    """Install the system call filter and return whether it holds."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES:
        return False
    program = _filter_program(machine)
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    header = Program(len(program) // 8, ctypes.addressof(code))
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1) and _prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header)
    )


def _filter_program(machine: str) -> bytes:
    """Return a classic BPF program over ``struct seccomp_data``."""
    architecture, refused = _MACHINES[machine]
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_JUMP_AT_LEAST, 0x40000000, 0, 1),  # the x32 calls are the same under other numbers
        _step(_RETURN, _REFUSE),
        _step(_JUMP_EQUAL, _CLONE3, 0, 1),  # its flags lie in memory; libraries fall back to clone
        _step(_RETURN, _UNKNOWN),
    ]
    for number in refused:
        code += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE)]
    for number, place in _OPEN_CALLS[machine]:
        code += _on_bits(number, place, _WRITING, if_any=_REFUSE, if_none=_ALLOW)
    code += _on_bits(_CLONE[machine], 0, _CLONE_THREAD, if_any=_ALLOW, if_none=_REFUSE)
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _on_bits(number: int, place: int, bits: int, *, if_any: int, if_none: int) -> list[bytes]:
    """Return the steps that decide one call by bits of an argument."""
    return [
        _step(_JUMP_EQUAL, number, 0, 4),
        _step(_LOAD, _ARGUMENTS + 8 * place),
        _step(_JUMP_ANY_BIT, bits, 0, 1),
        _step(_RETURN, if_any),
        _step(_RETURN, if_none),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _prctl(option: int, *arguments: int) -> bool:
    with suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        return bool(prctl(option, *[*arguments, 0, 0, 0][:4]) == 0)
    return False


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()
