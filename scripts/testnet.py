#!/usr/bin/env python3
"""A QuStream network on this machine: one QRNG server and N nodes, each a real daemon with its own keys, directory and log, and a chain of
their own, on which users are entered and buy grants.

Node i listens on 127.i.0.1. Typical use:

    \b
    scripts/testnet.py up                      3 foundation and 3 community nodes, four of them validators
    scripts/testnet.py enrol ~/.qustream       enter a user in the chain, with an account that has some money
    scripts/testnet.py grant ~/.qustream       buy that user 1,024 requests
    scripts/testnet.py pay qst1... 1000        money for other things
    scripts/testnet.py peers                   who is linked to whom
    scripts/testnet.py kill node2              kill -9, as a power cut would
    scripts/testnet.py restart node2
    scripts/testnet.py down
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def into_venv() -> None:
    """Go on in the project's own environment, made first where it is missing."""
    python = HERE.parent / ".venv" / "bin" / "python"
    if Path(sys.prefix).resolve() != python.parent.parent.resolve():
        subprocess.run([HERE / "setup", "node"], check=True)
        os.execv(python, [str(python), __file__, *sys.argv[1:]])


if __name__ == "__main__":
    into_venv()
    from localnet.commands import main

    main()
