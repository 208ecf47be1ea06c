"""What a node does in bulk, put together: pieces both ways, the network file that travels, the probe of a line (`proto/spec/bulk.md`)."""

from __future__ import annotations

from pathlib import Path

from qnode.api.peers import BulkCounts
from qnode.net.answers import Desk
from qnode.net.bulk import BULK_TAGS, Bulk
from qnode.net.probe import PROBE_TAGS, Probes
from qnode.net.session import Session
from qnode.service.network_file import NETWORK_FILE_ROOM_BYTES, NETWORK_FILE_TAGS, NetworkFiles
from qnode.service.peers import PeerService
from qnode.service.watch import NetworkWatch
from qnode.store.pieces import PieceStore
from qustream.registry import NetworkFileRegistry

__all__ = ["BulkService"]

FOLDER = "bulk"  # in the data directory


class BulkService:
    """One node's. `run` it beside the peer service."""

    def __init__(self, peers: PeerService, desk: Desk, files: tuple[NetworkWatch, NetworkFileRegistry] | None, data_dir: Path) -> None:
        """`files`: for a node whose network is a file's."""
        self._peers = peers
        self._bulk = Bulk(charge=self._charge, stands=self._stands, clock_ms=peers.steady_ms)
        probes = Probes(self._bulk.turns, charge=self._charge, clock_ms=peers.steady_ms, operator=self._operator)
        self._bulk.take_probe = probes.take
        desk.route(BULK_TAGS, self._bulk.answer)
        desk.route(PROBE_TAGS, probes.answer)
        peers.take_bulk = self._bulk.take
        self._files = None
        if files is not None:
            self._files = NetworkFiles(
                self._bulk, *files, lambda: PieceStore(data_dir / FOLDER, room_bytes=NETWORK_FILE_ROOM_BYTES),
                stands=self._stands, charge=self._charge,
            )  # fmt: skip
            desk.route(NETWORK_FILE_TAGS, self._files.answer)
            peers.height_heard = self._files.height_heard

    async def run(self) -> None:
        """Until cancelled: what has to be fetched by itself."""
        if self._files is not None:
            await self._files.run()

    def counts(self) -> BulkCounts:
        """For the status."""
        count = self._bulk.count
        return BulkCounts(count.served, count.fetched, count.failed, count.bytes_in, count.bytes_out)

    def _stands(self, session: Session) -> bool:
        return self._peers.hub.get(session.number) is session

    def _operator(self, peer: bytes) -> str:
        known = self._peers.known.get(peer)
        return known.operator if known is not None else peer.hex()  # struck off a moment ago

    def _charge(self, session: Session, _code: str) -> None:
        """A bad message of gossip, if it is a link; anybody else loses the connection."""
        if self._peers.hub.link_to(session.peer) is session:
            self._peers.gossip.misled(session.peer)
        elif self._stands(session):
            self._peers.hub.hang_up(session, "E-ANSWER-INVALID", "what was told is not true")
