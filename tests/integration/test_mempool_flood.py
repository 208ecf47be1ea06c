"""A node between two peers over real links: one says what pays, the other floods it with all that does not."""

from __future__ import annotations

from pathlib import Path

from support.ledger_world import LedgerWorld
from support.mempool_world import MempoolWorld, mempool
from support.peers_town import TownNode, town, until

from qnode.core.gossip_limits import SCORE_BAD, SCORE_GREY
from qnode.service.mempool_bundles import bundled
from qustream.wire.gossip import Topic
from qustream.wire.transactions import transaction_id

HONEST, FLOODED = 24, 200


def say(node: TownNode, *raws: bytes) -> None:
    for raw in raws:
        node.service.gossip.publish(Topic.TRANSACTION, bundled([raw]))


def broken(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def hopeless(pool: MempoolWorld) -> list[bytes]:
    """What may be a matter of time: of nobody's account, behind, ahead, too dear, too cheap. Nobody needs to sign it."""
    world, raws = pool.world, []
    for number in range(FLOODED // 4):
        raws += [
            broken(pool.transfer(0, 1 << 60, nonce=number % 60)),
            broken(pool.transfer(0, number + 1, nonce=1000 + number)),
            broken(pool.transfer(0, number + 1, nonce=number % 60, fee=1)),
            broken(pool.transfer(0, number + 1, nonce=number % 60, expires=world.progress.height)),
        ]
    return raws


async def test_a_flood_costs_the_flooded_little_and_the_honest_nothing(tmp_path: Path) -> None:
    world = LedgerWorld(validators=1, idle=0, people=4)
    async with mempool(world) as pool, town(tmp_path, 3) as where:
        flooded, honest, flooder = where.nodes
        flooded.judges[Topic.TRANSACTION] = pool.mempool.judge
        await where.start()
        await where.linked()
        pool.mempool.outbox._publish = lambda raws: not say(flooded, *raws)
        good = [pool.transfer(person) for _ in range(HONEST // 3) for person in (1, 2, 3)]
        useless = hopeless(pool)

        say(flooder, *useless[: FLOODED // 2])
        say(honest, *good[: HONEST // 2])
        say(flooder, *useless[FLOODED // 2 :])
        say(honest, *good[HONEST // 2 :])
        await until(lambda: len(pool.mempool) == HONEST, "all that pays is there")
        await until(lambda: sum(pool.mempool.refused.values()) >= FLOODED // 4, "of the rest, what gossip takes of one peer at once")
        assert pool.verifier.pool.checked == HONEST, "nothing else was worth a verification"
        assert flooder.id in flooded.links, "it may all have been a matter of time"

        lies = [broken(pool.transfer(0, number + 1, nonce=0)) for number in range(50)]
        say(flooder, *lies)
        await until(lambda: flooder.id not in flooded.links, "who says what can never be valid is shown out")
        assert flooded.service.gossip.expelled >= 1
        assert 0 < pool.mempool.refused["E-LEDGER-SIGNATURE"] <= 50
        assert flooded.service.gossip.bad[Topic.TRANSACTION] >= SCORE_GREY // SCORE_BAD
        assert honest.id in flooded.links
        assert all(transaction_id(raw) in pool.mempool.core for raw in good)
        own = pool.transfer(0, nonce=0)
        await pool.mempool.submit(own)
        assert len(pool.mempool) == HONEST + 1
