"""The reader's figures: all of them, by Prometheus' own rules, in a file that is replaced as a whole."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.debian import program

from qrngd.appliance.report import Figures, metrics_text, write_metrics
from qustream.errors import OperatorFault


def test_metrics_have_every_figure() -> None:
    figures = Figures(started_s=1.5, delivered_bytes=2, answers=3, connections=4, code="E-CONFIG", reading=True, last_answer_s=5)
    figures.failures["E-APPLIANCE-TLS"] = 6
    found = {
        sample.name: sample.value for family in text_string_to_metric_families(metrics_text(figures).decode()) for sample in family.samples
    }
    assert found == {
        "qrngd_reader_start_time_seconds": 1.5,
        "qrngd_reader_healthy": 0,
        "qrngd_reader_fifo_open": 1,
        "qrngd_reader_last_answer_timestamp_seconds": 5,
        "qrngd_reader_quota_limit_bytes": 0,
        "qrngd_reader_quota_used_bytes": 0,
        "qrngd_reader_delivered_bytes_total": 2,
        "qrngd_reader_answers_total": 3,
        "qrngd_reader_connections_total": 4,
        "qrngd_reader_failures_total": 6,
    }


@pytest.mark.needs("promtool")
def test_prometheus_has_nothing_to_say_against_the_names() -> None:
    figures = Figures(code="E-CONFIG")
    figures.failures["E-APPLIANCE-TLS"] = 6
    promtool = program("promtool")
    assert promtool is not None
    done = subprocess.run([promtool, "check", "metrics"], input=metrics_text(figures), capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_file_can_be_read_by_the_exporter_and_is_never_half_there(tmp_path: Path) -> None:
    file = tmp_path / "reader.prom"
    for number in range(3):
        write_metrics(file, Figures(answers=number))
        assert f"qrngd_reader_answers_total {number}.0" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(OperatorFault, match="E-FILE"):
        write_metrics(tmp_path / "none" / "reader.prom", Figures())
