"""The loop in a thread of the test: it asks only for what is read, hands on exactly what the appliance gave, and nothing else ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.appliance import TOKEN, Appliance, Authority, Exchange, honest
from support.daemon import until

from qrngd.appliance import pace
from qrngd.appliance.config import ReaderConfig
from qrngd.appliance.reader import ApplianceReader, find_token
from qustream.errors import OperatorFault

PIPE_BYTES = 65_536


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o600)
    return tmp_path


@contextmanager
def reading(config: ReaderConfig) -> Iterator[ApplianceReader]:
    stop = threading.Event()
    reader = ApplianceReader(config, stopping=stop.is_set)
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        yield reader
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def config_of(appliance: Appliance, authority: Authority, folder: Path, **settings: object) -> ReaderConfig:
    own = {"authority_file": authority.file, "token_file": folder / "token"} | settings
    return ReaderConfig(appliance.url, folder / "fifo", **own)  # type: ignore[arg-type]


@contextmanager
def fifo_of(config: ReaderConfig) -> Iterator[Callable[[int], bytes]]:
    """What reads the FIFO: gives exactly so many bytes."""
    handle = os.open(config.output, os.O_RDONLY | os.O_NONBLOCK)

    def take(size: int) -> bytes:
        got = bytearray()

        def more() -> bool:
            try:
                got.extend(os.read(handle, size - len(got)))
            except BlockingIOError:
                return False
            return len(got) == size

        until(more)
        return bytes(got)

    try:
        yield take
    finally:
        os.close(handle)


def is_empty(config: ReaderConfig) -> bool:
    """Whether there is nothing in the FIFO for somebody who comes now."""
    handle = os.open(config.output, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(handle, 1) == b""
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def test_only_what_is_read_is_asked_for(appliance: Appliance, authority: Authority, folder: Path) -> None:
    config = config_of(appliance, authority, folder)
    assert config.request_bytes == PIPE_BYTES
    with reading(config) as reader:
        looked = threading.Event()
        looked.wait(0.6)  # two looks of an idle reader
        assert not appliance.requests, "nobody reads, so nothing is asked"
        with fifo_of(config) as take:
            until(lambda: reader.figures.delivered_bytes == PIPE_BYTES)
            looked.wait(0.6)
            assert len(appliance.requests) == 1, "the pipe is full"
            got = take(3 * PIPE_BYTES)
            until(lambda: reader.figures.answers == 4)
            got += take(PIPE_BYTES)
        assert got == bytes(appliance.delivered)[: len(got)]
        until(lambda: not reader.figures.reading)
        asked = len(appliance.requests)
        looked.wait(0.6)
        assert len(appliance.requests) == asked, "qrngd has left"
    assert appliance.connections == 1


def test_a_replayed_answer_is_named_and_not_handed_on(appliance: Appliance, authority: Authority, folder: Path) -> None:
    recorded: list[dict[str, object]] = []

    def cached(exchange: Exchange) -> None:
        if not recorded:
            blocks = exchange.blocks()
            exchange.appliance.delivered += b"".join(blocks)
            recorded.append(exchange.document(blocks))
        exchange.answer(recorded[0])

    appliance.behave = cached
    config = config_of(appliance, authority, folder)
    with reading(config) as reader, fifo_of(config) as take:
        first = take(PIPE_BYTES)
        until(lambda: reader.figures.code == "E-APPLIANCE-ANSWER")
        assert first == bytes(appliance.delivered)
        assert reader.figures.delivered_bytes == PIPE_BYTES, "the replay went nowhere"


@pytest.mark.parametrize("status", [401, 429, 503])
def test_nothing_is_delivered_in_place_of_what_cannot_be_had(
    appliance: Appliance, authority: Authority, folder: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in pace.FIRST_PAUSE_S:
        monkeypatch.setitem(pace.FIRST_PAUSE_S, code, 0.05)
    monkeypatch.setattr(pace, "FIRST_PAUSE_OTHER_S", 0.05)
    appliance.behave = lambda exchange: exchange.answer({"message": "no"}, status)
    config = config_of(appliance, authority, folder, metrics_file=folder / "reader.prom")
    codes = {401: "E-APPLIANCE-TOKEN", 429: "E-APPLIANCE-QUOTA", 503: "E-APPLIANCE-UNREACHABLE"}
    with reading(config) as reader, fifo_of(config) as take:
        until(lambda: reader.figures.failures[codes[status]] >= 3)
        assert reader.figures.delivered_bytes == 0
        appliance.behave = honest
        assert take(PIPE_BYTES) == bytes(appliance.delivered)[:PIPE_BYTES], "it comes back by itself"
        assert reader.figures.code == ""
    families = {family.name: family for family in text_string_to_metric_families((folder / "reader.prom").read_text())}
    [failures] = families["qrngd_reader_failures"].samples
    assert failures.labels == {"code": codes[status]}
    assert failures.value >= 3
    assert families["qrngd_reader_healthy"].samples[0].value == 1


def test_the_quota_is_kept_over_a_restart_and_costs_no_request(
    appliance: Appliance, authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qrngd.appliance.reader.time.time", lambda: 1_800_000_000.0)  # midnight is the end of a quota
    (folder / "state").mkdir()
    config = config_of(appliance, authority, folder, quota_bytes_per_day=2 * PIPE_BYTES, state_dir=folder / "state")
    with reading(config) as reader, fifo_of(config) as take:
        take(2 * PIPE_BYTES)
        until(lambda: reader.figures.code == "E-APPLIANCE-QUOTA")
    with reading(config) as reader, fifo_of(config):
        until(lambda: reader.figures.code == "E-APPLIANCE-QUOTA")
        assert reader.figures.answers == 0
    assert len(appliance.requests) == 2
    assert is_empty(config)


def test_a_refused_request_costs_no_quota(
    appliance: Appliance, authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "FIRST_PAUSE_OTHER_S", 0.05)
    (folder / "state").mkdir()
    appliance.behave = lambda exchange: exchange.answer({}, 503)
    config = config_of(appliance, authority, folder, quota_bytes_per_day=PIPE_BYTES, state_dir=folder / "state")
    with reading(config) as reader, fifo_of(config) as take:
        until(lambda: reader.figures.failures["E-APPLIANCE-UNREACHABLE"] >= 3)
        appliance.behave = honest
        take(PIPE_BYTES)


def test_metrics_that_cannot_be_written_stop_nothing(appliance: Appliance, authority: Authority, folder: Path) -> None:
    config = config_of(appliance, authority, folder, metrics_file=folder / "none" / "reader.prom")
    with reading(config), fifo_of(config) as take:
        take(PIPE_BYTES)


def test_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "token"
    assert find_token(file) == TOKEN.encode()
    for wrong in ("", "\n", "two words", "tök", "a\nX-Header: b"):
        file.write_text(wrong)
        with pytest.raises(OperatorFault) as caught:
            find_token(file)
        assert caught.value.code == "E-APPLIANCE-TOKEN"
        assert not wrong.strip() or wrong not in str(caught.value)
    file.chmod(0o640)
    with pytest.raises(OperatorFault) as caught:
        find_token(file)
    assert caught.value.code == "E-KEYSTORE-MODE"
    with pytest.raises(OperatorFault) as caught:
        find_token(None)
    assert caught.value.code == "E-APPLIANCE-TOKEN"
    (folder / "qrngd-reader").write_text("from-systemd")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert find_token(file) == b"from-systemd"
