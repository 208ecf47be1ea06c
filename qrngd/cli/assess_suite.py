"""One run of the SP 800-90B suite (PyPI `sp800-90b`, NIST's own code), in a process of its own.

    samples, one a byte, on standard input  →  the last line: bits of min-entropy, or "error: why"

The suite is C++ that ends the process on input it does not like; so it has one to end.
"""

from __future__ import annotations

import importlib
import sys

__all__ = ["COMMAND", "MISSING", "run"]

MODULE = "sp800_90b"
# One argument follows, the width of a sample. Nothing of the folder somebody stands in is loaded (-P).
COMMAND = [sys.executable, "-P", "-c", "import sys; from qrngd.cli.assess_suite import run; sys.exit(run(int(sys.argv[1])))"]
# Exit code where the suite is not installed; no other program's habit.
MISSING = 66


def run(sample_bits: int) -> int:
    """In the process of its own: assess standard input. Returns the exit code."""
    try:
        suite = importlib.import_module(MODULE)
    except ImportError:
        return MISSING
    try:
        bits = float(suite.Data(sys.stdin.buffer.read(), sample_bits).h_initial())  # §3.1.3, before the submitter's own figure
    except ValueError as error:
        print(f"error: {error}")
        return 0
    print(repr(bits))
    return 0
