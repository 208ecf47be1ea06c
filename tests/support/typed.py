"""A user of a village at a shell: the command `qustream` as a real process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.village import PASSPHRASE, User

__all__ = ["COMMAND", "Typed"]

COMMAND = Path(sys.executable).parent / "qustream"


class Typed:
    """A user at a shell in a folder of his own."""

    def __init__(self, user: User, folder: Path) -> None:
        self.user = user
        self.folder = folder
        credentials = folder.parent / "credentials"
        credentials.mkdir(exist_ok=True)
        (credentials / "qustream").write_bytes(PASSPHRASE)
        folder.mkdir(exist_ok=True)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "QUSTREAM_HOME": str(user.home)}
        self.environment["CREDENTIALS_DIRECTORY"] = str(credentials)

    def start(self, *arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([COMMAND, *map(str, arguments)], cwd=self.folder, env=self.environment, **pipes | options)

    def __call__(self, *arguments: Any, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
        """Run to the end; the exit code must be `code`. Returns standard output and error."""
        out, err = self.raw(*arguments, stdin=stdin, code=code)
        return out.decode(), err

    def raw(self, *arguments: Any, stdin: bytes = b"", code: int = 0) -> tuple[bytes, str]:
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, error = process.communicate(stdin, timeout=60)
        err = error.decode()
        assert "Traceback" not in err
        assert process.returncode == code, err
        if code not in (0, 2, 130) and err:
            assert re.search(r"qustream: E-[A-Z-]+: .+[.?] Remedy: .+\.\n\Z", err, re.DOTALL), err
        return out, err

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())
