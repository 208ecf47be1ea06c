"""What a command says when it fails reaches the journal as an error, and a terminal or a pipe as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def environment(file: int) -> dict[str, str]:
    status = os.fstat(file)
    return {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


@pytest.mark.parametrize("program", ["qrngd", "qnode"])
def test_a_failure_to_start_is_an_error_in_the_journal(tmp_path: Path, program: str) -> None:
    command = [BIN / program, "run", "--config", tmp_path / "missing.toml"]
    with (tmp_path / "journal").open("wb") as journal:
        told = environment(journal.fileno())
        done = subprocess.run(command, stderr=journal, env=told, timeout=60, check=False)
    assert done.returncode == 78
    assert (tmp_path / "journal").read_text().startswith(f"<3>{program}: E-FILE: ")
    # A pipe is not that journal, though the variable is inherited.
    elsewhere = subprocess.run(command, stderr=subprocess.PIPE, env=told, text=True, timeout=60, check=False)
    assert elsewhere.stderr.startswith(f"{program}: E-FILE: ")


def test_without_standard_error_there_is_no_journal() -> None:
    code = "import os, sys; os.close(2); from qustream.aio.journal import is_journal; print(is_journal())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
