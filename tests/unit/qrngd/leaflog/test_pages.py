"""The log over HTTP, read as an auditor reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from support.leaf_logs import CHAIN, Writer

from qrngd.leaflog import LeafLog, log_pages
from qrngd.leaflog import log as module
from qustream.aio.http import serve_http
from qustream.leaflog.audit import AuditedLog, audit
from qustream.leaflog.segment import read_segment
from qustream.leaflog.source import LogPages
from qustream.model.ids import IdKind, to_text

WRITER = Writer()


@asynccontextmanager
async def published(log: LeafLog) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        routes, files = log_pages(log)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        served = await nursery.start(partial(serve_http, listeners, routes, files=files))
        yield "http://{}:{}".format(*served[0].socket.getsockname())
        nursery.cancel_scope.cancel()


def audited(address: str) -> AuditedLog:
    (log,) = audit([LogPages(address)], chain=CHAIN, server_of={WRITER.key.id: WRITER.record}.get)
    return log


async def test_a_log_is_audited_over_its_pages_while_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_MAX_BYTES", 12_000)
    with LeafLog(tmp_path, CHAIN, WRITER.key.id) as log:
        async with published(log) as address:
            assert (await trio.to_thread.run_sync(audited, address)).entries == 0
            for number in range(10):
                log.append(*WRITER.batch(number))
            found = await trio.to_thread.run_sync(audited, address)
            assert (found.entries, found.last_batch, found.last_segment, found.torn_bytes) == (10, 9, 3, 0)
            index = await trio.to_thread.run_sync(LogPages(address).index)
            assert (index.chain, index.server, index.first, index.last) == (CHAIN, to_text(IdKind.QRNG, WRITER.key.id), 0, 3)
            assert index.bytes == sum(info.size_bytes for info in log.index())


async def test_only_what_is_kept_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_MAX_BYTES", 12_000)
    with LeafLog(tmp_path, CHAIN, WRITER.key.id, keep_bytes=1) as log:
        for number in range(10):
            log.append(*WRITER.batch(number))
        (tmp_path / "secret").write_bytes(b"no page")
        async with published(log) as address:
            pages = LogPages(address)
            data = await trio.to_thread.run_sync(pages.segment, 3)
            assert data is not None
            assert read_segment(data).header.segment == 3
            assert await trio.to_thread.run_sync(pages.segment, 1) is None
            assert await trio.to_thread.run_sync(pages.segment, 1 << 40) is None
        _, files = log_pages(log)
        for name in ("", "x", "../secret", "secret", "-1", "3 ", "٣", "00000000003", "+3", "3.leaves"):
            assert await files["/v1/log/"](name) is None


async def test_a_disk_that_cannot_be_read_is_said_without_its_paths(tmp_path: Path) -> None:
    with LeafLog(tmp_path, CHAIN, WRITER.key.id) as log:
        _, files = log_pages(log)
        file = log._file(0)
        file.rename(tmp_path / "away")
        file.mkdir()
        answer = await files["/v1/log/"]("0")
        assert answer is not None
        assert answer.status == 503
        assert str(tmp_path).encode() not in answer.body
        file.rmdir()
        assert await files["/v1/log/"]("0") is None
