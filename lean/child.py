"""A process that limits itself, then becomes Lean:

    python -I -S child.py CPU_SECONDS MEMORY_BYTES PROGRAM ARGS...

PROGRAM is a `lean`, or the shared library of one. Every batch of proofs pays for the start of
this file: it imports nothing but what it needs of the standard library.
"""

import ctypes
import os
import resource
import struct
import sys

# The machine's own mark, and numbers of its system calls: those that open a network, those that
# start a process, clone, clone3.
CALLS = {
    "x86_64": (0xC000003E, (41, 425), (57, 58, 59, 322), 56, 435),
    "aarch64": (0xC00000B7, (198, 425), (221, 281), 220, 435),
}
# Instructions of the kernel's little language for filters (BPF), and what a filter can answer.
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOWED, DENIED, NOT_THERE = 0x7FFF0000, 0x50000 | 1, 0x50000 | 38  # EPERM, ENOSYS
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CLONE_THREAD = 0x10000
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22


def main(cpu, memory, program, *args):
    limit("CPU", int(cpu))
    limit("AS", int(memory))
    limit("FSIZE", 2**27)
    limit("CORE", 0)
    libc = ctypes.CDLL(None)
    embedded = program.endswith((".so", ".dylib"))
    confine(libc, alone=embedded)
    if not embedded:
        os.execvp(program, [program, *args])

    # Line by line, so that what was answered before a timeout is seen.
    name = "stdout" if sys.platform == "linux" else "__stdoutp"
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, name), None, 1, 0)
    # Small proofs are checked in turn: a quarter faster.
    argv = [b"lean", b"-DElab.async=false", *map(os.fsencode, args)]
    c_argv = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    status = ctypes.CDLL(program).lean_main(len(argv), c_argv)
    libc.fflush(None)
    os._exit(status)


def limit(kind, value):
    try:
        resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (value, value))
    except (ValueError, OSError):
        pass  # a tighter limit is already set, or (macOS) the system has no such limit


def confine(libc, alone):
    """Linux, from here on, for this process and all that it starts: no network, and when
    `alone` no other process or program (threads may start). True when the kernel took the
    order, a seccomp filter: it needs no rights and holds for root and in containers. Elsewhere
    (macOS, other machines) neither limit holds.

    A program that is not `alone` (`lake` starts `lean`) and not root's also gets a user
    namespace with no network and 1024 threads at most, where the system lets users have one:
    RLIMIT_NPROC elsewhere counts all the threads of the user, and root's never.
    """
    calls = CALLS.get(os.uname().machine)
    if sys.platform != "linux" or not calls:
        return False

    uid = os.getuid()
    if not alone and uid and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
        try:
            with open("/proc/self/uid_map", "w") as file:
                file.write(f"{uid} {uid} 1")
            limit("NPROC", 1024)
        except OSError:
            pass  # the system lets nobody write that file

    code = call_filter(alone, *calls)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc.prctl(*map(ctypes.c_ulong, (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
    return libc.prctl(*map(ctypes.c_ulong, (PR_SET_SECCOMP, 2)), program) == 0


def call_filter(alone, machine, network, processes, clone, clone3):
    """What the kernel runs before each system call. A step that tests has two numbers behind
    its value: how many steps to skip when the test is true, and when it is false."""
    code = step(LOAD, 4) + step(EQUAL, machine, 1, 0) + step(RETURN, DENIED)
    code += step(LOAD, 0)  # the call's number
    code += step(AT_LEAST, 2**30, 0, 1) + step(RETURN, DENIED)
    for call in network + processes if alone else network:
        code += step(EQUAL, call, 0, 1) + step(RETURN, DENIED)
    if alone:
        # clone3 hides its flags: say that there is none, and libc uses clone.
        code += step(EQUAL, clone3, 0, 1) + step(RETURN, NOT_THERE)
        # clone starts a thread when its flags, the call's first argument, say so.
        code += step(EQUAL, clone, 0, 3) + step(LOAD, 16)
        code += step(ANY_BIT, CLONE_THREAD, 1, 0) + step(RETURN, DENIED)
    return code + step(RETURN, ALLOWED)


def step(instruction, value, if_true=0, if_false=0):
    return struct.pack("HBBI", instruction, if_true, if_false, value)


if __name__ == "__main__":
    main(*sys.argv[1:])
