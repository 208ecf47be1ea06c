"""Bench `consensus`: what a final transaction costs, and how many of them four validators make final on one machine.

Four real daemons with all their processes and files of their own, on loopback; blocks every 200 ms while transactions wait. Each round
sends the same number of transfers, signed before, over HTTP to all four in turn, and waits until all four have executed them. CPU time is
that of the daemons and their children, from /proc; the other side is the CPU time of verifying one such transaction's signature in this
process, in the same round. So a ratio of 1 would be a chain that does nothing but verify. What four validators share here, a network would
have four machines for.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from report import compare, emit, plain

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.chain_circle import ChainCircle, ChainNodeProcess, fast  # noqa: E402

from qustream.aio.http import BODY_TYPE  # noqa: E402
from qustream.identity.signing import verify  # noqa: E402
from qustream.wire.codec import decode  # noqa: E402
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Transaction  # noqa: E402

ROUNDS = int(os.environ.get("CONSENSUS_ROUNDS", "5"))
# What the four of them let one address send at once, and a little less.
TRANSFERS = int(os.environ.get("CONSENSUS_TRANSFERS", "400"))
PEOPLE, VALIDATORS, SENDERS = 100, 4, 32
IDLE_S = 5.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
VERIFIED_S = 0.3  # for how long the other side is measured a round


def cpu_s(nodes: list[ChainNodeProcess]) -> float:
    """User and system time of the daemons and the processes they have started, so far."""
    total = 0.0
    for node in nodes:
        assert node.process is not None
        for pid in (node.process.pid, *node.children()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return total


def verification_s(circle: ChainCircle, raw: bytes) -> float:
    """CPU time of verifying the signature of one transfer."""
    transaction = decode(raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)
    key = circle.people[0].public
    began, count = time.process_time(), 0
    while time.process_time() - began < VERIFIED_S:
        assert verify(key, "transaction", transaction.body, transaction.signature)
        count += 1
    return (time.process_time() - began) / count


def signed(circle: ChainCircle, number: int) -> list[bytes]:
    """The transfers of a round, each person's in order of nonces."""
    each = TRANSFERS // PEOPLE
    return [
        circle.transfer(person, (person + 1) % PEOPLE, number * each + place) for place in range(each) for person in range(PEOPLE)
    ]  # fmt: skip


def send(circle: ChainCircle, raws: list[bytes]) -> None:
    """A person's all over one connection to one validator, so that nonces come in order; several connections to each."""

    def all_of(part: int) -> None:
        connection = HTTPConnection(circle.nodes[part % VALIDATORS].pages, timeout=60)
        for place, raw in enumerate(raws):
            if place % PEOPLE % SENDERS != part:
                continue
            while (status := posted(connection, raw)) == 429:
                time.sleep(0.05)  # more than one address may send; a service would run a node of its own
            assert status < 300, status
        connection.close()

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(all_of, range(SENDERS)))


def posted(connection: HTTPConnection, raw: bytes) -> int:
    """The status."""
    connection.request("POST", "/v1/chain/transactions", raw, {"Content-Type": BODY_TYPE})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def one_round(circle: ChainCircle, raws: list[bytes]) -> tuple[float, float]:
    """Transactions a second, and CPU seconds a transaction and validator."""
    before, executed = cpu_s(circle.nodes), circle.nodes[0].ledger.transactions
    began = time.perf_counter()
    send(circle, raws)
    circle.until(lambda node: node.ledger.transactions >= executed + len(raws))
    took_s = time.perf_counter() - began
    return len(raws) / took_s, (cpu_s(circle.nodes) - before) / len(raws) / VALIDATORS


def main() -> None:
    rates, costs, bare, idle = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, ChainCircle(Path(folder), VALIDATORS, people=PEOPLE, parameters=fast()) as circle:
        circle.start()
        circle.until_height(3)
        rounds = [signed(circle, number) for number in range(ROUNDS)]
        for raws in rounds:
            before = cpu_s(circle.nodes)
            time.sleep(IDLE_S)
            idle.append(100 * (cpu_s(circle.nodes) - before) / IDLE_S / VALIDATORS)
            bare.append(1000 * verification_s(circle, raws[0]))
            rate, cost_s = one_round(circle, raws)
            rates.append(rate)
            costs.append(1000 * cost_s)
    emit(
        "consensus",
        [
            compare("CPU a final transaction, each validator", costs, bare, unit="ms", against="verifying its signature"),
            plain("final and executed at all four", rates, unit="tx/s"),
            plain("CPU of a validator of an idle chain", idle, unit="%"),
        ],
    )


if __name__ == "__main__":
    main()
