"""A town in which nodes come and go, are struck off and listed again, and talk: whatever happens, the three who keep account of links
agree, and when it is over everybody is linked to everybody."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from support.peers_town import Town, TownNode, town

from qnode.core import peers_attempts, peers_limits
from qnode.service.gossip import Verdict
from qustream.wire.gossip import Topic

STEPS = 25


class History:
    """One run of chance."""

    def __init__(self, t: Town, seed: int) -> None:
        self.t, self.chance = t, random.Random(seed)
        self.up, self.listed = list(t.nodes), list(t.nodes)

    async def step(self) -> None:
        what, node = self.chance.random(), self.chance.choice(self.t.nodes)
        if what < 0.3 and node in self.up and len(self.up) > 2:
            self.up.remove(node)
            await node.stop()
        elif what < 0.6 and node not in self.up:
            self.up.append(node)
            await node.start()
        elif what < 0.7 and node in self.listed and len(self.listed) > 3:
            self.list(node, False)
        elif what < 0.8 and node not in self.listed:
            self.list(node, True)
        else:
            body = bytes(self.chance.randrange(10, 5000)) + self.chance.randbytes(8)
            self.chance.choice(self.up).service.gossip.publish(Topic.TRANSACTION, body)

    def list(self, node: TownNode, active: bool) -> None:
        (self.listed.append if active else self.listed.remove)(node)
        self.t.writer.set_node_active(node.id, active)
        self.t.write()
        for each in self.up:
            each.service.network_changed()

    def agree(self) -> bool:
        """Whether sessions, the core of peers and that of gossip speak of the same links, all of them with known nodes."""
        for node in self.up:
            service = node.service
            links = {link.peer for link in service.hub.links}
            known = links <= {each.id for each in self.listed}
            if not (known and links == {link.peer for link in service.core.links} == set(service.gossip.core.links)):
                return False
        return True


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_all_agree_on_the_links_and_find_each_other_again(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a town of five everybody is assigned to everybody: who is listed again is dialled anew, at a moment drawn from a minute. That no
    # dial comes too soon is the simulator's to see (`tests/sim`); here it would only be waited for.
    monkeypatch.setattr(peers_limits, "SPREAD_MS", 2_000)
    monkeypatch.setattr(peers_attempts, "BACKOFF_DUE_MAX_MS", 4_000)
    async with town(tmp_path, 5) as t:
        for node in t.nodes:
            node.judges[Topic.TRANSACTION] = lambda _body, _peer: Verdict.GOOD
        await t.start()
        history = History(t, seed)
        for _ in range(STEPS):
            await history.step()
            assert history.agree()
            await trio.sleep(history.chance.random() * 0.4)
            assert history.agree()
        for node in t.nodes:
            if node not in history.up:
                await node.start()
                history.up.append(node)
            if node not in history.listed:
                history.list(node, True)
        await t.linked()
