"""Answers to a key request that do not check, over real TLS: right code, right suspect, and the next rank serves."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from msgspec.structs import replace
from support.lies import (
    COMMUNITY,
    FOUNDATION,
    LETTER,
    STRANGER,
    another_block,
    answering,
    flipped,
    opened,
)
from support.maker import Maker
from support.village import Node, User, Village

from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, Attestation
from qustream.model.network import QrngServerRecord
from qustream.wire.codec import decode, encode
from qustream.wire.keys import KeyAnswer, KeyBody, Receipt


def with_receipt(by: SigningKey | None = None, **fields: Any) -> Any:
    def change(node: Node, body: KeyBody, answer: KeyAnswer) -> KeyAnswer:
        receipt = decode(answer.receipt.body, Receipt, max_bytes=10_000)
        made = {name: value(receipt) if callable(value) else value for name, value in fields.items()}
        return replace(answer, receipt=(by or node.key).sign_noun("receipt", replace(receipt, **made)))

    return answering(change)


LIES: dict[str, tuple[Any, str]] = {
    "another's block": (answering(another_block), "E-BLOCK-OPEN"),
    "a block changed on the way": (answering(lambda n, b, a: replace(a, block=flipped(a.block))), "E-ANSWER-INVALID"),
    "another salt": (answering(lambda n, b, a: replace(a, salt=bytes(32))), "E-ANSWER-INVALID"),
    "a forged proof": (answering(lambda n, b, a: replace(a, proof=replace(a.proof, sequence=a.proof.sequence + 1))), "E-PROOF"),
    "a proof that is too long": (answering(lambda n, b, a: replace(a, proof=replace(a.proof, path=(bytes(32),)))), "E-PROOF"),
    "a receipt of another's": (with_receipt(STRANGER), "E-SIGNATURE"),
    "a receipt for another node": (with_receipt(node=bytes(32)), "E-ANSWER-INVALID"),
    "a receipt for another grant": (with_receipt(grant=bytes(32)), "E-ANSWER-INVALID"),
    "a receipt for another index": (with_receipt(index=lambda r: r.index + 1), "E-ANSWER-INVALID"),
    "a receipt for another network": (with_receipt(chain="elsewhere"), "E-ANSWER-INVALID"),
    "a receipt for another seed": (with_receipt(seed_hash=bytes(32)), "E-ANSWER-INVALID"),
    "a receipt for another leaf": (with_receipt(leaf=bytes(32)), "E-ANSWER-INVALID"),
    "a shorter lifetime": (with_receipt(expires_ms=lambda r: r.expires_ms - 1), "E-ANSWER-INVALID"),
    "a receipt of last week": (
        with_receipt(issued_ms=lambda r: r.issued_ms - 10**9, expires_ms=lambda r: r.expires_ms - 10**9),
        "E-ANSWER-INVALID",
    ),
    "a signature of nothing": (
        answering(lambda n, b, a: replace(a, attestation=Signed(a.attestation.body, bytes(3373)))),
        "E-SIGNATURE",
    ),
    "half an answer": (answering(lambda n, b, a: encode(a)[:1000]), "E-WIRE-MALFORMED"),
    "an answer in another form": (answering(lambda n, b, a: encode(a) + b"\x00"), "E-WIRE-MALFORMED"),
    "nothing at all": (answering(lambda n, b, a: b""), "E-WIRE-MALFORMED"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named_and_the_next_rank_serves(net: Village, alice: User, bob: User, lie: str) -> None:
    liar = alice.next_ranks()[COMMUNITY][0]
    liar.twist, code = LIES[lie]
    out = io.BytesIO()
    done = alice.client().encrypt(io.BytesIO(LETTER), out, to=[bob.text])
    assert [(suspect.node, suspect.code, suspect.is_fault) for suspect in done.suspects] == [(liar.id, code, True)]
    assert liar.id not in {block.node for block in done.blocks}
    assert [block.node_class for block in done.blocks].count(COMMUNITY) == 3
    liar.twist = None
    assert opened(bob, out.getvalue()) == LETTER


def stale(attestation: Attestation) -> Attestation:
    return replace(
        attestation, start_ms=attestation.start_ms - 90_000, end_ms=attestation.end_ms - 90_000, expires_ms=attestation.end_ms - 1
    )


ATTESTATIONS: dict[str, tuple[Any, str]] = {
    "stale": (stale, "E-ATTESTATION-STALE"),
    "of a time to come": (lambda a: replace(a, end_ms=a.end_ms + 10**7, expires_ms=a.expires_ms + 10**8), "E-ATTESTATION"),
    "of another network": (lambda a: replace(a, chain="elsewhere"), "E-ATTESTATION"),
    "of an unregistered server": (lambda a: replace(a, server=bytes(32)), "E-ATTESTATION"),
    "of a failed device": (lambda a: replace(a, health=replace(a.health, windows_failed=a.health.windows)), "E-ATTESTATION"),
    "of another batch": (lambda a: replace(a, root=bytes(32)), "E-PROOF"),
}


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_an_attestation_that_does_not_hold(net: Village, alice: User, bob: User, which: str) -> None:
    node = alice.next_ranks()[FOUNDATION][1]
    node.attested, code = ATTESTATIONS[which]
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code, suspect.is_fault) for suspect in done.suspects] == [(node.id, code, True)]


def test_an_attestation_signed_by_somebody_else_in_the_servers_name(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[FOUNDATION][0]
    node.signer = STRANGER
    node.attested = lambda attestation: replace(attestation, server=net.qrng.id)
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code) for suspect in done.suspects] == [(node.id, "E-SIGNATURE")]


def test_an_emulator_behind_a_server_that_may_not_have_one(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[FOUNDATION][0]
    node.signer = SigningKey(b"h" * 32)
    net.writer.add_qrng_server(QrngServerRecord(node.signer.public, "hardware", emulated=False, active=True))
    net.writer.write()
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code) for suspect in done.suspects] == [(node.id, "E-ATTESTATION-DEVICE")]


def test_where_the_network_names_makers_a_block_shows_the_chain(net: Village, alice: User, bob: User) -> None:
    """One node of the six has a device of the maker, the others none: only they are suspects; without the maker's name they serve."""
    maker = Maker()
    node = alice.next_ranks()[FOUNDATION][0]
    node.signer = SigningKey(b"m" * 32)
    server = net.writer.add_qrng_server(QrngServerRecord(node.signer.public, "certified", True, True, (maker.public,)))
    net.writer.write()
    node.attested = lambda attestation: replace(attestation, device=maker.device().descriptor())
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    (block,) = [block for block in done.blocks if block.server == server]
    assert not done.suspects
    assert (block.maker, block.maker_pinned, block.device_serial) == (maker.public.hex(), True, "QC0000000007")
    assert {(other.maker, other.maker_pinned) for other in done.blocks if other is not block} == {("", False)}


def test_a_block_without_the_certificate_the_network_asks_for(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[FOUNDATION][0]
    node.signer = SigningKey(b"w" * 32)
    net.writer.add_qrng_server(QrngServerRecord(node.signer.public, "certified", True, True, (Maker().public,)))
    net.writer.write()
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code) for suspect in done.suspects] == [(node.id, "E-ATTESTATION-EVIDENCE")]


def test_the_same_randomness_twice_is_used_once(net: Village, alice: User, bob: User) -> None:
    copied = os.urandom(MATERIAL_BYTES)
    ranks = alice.next_ranks()
    for node in (ranks[FOUNDATION][0], ranks[COMMUNITY][0]):
        node.material = lambda: copied
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    (suspect,) = done.suspects
    assert suspect.node in (ranks[FOUNDATION][0].id, ranks[COMMUNITY][0].id)
    assert suspect.code == "E-ANSWER-INVALID"
    assert "same randomness" in suspect.detail


def test_a_node_under_anothers_address(net: Village, alice: User, bob: User) -> None:
    ranks = alice.next_ranks()[COMMUNITY]
    first, other = ranks[0], ranks[4]
    net.writer.set_node_addresses(first.id, (other.address,))
    net.writer.write()
    try:
        done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    finally:
        net.writer.set_node_addresses(first.id, (first.address,))
        net.writer.write()
    assert [(suspect.node, suspect.code) for suspect in done.suspects] == [(first.id, "E-PEER-IDENTITY")]
