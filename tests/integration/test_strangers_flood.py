"""A flood of strangers who ask one validator for all that strangers may have, and hand in what costs it a verification each: links keep
their service, the chain goes on, and what strangers get is what they may have. Real daemons on loopback."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from support.chain_circle import ChainCircle, ChainNodeProcess, fast
from support.daemon import until
from support.flood import Flood

from qnode.net.strangers import LIMITS, WAITS_MAX, Kind
from qustream.wire.codec import decode, encode
from qustream.wire.mempool import TransactionGiven
from qustream.wire.snapshot import NEWEST, ChunkAsk, SnapshotAsk
from qustream.wire.sync import HEADERS_MAX, WAIT_MAX_MS, BlocksAsk, BodyAsk
from qustream.wire.transactions import Transaction

pytestmark = [pytest.mark.e2e]

KINDS = {"waits": Kind.BLOCKS, "blocks": Kind.BLOCKS, "bodies": Kind.BODIES, "plans": Kind.PLANS, "chunks": Kind.CHUNKS,
         "transactions": Kind.TRANSACTIONS}  # fmt: skip
FAR = 1 << 40  # a height that no block has


def forger(circle: ChainCircle) -> bytes:
    """A transaction that somebody could pay, and that only its signature gives away; another each time."""
    raw = circle.transfer(2, 3, 0)
    made = decode(raw, Transaction, max_bytes=1 << 17)
    return encode(TransactionGiven(encode(Transaction(made.body, made.key, os.urandom(64) + made.signature[64:]))))


def test_a_flood_of_strangers_gets_what_strangers_have_and_takes_nothing_from_links(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 3, followers=2, parameters=fast(rotation_ms=20_000)) as circle:
        circle.start(0, 1, 2, 3)
        target, follower, newcomer = circle.nodes[0], circle.nodes[3], circle.nodes[4]
        circle.until_height(8)
        asked = {
            "waits": lambda: encode(BlocksAsk(FAR, HEADERS_MAX, WAIT_MAX_MS)), "blocks": lambda: encode(BlocksAsk(0, HEADERS_MAX, 0)),
            "bodies": lambda: encode(BodyAsk(1, 0, 1)), "plans": lambda: encode(SnapshotAsk(NEWEST, 0)),
            "chunks": lambda: encode(ChunkAsk(NEWEST, b"")), "transactions": lambda: forger(circle),
        }  # fmt: skip
        began_s, before = time.monotonic(), {node.number: node.ledger for node in circle.up}
        with Flood(target, asked) as flood:
            until(lambda: all(flood.count(kind, "E-PEER-LIMIT") > 20 for kind in asked), patience_s=90)
            nonces, seen = itertools.count(), []
            for _ in range(3):  # the chain goes on, and what is handed in anywhere is executed everywhere
                raw = circle.transfer(0, 1, next(nonces))
                assert follower.submit(raw)[0] < 300
                circle.until(lambda node, raw=raw: node.has_executed(raw))
                seen.append(target.ledger.strangers)
                # Two that dialled each other at once may still settle which link stays.
                until(lambda: len(target.status().network.links) == 3)
            # Before somebody comes whose links may cross those of others: a link that gives way answers nothing.
            told = {node.number: node.ledger.sync.refused["link"] for node in circle.up}
            newcomer.start()  # one with a licence comes in meanwhile, and has all it needs of the node that is flooded, too
            circle.until_height(max(node.height for node in circle.validators) + 1, [newcomer])
            until(lambda: any(link.node == target.status().node for link in newcomer.status().network.links), patience_s=90)
            _check_got(target, flood, began_s)
        assert all(each.waiting <= WAITS_MAX for each in seen)
        assert any(each.waiting > 0 for each in seen)
        for node in (*circle.validators, follower):
            sync = node.ledger.sync
            assert told[node.number] == before[node.number].sync.refused["link"], "no link was refused, or not answered"
            assert (sync.charged, node.status().network.gossip.bad) == (0, 0)
        voting, had = target.ledger.voting, before[target.number].voting
        assert voting is not None
        assert had is not None
        assert voting.signed > had.signed, "it has voted all the time"


def _check_got(target: ChainNodeProcess, flood: Flood, began_s: float) -> None:
    """What all strangers together may have since, and by far not what they asked for."""
    said = Counter(flood.said)  # before the page, for the flood goes on meanwhile
    got = target.ledger.strangers
    spent_s = time.monotonic() - began_s
    for kind in Kind:
        share = LIMITS[kind].all
        answered = sum(said[name, ""] for name, asked in KINDS.items() if asked is kind)
        refused = sum(said[name, "E-PEER-LIMIT"] for name, asked in KINDS.items() if asked is kind)
        assert got.answered[kind] <= share.most + share.a_minute * spent_s / 60 + 1
        assert refused > 20, (kind, said)
        assert answered <= got.answered[kind] + 1
    # Each signature that did not hold was paid for, too.
    forged = said["transactions", "E-LEDGER-SIGNATURE"]
    share = LIMITS[Kind.TRANSACTIONS].all
    assert 0 < forged <= share.most + share.a_minute * spent_s / 60 + 1
