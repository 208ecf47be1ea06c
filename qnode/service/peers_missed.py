"""What was said while a link was down (`proto/spec/peers.md`, §6): gossip tells it to those who were linked then, and once.

Two parts of a network that were cut from each other are linked again by some of their nodes. Those ask across for what the others took
meanwhile, and pass on what is news. However short a link was gone, it may have been silent for long before anybody noticed.
"""

from __future__ import annotations

import trio

from qnode.net.hub import Hub
from qnode.service.gossip import GossipService
from qnode.service.peers_known import KnownNodes
from qnode.service.peers_records import BEFORE_ALL, Records

__all__ = ["Missed"]

# A link whose peer is silent ends after a minute; what was under way before that, and waited for its judge, may be lost as well.
UNNOTICED_S = 90.0
# A page has 320 KiB; peers that do not answer hold up the others for twenty seconds.
ASKED_AT_ONCE_MAX = 8
# A peer that comes and goes makes us take its pages once a minute, not at each link; and where there are many, some of them every minute.
PAUSE_S = 60.0
# So often: the records of the largest network are 74 pages, eight at a time. Who still has more makes them up.
TURNS_MAX = 16


class Missed:
    """Of each known node whose link has ended: since when we may have missed what it knows."""

    def __init__(self, known: KnownNodes, hub: Hub, records: Records, gossip: GossipService) -> None:
        self._known, self._hub, self._records, self._gossip = known, hub, records, gossip
        self._since_s: dict[bytes, float] = {}
        self._asking: set[bytes] = set()
        self._asked_s: dict[bytes, float] = {}
        self._turns = trio.CapacityLimiter(ASKED_AT_ONCE_MAX)

    def ended(self, peer: bytes) -> None:
        """The link to this peer is gone."""
        if peer in self._known:
            self._since_s.setdefault(peer, trio.current_time() - UNNOTICED_S)

    def forget_others(self) -> None:
        """The network is another: let go of those who are not known any more."""
        self._since_s = {peer: since_s for peer, since_s in self._since_s.items() if peer in self._known}
        self._asked_s = {peer: asked_s for peer, asked_s in self._asked_s.items() if peer in self._known}

    def is_due(self, peer: bytes) -> bool:
        """Whether a link to this peer that was made now is to be followed by `ask`."""
        return peer in self._since_s and peer not in self._asking

    async def ask(self, peer: bytes) -> None:
        """Ask a linked peer for what was missed. Nothing, if it is being asked or nothing was."""
        if not self.is_due(peer):
            return
        self._asking.add(peer)
        after = BEFORE_ALL
        try:
            for _ in range(TURNS_MAX):
                await trio.sleep_until(self._asked_s.get(peer, float("-inf")) + PAUSE_S)
                self._asked_s[peer] = trio.current_time()
                async with self._turns:
                    after = await self._ask_each_link(peer, after)
                if not after:
                    return
            self._since_s.pop(peer, None)
        finally:
            self._asking.discard(peer)

    async def _ask_each_link(self, peer: bytes, after: bytes) -> bytes:
        """On the link that stands; if that ends meanwhile, on the next if it is there already, else whoever makes it asks. After which node
        there is more to be asked for; empty if it ends here."""
        while (link := self._hub.link_to(peer)) is not None and (since_s := self._since_s.pop(peer, None)) is not None:
            told = await self._records.ask(link, self._gossip, since_s, after)
            if told == b"":
                after = BEFORE_ALL
                continue
            if peer in self._known:
                self._since_s[peer] = since_s
            if told is not None:
                return told
            if self._hub.link_to(peer) is link:
                break  # it does not want to; it is asked on its next link
        return b""
