"""Bench `mempool`: what a transaction costs from its bytes to its place in the mempool, verification in processes included, against
its signatures alone.

They come in bundles, as gossip brings them. Ours is a whole `Mempool` over a chain's state in memory, with as many accounts as a busy
block has senders: decode, id, fee, nonce, funds, room, the way to a process and back, the same looks again, its place, and being offered
to a block (`pick`). It is the CPU of this process and of those that check, together. Gossip and sockets are not in it. The other side
verifies the same signatures one after the other in a process of its own. Every round has transactions of its own, signed before the clock
starts; in one row their keys come along, in the other the chain knows them. `MEMPOOL_TRANSACTIONS` of a round, `MEMPOOL_ROUNDS`.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import trio
from report import compare, emit, plain

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.ledger_world import CHAIN, LedgerWorld  # noqa: E402
from support.mempool_world import MempoolWorld  # noqa: E402

from qnode.core.ledger.admission import Admission  # noqa: E402
from qnode.service.mempool_bundles import Outbox, bundled  # noqa: E402
from qnode.service.verify import Verifier, open_transaction  # noqa: E402
from qustream.aio.logs import configure_logs  # noqa: E402
from qustream.identity.signing import verify  # noqa: E402
from qustream.model.keys import PublicKey  # noqa: E402
from qustream.wire.transactions import transaction_id  # noqa: E402

ROUNDS = int(os.environ.get("MEMPOOL_ROUNDS", "5"))
TRANSACTIONS = int(os.environ.get("MEMPOOL_TRANSACTIONS", "1000"))
PEOPLE = 100
AT_ONCE = 64  # as many as gossip waits for (`qnode/service/gossip.py`)
MS_PER_S = 1000


def cpu_of(pid: int) -> float:
    """Seconds of processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bundles_of(raws: Sequence[bytes]) -> list[bytes]:
    """As a node that is asked to send these would say them."""
    bundles: list[bytes] = []
    outbox = Outbox(lambda several: bundles.append(bundled(several)) is None, lambda _names, _was_heard: None)
    for raw in raws:
        outbox.add(transaction_id(raw), raw)
    outbox.flush()
    return bundles


async def submit_all(pool: MempoolWorld, raws: Sequence[bytes]) -> None:
    """As gossip does: in bundles, and so many of them are waited for at once."""
    left = iter(bundles_of(raws))

    async def judge() -> None:
        for bundle in left:
            verdict = pool.mempool.judge(bundle, b"")
            assert not isinstance(verdict, int)
            assert not await verdict

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(judge)


async def ours(world: LedgerWorld, verifier: Verifier, raws: Sequence[bytes]) -> tuple[float, float, float]:
    """CPU of all processes, of this one alone, and wall clock, in ms a transaction."""
    pool = MempoolWorld(world, verifier)
    [pid] = verifier.pool.pids
    child, cpu, wall = cpu_of(pid), time.process_time(), time.perf_counter()
    await submit_all(pool, raws)
    admission = Admission(world.state(), [], world.parameters)
    picked = pool.mempool.pick(admission, world.progress.height + 1, 1 << 30, len(raws))
    wall, here = time.perf_counter() - wall, time.process_time() - cpu
    assert len(picked) == len(raws)
    await trio.sleep(0.05)  # its clock is one of ticks
    total = here + cpu_of(pid) - child
    return tuple(MS_PER_S * seconds / len(raws) for seconds in (total, here, wall))  # type: ignore[return-value]


def theirs(raws: Sequence[bytes], keys: dict[bytes, PublicKey]) -> float:
    """CPU in ms a transaction of verifying its signature, in a child."""
    opened = [open_transaction(raw, CHAIN) for raw in raws]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if not child:
        for each in opened:
            assert not isinstance(each, str)
            assert verify(keys[each.body.sender], "transaction", each.transaction.body, each.transaction.signature)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return MS_PER_S * spent / len(raws)


async def main() -> None:
    world = LedgerWorld(validators=1, idle=0, people=PEOPLE)
    pool = MempoolWorld(world, Verifier(CHAIN))
    keys = {world.account(person): world.people[person].public for person in range(PEOPLE)}
    rows = []
    for name, bare in (("its key comes along", False), ("the chain knows its key", True)):
        rounds: list[tuple[float, float, float]] = []
        alone: list[float] = []
        for number in range(ROUNDS):
            pool.execute(*[pool.transfer(person) for person in range(PEOPLE)])  # from now on their keys are known
            raws = [pool.transfer(nonce % PEOPLE, bare=bare) for nonce in range(TRANSACTIONS)]
            if number % 2:
                alone.append(theirs(raws, keys))
            async with trio.open_nursery() as nursery:  # nothing of a round is known to the next
                verifier = Verifier(CHAIN, workers=1)
                await nursery.start(verifier.run)
                await verifier.transactions([pool.transfer(0, 1)], pool.mempool.key_of)  # so that it is there
                world._nonces[world.account(0)] -= 1
                rounds.append(await ours(world, verifier, raws))
                nursery.cancel_scope.cancel()
            if not number % 2:
                alone.append(theirs(raws, keys))
        totals, heres, walls = zip(*rounds, strict=True)
        rows += [
            compare(f"a transfer, {name}: CPU", totals, alone, unit="ms", against="verifying its signature, CPU", at_most=1.5),
            plain(f"a transfer, {name}: CPU of the daemon's process alone", heres, unit="ms"),
            plain(f"transfers, {name}: through one process that verifies", [MS_PER_S / ms for ms in walls], unit="1/s"),
        ]
    emit("mempool", rows, rounds=ROUNDS)


if __name__ == "__main__":
    configure_logs("warning")
    trio.run(main)
