"""What is asked of the kernel for memory that holds randomness. Each in a process of its own: it cannot be taken back."""

from __future__ import annotations

import subprocess
import sys


def test_neither_a_core_file_nor_one_through_a_pipe() -> None:
    """A core that the kernel pipes to a program is not bound by the limit; see core(5)."""
    code = (
        "import ctypes, resource; from qrngd.memory import forbid_core_dumps; forbid_core_dumps();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(0, 0) 0"
