"""Somebody at a shell who runs the commands as real processes, with an account of his own.

operator = Person(OPERATOR, folder, "http://127.0.0.1:7480")
operator("qnode", "licence", "list", "--mine")
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.chain_circle import CHAIN
from support.living_chain import PASSPHRASE, Holder

__all__ = ["Person"]

BIN = Path(sys.executable).parent


class Person:
    """Somebody at a shell."""

    def __init__(self, holder: Holder, folder: Path, api: str) -> None:
        self.holder, self.home, self.credentials = holder, folder / "home", folder / "credentials"
        self.credentials.mkdir(parents=True)
        (self.credentials / "qustream").write_bytes(PASSPHRASE)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "QUSTREAM_HOME": str(self.home)}
        self.environment["CREDENTIALS_DIRECTORY"] = str(self.credentials)
        self("qustream", "wallet", "restore", "--chain", CHAIN, "--api", api, typed=holder.words)

    def __call__(self, program: str, *arguments: object, typed: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [BIN / program, *map(str, arguments)],
            input=typed,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=180,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert self.holder.words.split()[0] not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, program: str, *arguments: object, typed: str = "") -> Any:
        return json.loads(self(program, *arguments, "--json", typed=typed))
