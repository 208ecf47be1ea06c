"""Checks of answers that need no network; lies over the network are in tests/integration/client."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.village import CHAIN, DAY_MS, Node, User, Village

from qustream import block
from qustream.client.answers import Expected, check_acknowledged, check_alerts, check_erasure, check_key_answer
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.wire.codec import encode
from qustream.wire.keys import (
    BLOCK_SEED_BYTES,
    Acknowledged,
    Alert,
    AlertsAnswer,
    Erasure,
    KeyAnswer,
    Receipt,
    RevokeAnswer,
)

GRANT, INDEX, SEED = b"g" * 32, 3, b"s" * BLOCK_SEED_BYTES
SALT = b"t" * 32


class Answer:
    """An honest answer of a node, and what to expect of it."""

    def __init__(self, net: Village, user: User, **receipt: Any) -> None:
        self.node: Node = net.nodes[0]
        self.registry = user.registry()
        self.record = self.registry.node(self.node.id)
        self.now_ms = net.clock_ms()
        unit = self.node.take(self.now_ms)
        assert unit is not None
        self.material = unit.material
        made = block.build(unit.material, unit.scatter, SEED)
        self.block_hash = hashlib.sha256(made + SALT).digest()
        fields = {
            "chain": CHAIN,
            "node": self.node.id,
            "grant": GRANT,
            "index": INDEX,
            "seed_hash": hashlib.sha256(SEED).digest(),
            "block_hash": self.block_hash,
            "leaf": unit.leaf,
            "issued_ms": self.now_ms,
            "expires_ms": self.now_ms + DAY_MS,
        }
        signed = self.node.key.sign_noun("receipt", Receipt(**fields | receipt))
        self.data = encode(KeyAnswer(made, SALT, unit.attestation, unit.proof, signed))

    def check(self, at_ms: int | None = None, **expected: Any) -> Any:
        return check_key_answer(
            self.data,
            node=self.record,
            expected=Expected(GRANT, INDEX, SEED, **expected),
            registry=self.registry,
            at_ms=self.now_ms if at_ms is None else at_ms,
        )


def code_of(call: Any) -> str:
    with pytest.raises(QuStreamError) as caught:
        call()
    return caught.value.code


def test_an_honest_answer_gives_its_material_and_its_origin(net: Village, alice: User) -> None:
    answer = Answer(net, alice)
    checked = answer.check(lifetime_ms=DAY_MS)
    assert checked.material == answer.material
    assert checked.block_hash == answer.block_hash
    assert checked.expires_ms == answer.now_ms + DAY_MS
    assert checked.provenance.server == net.qrng.id
    assert checked.provenance.attestation.device.emulated
    assert checked.doubt is None
    assert "material" not in repr(checked)


def test_a_stale_origin_refuses_a_new_block_and_is_a_doubt_about_a_collected_one(net: Village, alice: User) -> None:
    answer = Answer(net, alice)
    later = answer.now_ms + 61_000
    assert code_of(lambda: answer.check(later)) == "E-ATTESTATION-STALE"
    checked = answer.check(later, block_hash=answer.block_hash)
    assert checked.material == answer.material
    assert checked.provenance is None
    assert checked.doubt.code == "E-ATTESTATION-STALE"


def test_a_server_that_has_been_retired(net: Village, alice: User) -> None:
    answer = Answer(net, alice)
    net.writer.set_qrng_server_active(net.qrng.id, False)
    net.writer.write()
    try:
        answer.registry.refresh(answer.now_ms)
        assert code_of(answer.check) == "E-ATTESTATION"
        assert answer.check(block_hash=answer.block_hash).doubt.code == "E-ATTESTATION"
    finally:
        net.writer.set_qrng_server_active(net.qrng.id, True)
        net.writer.write()


def test_a_collected_block_must_be_the_one_the_envelope_names(net: Village, alice: User) -> None:
    assert code_of(lambda: Answer(net, alice).check(block_hash=bytes(32))) == "E-ANSWER-INVALID"


def test_a_repeated_answer_may_be_ten_minutes_old_and_no_older(net: Village, alice: User) -> None:
    answer = Answer(net, alice, issued_ms=net.clock_ms() - 600_000, expires_ms=net.clock_ms() - 600_000 + DAY_MS)
    checked = answer.check()
    assert checked.expires_ms < answer.now_ms + DAY_MS
    old = Answer(net, alice, issued_ms=net.clock_ms() - 700_000, expires_ms=net.clock_ms() - 700_000 + DAY_MS)
    assert code_of(lambda: old.check(lifetime_ms=DAY_MS)) == "E-ANSWER-INVALID"
    early = Answer(net, alice, issued_ms=net.clock_ms() + 70_000, expires_ms=net.clock_ms() + 70_000 + DAY_MS)
    assert code_of(lambda: early.check(lifetime_ms=DAY_MS)) == "E-ANSWER-INVALID"


def test_every_wrong_field_of_a_receipt_is_named(net: Village, alice: User) -> None:
    answer = Answer(net, alice, chain="elsewhere", index=4, leaf=bytes(32))
    with pytest.raises(QuStreamError, match="another network, index"):
        answer.check()


def test_an_erasure_is_for_one_block_and_signed_by_its_node(net: Village, alice: User) -> None:
    node = net.nodes[0]
    record = alice.registry().node(node.id)
    erasure = Erasure(CHAIN, node.id, GRANT, INDEX, 12345)

    def check(said: Erasure, by: SigningKey) -> Erasure:
        data = encode(RevokeAnswer(by.sign_noun("erasure", said)))
        return check_erasure(data, node=record, grant=GRANT, index=INDEX, chain=CHAIN)

    assert check(erasure, node.key).erased_ms == 12345
    assert code_of(lambda: check(erasure, net.nodes[1].key)) == "E-SIGNATURE"
    for wrong in ({"chain": "elsewhere"}, {"node": bytes(32)}, {"grant": bytes(32)}, {"index": 4}):
        assert code_of(lambda wrong=wrong: check(replace(erasure, **wrong), node.key)) == "E-ANSWER-INVALID"


def test_small_answers_are_decoded_strictly() -> None:
    alert = Alert("E-DEVICE-UNKNOWN", bytes(32), 5, 2)
    assert check_alerts(encode(AlertsAnswer((alert,)))) == (alert,)
    for code in ("\x1b]0;renamed\x07", "", "E-INVENTED"):
        invented = AlertsAnswer((alert, replace(alert, code=code)))
        assert code_of(lambda invented=invented: check_alerts(encode(invented))) == "E-ANSWER-INVALID"
    assert check_acknowledged(encode(Acknowledged(True)))
    for check in (check_alerts, check_acknowledged):
        for data in (b"", os.urandom(50), encode(Acknowledged(True)) + b"\x00"):
            assert code_of(lambda check=check, data=data: check(data)).startswith("E-WIRE-")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bent_answer_is_a_coded_fault(net: Village, alice: User, data: st.DataObject) -> None:
    """Bytes changed, dropped, doubled or replaced anywhere, with the block left out of most of it: never a crash, never accepted."""
    answer = Answer(net, alice)
    whole = answer.data
    at = data.draw(st.one_of(st.integers(0, 40), st.integers(len(whole) - 12_000, len(whole) - 1)))
    length = data.draw(st.integers(0, 40))
    new = data.draw(st.binary(max_size=40))
    answer.data = whole[:at] + new + whole[at + length :]
    if answer.data != whole:
        assert code_of(answer.check).startswith(("E-WIRE-", "E-SIGNATURE", "E-ANSWER-INVALID", "E-PROOF", "E-ATTESTATION"))


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_coded_fault(data: bytes) -> None:
    for check in (check_alerts, check_acknowledged):
        with suppress(QuStreamError):
            check(data)
