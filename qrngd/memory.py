"""What Python allows for memory that holds randomness: no core dump, no swap. What it does not allow is said here, too.

Locked: every page of the process from the moment it is first used (`mlockall` with MCL_ONFAULT), keys and buffers of libraries included.
It takes a limit that permits it (`LimitMEMLOCK=infinity` in the unit); without it the daemon runs all the same and says so in its status.
Wiped: units, raw and conditioned buffers, which are ours. Not wiped: immutable `bytes` that libraries make on the way (the DRBG's output,
TLS records, the signing key's seed), until the allocator uses their memory again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource

__all__ = ["forbid_core_dumps", "lock_memory"]

_PR_SET_DUMPABLE = 4  # prctl(2); a program that this one starts has to do it again
# mlockall(2): what is mapped, what will be, and only pages that are touched.
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def forbid_core_dumps() -> None:
    """From now on this process leaves no core file, and its children none as a file. A service manager that forbids the call has forbidden
    them already. The limit does not bind a program that the kernel pipes cores to (core(5)); not being dumpable does, and keeps other
    programs of the same user out of this memory besides (ptrace(2), /proc/PID/mem, the shared memory behind /proc/PID/fd)."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_memory() -> bool:
    """Keep this process out of swap; False where that is not permitted (or not Linux).

    Under a finite limit a later allocation would fail instead of this call, so it is not even tried then.
    """
    if os.geteuid() != 0 and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        return False
    mlockall = getattr(ctypes.CDLL(None), "mlockall", None)
    return mlockall is not None and mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
