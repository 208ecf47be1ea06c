"""The pages of the leaf log: which segments there are, and each of them (`proto/spec/leaf-log.md`, "Publishing")."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import trio

from qrngd.leaflog.log import LeafLog
from qustream.aio.http import Answer, FileRoute, Route
from qustream.errors import QuStreamError
from qustream.leaflog.source import LogIndex
from qustream.model.ids import IdKind, to_text

__all__ = ["log_pages"]

INDEX = "/v1/log"
NUMBER_MAX_DIGITS = 10  # of a segment's number, 32 bits


def log_pages(log: LeafLog) -> tuple[Mapping[str, Route], Mapping[str, FileRoute]]:
    """Routes and files for `qustream.aio.http.serve_http`: `/v1/log`, and `/v1/log/<n>`, which a thread reads from the disk."""

    def index() -> Answer:
        segments = log.index()
        first, last = segments[0].number, segments[-1].number
        page = LogIndex(log.chain, to_text(IdKind.QRNG, log.server), first, last, sum(segment.size_bytes for segment in segments))
        return Answer(200, msgspec.json.encode(page), "application/json")

    async def segment(name: str) -> Answer | None:
        if not name.isascii() or not name.isdigit() or len(name) > NUMBER_MAX_DIGITS:
            return None
        try:
            data = await trio.to_thread.run_sync(log.read, int(name))
        except QuStreamError as error:
            return Answer(503, msgspec.json.encode({"error": error.row.meaning}), "application/json")
        return None if data is None else Answer(200, data, "application/octet-stream")

    return {INDEX: index}, {f"{INDEX}/": segment}
