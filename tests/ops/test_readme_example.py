"""The README's program runs as it stands there, against real nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.village import PASSPHRASE, User, Village, village

README = Path(__file__).resolve().parents[2] / "README.md"
# An HTML comment names the example; the next fenced block is its program.
EXAMPLE = re.compile(r"<!-- example: sdk -->\s*```python\n(.*?)```", re.DOTALL)
LETTER = b"what a report says\n" * 1000


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with village(tmp_path_factory.mktemp("village"), foundation=3, community=3) as made:
        yield made


def program() -> str:
    found = EXAMPLE.findall(README.read_text())
    assert len(found) == 1, "README.md has one block marked <!-- example: sdk -->"
    return str(found[0])


def test_the_program_is_short() -> None:
    lines = [line for line in program().splitlines() if line.strip()]
    assert len(lines) <= 10


def test_the_program_runs(net: Village, tmp_path: Path) -> None:
    user: User = net.user("reader")
    home = tmp_path / "home"
    home.mkdir()
    user.home.rename(home / ".qustream")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "qustream").write_bytes(PASSPHRASE)
    work = tmp_path / "work"
    work.mkdir()
    (work / "report.pdf").write_bytes(LETTER)
    code = program()
    assert code.count('"qu1..."') == 1, "the reader's own id stands in for the recipient"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.replace('"qu1..."', f'"{user.text}"')],
        cwd=work,
        env=os.environ | {"HOME": str(home), "CREDENTIALS_DIRECTORY": str(credentials)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (work / "report.pdf.qs").read_bytes().startswith(b"QUSTREAM")
    copies = [path for path in work.iterdir() if path.name not in ("report.pdf", "report.pdf.qs")]
    assert [path.read_bytes() for path in copies] == [LETTER]
    assert f"{len(LETTER)} bytes from reader" in done.stdout
    assert done.stdout.count("attested healthy") == 6
