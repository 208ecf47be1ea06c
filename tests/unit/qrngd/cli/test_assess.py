"""`qrngd assess`: what it says of known samples, of files nobody should have made, and of a suite that fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest

from qrngd.cli import cli
from qrngd.cli.capture import SAMPLES_MAX
from qustream.errors import QuStreamError


def qrngd(*arguments: str | Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, [str(argument) for argument in arguments])


def assessed(file: Path, bits: int, *arguments: str) -> dict[str, Any]:
    done = qrngd("assess", file, "--sample-bits", str(bits), "--json", *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    report: dict[str, Any] = json.loads(done.output)
    return report


def test_few_samples_get_the_quick_figures_and_no_line_for_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "raw"
    file.write_bytes(np.random.default_rng(3).bytes(100_000))
    report = assessed(file, 8)
    assert (report["samples"], report["suite_millibits"], report["configuration"]) == (100_000, None, "")
    assert "SP 800-90B asks for 1000000" in report["suite_note"]
    assert 7500 < report["min_entropy_millibits"] == min(report["most_common_millibits"], report["dependence_millibits"]) < 8000
    text = qrngd("assess", file, "--sample-bits", "8").output
    assert "NOT the SP 800-90B suite" in text
    assert "assessed_min_entropy_millibits" not in text


def test_the_smaller_of_claim_and_figure_counts(tmp_path: Path) -> None:
    file = tmp_path / "raw"
    file.write_bytes(os.urandom(100_000))
    assert assessed(file, 8, "--claimed-millibits", "5000")["min_entropy_millibits"] == 5000
    assert assessed(file, 8, "--claimed-millibits", "8000")["min_entropy_millibits"] < 8000


def test_bits_and_wide_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "bits").write_bytes((rng.random(50_000) < 0.25).astype(np.uint8).tobytes())
    assert assessed(tmp_path / "bits", 1)["min_entropy_millibits"] == pytest.approx(415, abs=15)
    (tmp_path / "wide").write_bytes(rng.integers(0, 1 << 12, 1_000_000, dtype=np.uint16).astype("<u2").tobytes())
    report = assessed(tmp_path / "wide", 12)
    assert (report["samples"], report["suite_note"]) == (1_000_000, "the SP 800-90B suite takes samples of at most 8 bits")
    assert 11_000 < report["min_entropy_millibits"] < 12_000


@pytest.mark.parametrize(
    ("raw", "bits", "says"),
    [
        (b"", 8, "not two samples"),
        (b"\1", 8, "not two samples"),
        (b"\1\2\3", 12, "not two samples or more of 2 bytes"),
        (b"\1\2\4", 2, "3 bits where 2 are the most"),
        (b"\1\2\1\x10", 12, "13 bits where 12 are the most"),
    ],
)
def test_files_that_are_no_capture(tmp_path: Path, raw: bytes, bits: int, says: str) -> None:
    (tmp_path / "raw").write_bytes(raw)
    error = qrngd("assess", tmp_path / "raw", "--sample-bits", str(bits)).exception
    assert isinstance(error, QuStreamError)
    assert (error.code, says in error.detail) == ("E-FILE", True), error.detail


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(SAMPLES_MAX + 1)
    for name in ("fifo", "large", "none", "/dev/zero"):
        error = qrngd("assess", tmp_path / name, "--sample-bits", "8").exception
        assert isinstance(error, QuStreamError)
        assert error.code == "E-FILE"


GIVES = "class Data:\n  def __init__(self, raw, bits): pass\n  def h_initial(self): return "
BROKEN_SUITES = {
    "import os\nos.abort()": "the SP 800-90B suite gave up: exit -6",
    "raise ImportError": "the SP 800-90B suite is not installed: pip install sp800-90b",
    "def Data(raw, bits): raise ValueError('Symbol alphabet')": "the SP 800-90B suite gave up: Symbol alphabet",
    GIVES + "9.5": "the SP 800-90B suite gave no figure but '9.5'",
    GIVES + "float('nan')": "the SP 800-90B suite gave no figure but 'nan'",
}


@pytest.mark.parametrize("code", BROKEN_SUITES)
def test_a_suite_that_fails_is_named_and_the_quick_figures_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    (tmp_path / "sp800_90b.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "raw").write_bytes(os.urandom(1_000_000))
    report = assessed(tmp_path / "raw", 8)
    assert (report["suite_millibits"], report["suite_note"], report["configuration"]) == (None, BROKEN_SUITES[code], "")
    assert report["min_entropy_millibits"] > 7000


def test_the_suites_figure_is_rounded_down_and_goes_into_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sp800_90b.py").write_text(
        "class Data:\n  def __init__(self, raw, bits): assert (len(raw), bits) == (1000000, 4)\n"
        "  def h_initial(self): print('Warning: from C++'); return 3.1239"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "raw").write_bytes(bytes(byte & 15 for byte in os.urandom(1_000_000)))
    report = assessed(tmp_path / "raw", 4)
    assert (report["suite_millibits"], report["configuration"]) == (3123, "assessed_min_entropy_millibits = 3123")
    text = qrngd("assess", tmp_path / "raw", "--sample-bits", "4", "--claimed-millibits", "3000").output
    assert text.endswith("\nassessed_min_entropy_millibits = 3000\n")


def test_no_module_of_the_folder_one_stands_in_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sp800_90b.py").write_text(GIVES + "7.999")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "raw").write_bytes(bytes(1_000_000))
    assert assessed(tmp_path / "raw", 8)["suite_millibits"] is None


@pytest.mark.needs("sp800-90b")
def test_the_suite_itself_finds_a_known_bias(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    (tmp_path / "raw").write_bytes((rng.random(1_000_000) < 0.25).astype(np.uint8).tobytes())
    report = assessed(tmp_path / "raw", 1)
    assert report["suite_note"] == "SP 800-90B §3.1.3, non-IID track"
    assert 150 < report["suite_millibits"] < 416, "the suite errs on the low side"
