"""Bench `consensus`: what a final transaction costs, and how many of them four validators make final on one machine.

Four real daemons with all their processes and files of their own, on loopback; blocks every 200 ms while transactions wait. Each round
sends the same number of transfers, signed before, over HTTP to all four, and waits until all four have executed them. A service with a load
sends several in one request, so that is done here, too (CONSENSUS_BUNDLE: how many, 1 for each by itself); the senders are people who have
sent something before, so their keys do not come along; and each connection comes from an address of its own, for what a node takes from one
address is bounded. CPU time is that of the daemons and their children, from /proc; the other side is the CPU time of verifying one such
transaction's signature in this process, before and after the same round. So a ratio of 1 would be a chain that does nothing but verify.
What four validators share here, a network would have four machines for.
"""

from __future__ import annotations

import json
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
from qustream.wire.bundle import Bundle  # noqa: E402
from qustream.wire.codec import decode, encode  # noqa: E402
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Transaction  # noqa: E402

ROUNDS = int(os.environ.get("CONSENSUS_ROUNDS", "5"))
# Two seconds at the rate that the chain is made for; what the four of them take of everybody at once is more.
TRANSFERS = int(os.environ.get("CONSENSUS_TRANSFERS", "2000"))
# What has room in a bundle.
BUNDLE = int(os.environ.get("CONSENSUS_BUNDLE", "18"))
PEOPLE, VALIDATORS, SENDERS = 100, 4, 16
LOOK_S = 0.05  # between two looks how far they are: each costs them a page
IDLE_S = 5.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
VERIFIED_S = 0.5  # for how long the other side is measured, before a round and after it


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
    """The transfers of a round, each person's in order of nonces; round -1 is each person's first, with which its key becomes known."""
    if number < 0:
        return [circle.transfer(person, (person + 1) % PEOPLE, 0) for person in range(PEOPLE)]
    each = TRANSFERS // PEOPLE
    return [
        circle.transfer(person, (person + 1) % PEOPLE, 1 + number * each + place, bare=True)
        for place in range(each) for person in range(PEOPLE)
    ]  # fmt: skip


def send(circle: ChainCircle, raws: list[bytes]) -> None:
    """A person's all over one connection to one validator, so that nonces come in order; several connections to each."""

    def all_of(part: int) -> None:
        own = [raw for place, raw in enumerate(raws) if place % PEOPLE % SENDERS == part]
        host, _, port = circle.nodes[part % VALIDATORS].pages.rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=60, source_address=(f"127.0.99.{1 + part}", 0))
        for first in range(0, len(own), BUNDLE):
            while not posted(connection, own[first : first + BUNDLE]):
                time.sleep(LOOK_S)  # more than a node takes of everybody
        connection.close()

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(all_of, range(SENDERS)))


def posted(connection: HTTPConnection, raws: list[bytes]) -> bool:
    """Whether it took them; False for later."""
    path, body = ("transactions", raws[0]) if len(raws) == 1 else ("transactions/bundle", encode(Bundle(tuple(raws))))
    try:
        connection.request("POST", f"/v1/chain/{path}", body, {"Content-Type": BODY_TYPE})
        answer = connection.getresponse()
        said = answer.read()
    except ConnectionError:  # a machine so full that no answer was there in ten seconds: they may have been taken
        connection.close()
        return False
    if answer.status == 429:
        return False
    codes = {line["code"] for line in json.loads(said)["transactions"]} if len(raws) > 1 else {json.loads(said).get("code", "")}
    assert codes <= {"", "E-LEDGER-NONCE"}, said  # which is one that was taken, and is in a block already
    return True


def sent_and_executed(circle: ChainCircle, raws: list[bytes]) -> None:
    """Until all four have executed them."""
    executed = circle.nodes[0].ledger.transactions
    send(circle, raws)
    for node in circle.nodes:
        while node.ledger.transactions < executed + len(raws):
            time.sleep(LOOK_S)


def one_round(circle: ChainCircle, raws: list[bytes]) -> tuple[float, float]:
    """Transactions a second, and CPU seconds a transaction and validator."""
    before, began = cpu_s(circle.nodes), time.perf_counter()
    sent_and_executed(circle, raws)
    took_s = time.perf_counter() - began
    return len(raws) / took_s, (cpu_s(circle.nodes) - before) / len(raws) / VALIDATORS


def main() -> None:
    rates, costs, bare, idle = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, ChainCircle(Path(folder), VALIDATORS, people=PEOPLE, parameters=fast()) as circle:
        circle.start()
        circle.until_height(3)
        sent_and_executed(circle, signed(circle, -1))
        rounds = [signed(circle, number) for number in range(ROUNDS)]
        for raws in rounds:
            before = cpu_s(circle.nodes)
            time.sleep(IDLE_S)
            idle.append(100 * (cpu_s(circle.nodes) - before) / IDLE_S / VALIDATORS)
            first_s = verification_s(circle, raws[0])
            rate, cost_s = one_round(circle, raws)
            # Before and after: what a virtual processor does in a second of its time changes by a half within minutes.
            bare.append(1000 * (first_s + verification_s(circle, raws[0])) / 2)
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
