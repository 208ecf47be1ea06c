"""What a node remembers of its peers where its disk takes nothing: as much, until it ends (`proto/spec/peers.md`, §1 and §3)."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from qnode.store.peers import PeerStore
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.model.base import Signed

__all__ = ["ForgetfulKeeper", "open_keeper"]


class ForgetfulKeeper:
    """As `qnode.store.peers.PeerStore`, in memory."""

    def __init__(self) -> None:
        self._anchors: tuple[bytes, ...] = ()
        self._records: dict[bytes, Signed] = {}
        self._issued_ms = 0

    def anchors(self) -> tuple[bytes, ...]:
        return self._anchors

    def keep_anchors(self, anchors: Sequence[bytes]) -> None:
        self._anchors = tuple(anchors)

    def records(self) -> list[tuple[bytes, Signed]]:
        return list(self._records.items())

    def records_of(self, nodes: Sequence[bytes]) -> dict[bytes, Signed]:
        return {node: self._records[node] for node in nodes if node in self._records}

    def keep_records(self, records: Mapping[bytes, Signed]) -> None:
        self._records.update(records)

    def forget_others(self, known: Container[bytes]) -> None:
        self._records = {node: signed for node, signed in self._records.items() if node in known}

    def issued_ms(self) -> int:
        return self._issued_ms

    def keep_issued_ms(self, issued_ms: int) -> None:
        self._issued_ms = issued_ms


def open_keeper(folder: Path, opened: ExitStack) -> PeerStore | None:
    """What the disk knows of peers, to be closed with `opened`. It is a convenience: without it the node asks its peers again."""
    try:
        keeper = opened.enter_context(PeerStore.open(folder))
    except QuStreamError as error:
        logger("qnode").warning("peers are not remembered", code=error.code, detail=error.detail)
        return None
    if keeper.lost:
        logger("qnode").warning("what was known of peers is lost, and asked for again", reason=keeper.lost)
    return keeper
