"""Address records of hostile peers, judged by the node's own keeper of records: what it calls good is signed by a known node, of this
chain, of this time, newer than what it had, and names addresses alone.

    input: where the clock stands (1 byte) ‖ records, each one byte of kind ‖ what the kind takes
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import lru_cache

import msgspec
import trio
from support.fuzzing.choices import Choices
from support.fuzzing.vectors import vectors

from qnode.core.gossip_events import Verdict
from qnode.core.peers_limits import AHEAD_MAX_MS, RECORD_EVERY_MS
from qnode.service.peers_known import KnownNodes
from qnode.service.peers_records import Records
from qustream.identity.signing import SigningKey, verify
from qustream.model.base import Signed
from qustream.model.network import AddressRecord, Epoch, NodeClass, NodeRecord
from qustream.rules.peering import is_address
from qustream.wire.codec import decode, encode

__all__ = ["run", "seeds"]

CHAIN, EPOCH_MS, NOW_MS = "vectors", 3_600_000, 36_000_000
KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 5)]  # ours, two that are known, and a stranger's
OWN, STRANGER = KEYS[0], KEYS[3]
KNOWN = {
    key.id: NodeRecord(key.public, NodeClass.COMMUNITY, f"op {n}", bytes([n]) * 16, (f"127.0.{n}.1:7400",), 1, True)
    for n, key in enumerate(KEYS[:3])
}
ADDRESSES = (
    "127.1.0.1:7400",
    "node.example:7400",
    "[2001:db8::1]:1",
    "127.1:7400",
    "x:0",
    ":1",
    "0.0.0.0:1",
    "unix:/run/x",
    "é:1",
    "1.2.3.4:99999",
    "",
)
CLOCKS_MS = (-10 * EPOCH_MS, -EPOCH_MS, -1, 0, 1, RECORD_EVERY_MS, AHEAD_MAX_MS, AHEAD_MAX_MS + 1, EPOCH_MS, 1 << 62)
RECORDS_MAX = 12


class _Registry:
    """Three nodes, and epochs of an hour since 0."""

    height, nodes_height, chain = 1, 1, CHAIN

    def epoch(self, at_ms: int) -> Epoch:
        return self.epoch_at(at_ms // EPOCH_MS)

    def epoch_at(self, number: int) -> Epoch:
        return Epoch(number, number * EPOCH_MS, bytes(32), EPOCH_MS)

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        return [node for node in KNOWN.values() if node.node_class is node_class]


class _Keeper:
    """Nothing is on the disk."""

    def records(self) -> Sequence[tuple[bytes, Signed]]:
        return ()

    def records_of(self, nodes: Sequence[bytes]) -> Mapping[bytes, Signed]:
        return {}

    def keep_records(self, records: Mapping[bytes, Signed]) -> None: ...

    def issued_ms(self) -> int:
        return 0

    def keep_issued_ms(self, issued_ms: int) -> None: ...

    def forget_others(self, known: Container[bytes]) -> None: ...


class _Node:
    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        known = KnownNodes(_Registry(), OWN.id)  # type: ignore[arg-type]
        known.look(now_ms)
        self.from_ms = known.records_from_ms
        self.learnt: dict[bytes, int] = {}
        self.records = Records(OWN, known, _Keeper(), (), chain=CHAIN, clock_ms=lambda: self.now_ms, learnt=self._learnt)

    def _learnt(self, node: bytes, issued_ms: int, addresses: tuple[str, ...]) -> None:
        assert node in KNOWN
        assert node != OWN.id
        assert issued_ms >= self.learnt.get(node, -RECORD_EVERY_MS) + RECORD_EVERY_MS
        assert self.from_ms <= issued_ms <= self.now_ms + AHEAD_MAX_MS
        assert all(map(is_address, addresses))
        self.learnt[node] = issued_ms

    async def judge(self, body: bytes) -> None:
        before = dict(self.learnt)
        verdict = await self.records.judge(body, STRANGER.id)
        assert (verdict is Verdict.GOOD) == (self.learnt != before)
        if verdict is Verdict.GOOD:
            signed = decode(body, Signed, max_bytes=len(body))
            record = decode(signed.body, AddressRecord, max_bytes=len(body))
            assert record.chain == CHAIN
            assert verify(KNOWN[record.node].key, "address", signed.body, signed.signature)
            assert tuple(self.records.addresses(record.node)) == record.addresses
        assert len(self.records._newest) <= len(KNOWN)


@lru_cache(maxsize=4096)  # signatures are dear, and a fuzzer asks for the same ones again
def _signed(signer: int, record: AddressRecord, purpose: str) -> Signed:
    return KEYS[signer].sign_noun(purpose, record)


def _made(choices: Choices) -> bytes:
    """A record that is signed, rightly or not."""
    who, signer, how = choices.below(4), choices.below(4), choices.number(1)
    issued_ms = max(0, min((1 << 63) - 1, NOW_MS + choices.one_of(CLOCKS_MS) + choices.number(1)))
    addresses = tuple(choices.one_of(ADDRESSES) for _ in range(1 + choices.below(8)))
    record = AddressRecord("other" if how & 1 else CHAIN, KEYS[who].id, issued_ms, addresses)
    signed = _signed(signer if how & 2 else who, record, "hello" if how & 4 else "address")
    if how & 8:
        signed = msgspec.structs.replace(signed, body=_bent(signed.body, choices))
    if how & 16:
        signed = msgspec.structs.replace(signed, signature=_bent(signed.signature, choices))
    data = encode(signed)
    return _bent(data, choices) if how & 32 else data


def _bent(data: bytes, choices: Choices) -> bytes:
    place, bit = choices.number(2) % len(data), choices.below(8)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


async def _judge_all(choices: Choices) -> None:
    node = _Node(NOW_MS + choices.one_of((0, 0, -EPOCH_MS, 5 * EPOCH_MS)))
    for _ in range(RECORDS_MAX):
        if not choices:
            return
        await node.judge(choices.bytes(choices.number(2)) if choices.number(1) & 1 else _made(choices))


def run(data: bytes) -> None:
    trio.run(_judge_all, Choices(data))


def seeds() -> list[bytes]:
    raw = [
        bytes.fromhex(case["encoded"])
        for case in vectors("encoding")["kinds"]
        if case["kind"] in ("AddressRecord", "Signed") and "encoded" in case
    ]
    found = [b"\0\1" + len(data).to_bytes(2, "big") + data for data in raw]
    found += [
        b"\0" + bytes([0, who, 0, how, clock, 0, 1, 0, 1])
        for who in range(4)
        for how in (0, 1, 2, 4, 8, 16, 32)
        for clock in range(0, 10, 3)
    ]
    found.append(b"\0" + b"".join(bytes([0, 1, 0, 0, 3, n, 0, n]) for n in range(12)))
    return found
