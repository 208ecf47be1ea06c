"""Recipients and nodes that deceive them; envelopes that were changed, forged, revoked."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.lies import (
    COMMUNITY,
    FOUNDATION,
    LETTER,
    STRANGER,
    another_block,
    collected,
    flipped,
    opened,
    refused,
    refusing,
    sealed,
)
from support.village import PASSPHRASE, Node, User, Village

from qustream.client.client import Client
from qustream.client.plan import Plan
from qustream.client.requests import Requests
from qustream.envelope import HeldBlock, encrypt_stream, make_header, read_header, unseal
from qustream.errors import PeerFault
from qustream.identity.signing import SigningKey
from qustream.identity.user import UserHome
from qustream.model.base import Signed
from qustream.model.network import NodeClass
from qustream.transport.blocking import connect
from qustream.transport.engine import LocalHello
from qustream.wire.codec import decode
from qustream.wire.hello import Role
from qustream.wire.keys import AcknowledgeBody, Receipt, RevokeBody


def all_lies_to_recipients() -> dict[str, tuple[Any, str]]:
    return {
        "another's block": (collected(another_block), "E-ANSWER-INVALID"),
        "another salt": (collected(lambda n, b, a: replace(a, salt=bytes(32))), "E-ANSWER-INVALID"),
        "a receipt of another's": (
            collected(lambda n, b, a: replace(a, receipt=STRANGER.sign_noun("receipt", decode(a.receipt.body, Receipt, max_bytes=9999)))),
            "E-SIGNATURE",
        ),
        "nothing at all": (collected(lambda n, b, a: b""), "E-WIRE-MALFORMED"),
        "a refusal": (refusing("E-NOT-HELD", "never heard of it"), "E-NOT-HELD"),
        "a break": (None, "E-PEER-UNREACHABLE"),
    }


@pytest.mark.parametrize("lie", all_lies_to_recipients())
def test_the_third_node_serves_a_recipient_whom_the_first_deceives(net: Village, alice: User, bob: User, lie: str) -> None:
    out = io.BytesIO()
    done = alice.client().encrypt(io.BytesIO(LETTER), out, to=[bob.text])
    liar = net.node(next(block.node for block in done.blocks if block.node_class is COMMUNITY))
    liar.twist, code = all_lies_to_recipients()[lie]
    if liar.twist is None:
        liar.stop()
    copy = io.BytesIO()
    report = bob.client().open(io.BytesIO(out.getvalue()), copy)
    assert copy.getvalue() == LETTER
    assert [(suspect.node, suspect.code) for suspect in report.suspects] == [(liar.id, code)]
    assert len(report.blocks) == 4


def test_an_attestation_that_does_not_hold_is_a_doubt_to_the_recipient(net: Village, alice: User, bob: User) -> None:
    envelope = sealed(alice, bob)
    for node in net.nodes:
        node.twist = collected(lambda n, b, a: replace(a, attestation=Signed(a.attestation.body, bytes(3373))))
    copy = io.BytesIO()
    report = bob.client().open(io.BytesIO(envelope), copy)
    assert copy.getvalue() == LETTER
    assert all("E-SIGNATURE" in block.doubt and not block.server for block in report.blocks)


def test_a_share_that_does_not_fit_is_found_and_named(net: Village, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender made its first foundation share of something else: two pairs of each class do not fit, the third does."""
    honest = Plan.held_blocks
    bent = []

    def bend(self: Plan, order: Any, blocks: Any) -> Any:
        held = honest(self, order, blocks)
        first = next(block for block in held if block.node_class is FOUNDATION)
        first.material[-1] ^= 1
        bent.append(first.node)
        return held

    monkeypatch.setattr(Plan, "held_blocks", bend)
    envelope = sealed(alice, bob)
    copy = io.BytesIO()
    report = bob.client().open(io.BytesIO(envelope), copy)
    assert copy.getvalue() == LETTER
    assert report.inconsistent == tuple(bent)
    assert len(report.blocks) == 6


def test_who_is_not_named_gets_nothing_and_asks_nobody(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    envelope = sealed(alice, bob)
    for node in net.nodes:
        node.asked.clear()
    eve = net.user("eve", requests=0)
    refused(lambda: eve.client().open(io.BytesIO(envelope), tmp_path / "stolen"), "E-NOT-RECIPIENT")
    assert list(tmp_path.iterdir()) == []
    assert not any(node.asked for node in net.nodes)
    # Nor do the nodes hand it out to whoever knows grant and index.
    registry, core = eve.registry(), read_header(io.BytesIO(envelope)).core
    node = registry.node(core.blocks[0].node)
    ask = Requests(eve.device, registry, net.clock_ms).collect(node, core.grant, core.index)
    with connect(node.addresses[0], key=eve.device.device, hello=LocalHello(core.chain, (Role.DEVICE,)), expect=node.key.id) as connection:
        refused(lambda: connection.call(ask.request(connection.peer), deadline_ms=60_000), "E-NOT-RECIPIENT")


@pytest.mark.parametrize("part", ["header", "middle", "end"])
def test_an_envelope_that_was_changed_leaves_no_file(net: Village, alice: User, bob: User, tmp_path: Path, part: str) -> None:
    envelope = sealed(alice, bob)
    at = {"header": 6000, "middle": len(envelope) - 4500, "end": len(envelope) - 100}[part]
    with pytest.raises(PeerFault) as caught:
        bob.client().open(io.BytesIO(flipped(envelope, at)), tmp_path / "letter")
    assert caught.value.code.startswith("E-ENVELOPE-")
    assert list(tmp_path.iterdir()) == []
    if part != "header":
        assert not any(node.asked_for(AcknowledgeBody) and node.asked_for(AcknowledgeBody)[-1].collected for node in net.nodes)
        assert opened(bob, envelope) == LETTER  # nothing was acknowledged, so the whole one still opens


def forged(client: Client, bob: User, net: Village, sender: tuple[bytes, SigningKey, Signed]) -> bytes:
    """An envelope out of blocks that `client` got by right, in the name of `sender`."""
    plan = Plan(client.home, client.registry, net.clock_ms)
    recipients = plan.recipients([bob.text])
    order = plan.order(recipients, None)
    gather = plan.gather_keys(order)
    client._driver.run(gather)
    about = plan.about(recipients, gather.answers)
    about["sender"] = sender
    raw, key = make_header(plan.held_blocks(order, gather.answers), **about)
    out = io.BytesIO()
    encrypt_stream(io.BytesIO(LETTER), out, raw, key, sender[1])
    return out.getvalue()


def test_a_sender_who_is_somebody_else(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    mallory = net.user("mallory")
    client, his = mallory.client(), mallory.device
    unlisted = UserHome.create(tmp_path / "unlisted", mallory.words, "unlisted", b"x", now_ms=net.clock_ms())
    senders = {
        "not one of the sender's": (his.user, unlisted.device, unlisted.certificate),
        "does not hold": (his.user, unlisted.device, his.certificate),
        "did not sign": (alice.device.user, his.device, his.certificate),
    }
    for why, sender in senders.items():
        error = refused(lambda sender=sender: opened(bob, forged(client, bob, net, sender)), "E-ENVELOPE-SENDER")
        assert why in error.detail


def test_a_recipient_cannot_make_an_envelope_of_the_same_blocks(net: Village, alice: User, bob: User) -> None:
    """If Bob opened it and acknowledged its blocks, Alice's would open no more."""
    mallory = net.user("mallory")
    out = io.BytesIO()
    alice.client().encrypt(io.BytesIO(LETTER), out, to=[bob.text, mallory.text])
    header = read_header(io.BytesIO(out.getvalue()))
    client, his = mallory.client(), mallory.device
    secrets = unseal(header, his.user, his.hpke)
    told = Plan(his, client.registry, net.clock_ms).collect_each(header, secrets)
    client._driver.run(told)
    blocks = [
        HeldBlock(
            node=block.node, node_class=block.node_class, material=told.answers[block.node].material, salt=told.answers[block.node].salt,
            block_hash=block.block_hash, seed=secrets.seeds[block.node], grant=header.core.grant, index=header.core.index,
        )
        for block in header.core.blocks
    ]  # fmt: skip
    about = Plan(his, client.registry, net.clock_ms).about([(bob.device.user, bob.device.hpke.public)], told.answers)
    about["sender"] = (his.user, his.device, his.certificate)
    raw, key = make_header(blocks, **about)
    made = io.BytesIO()
    encrypt_stream(io.BytesIO(b"open me first"), made, raw, key, his.device)
    error = refused(lambda: opened(bob, made.getvalue()), "E-ENVELOPE-SENDER")
    assert "another user" in error.detail
    assert opened(bob, out.getvalue()) == LETTER


def test_an_envelope_that_lies_about_the_classes_of_its_nodes(
    net: Village, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Plan.held_blocks

    def swapped(plan: Plan, order: Any, blocks: Any) -> list[HeldBlock]:
        held = honest(plan, order, blocks)
        for block in held:
            block.node_class = COMMUNITY if block.node_class is FOUNDATION else FOUNDATION
        return held

    with monkeypatch.context() as patched:
        patched.setattr(Plan, "held_blocks", swapped)
        envelope = sealed(alice, bob)
    refused(lambda: opened(bob, envelope), "E-CLASS-MIX")
    refused(lambda: bob.client().verify(io.BytesIO(envelope)), "E-CLASS-MIX")


def test_an_envelope_of_another_network(net: Village, alice: User, bob: User) -> None:
    client = alice.client()
    envelope = sealed(alice, bob)
    header = read_header(io.BytesIO(envelope))
    plan = Plan(bob.device, client.registry, net.clock_ms)
    elsewhere = dataclasses.replace(header, core=replace(header.core, chain="elsewhere"))
    refused(lambda: plan.sender(elsewhere), "E-PEER-CHAIN")


def test_after_its_end_an_envelope_is_expired(net: Village, alice: User, bob: User) -> None:
    envelope = sealed(alice, bob, lifetime_ms=2000)
    net.offset_ms = 3000
    refused(lambda: opened(bob, envelope), "E-ENVELOPE-EXPIRED")


def test_what_was_collected_is_gone(net: Village, alice: User, bob: User) -> None:
    envelope = sealed(alice, bob)
    assert opened(bob, envelope) == LETTER
    error = refused(lambda: opened(bob, envelope), "E-NOT-HELD")
    assert "collected" in error.detail


def test_two_recipients_each_collect(net: Village, alice: User, bob: User) -> None:
    carol = net.user("carol", requests=0)
    out = io.BytesIO()
    alice.client().encrypt(io.BytesIO(LETTER), out, to=[bob.text, carol.device.user])
    assert opened(bob, out.getvalue()) == LETTER
    assert opened(carol, out.getvalue()) == LETTER


@pytest.mark.parametrize("pad", [False, True])
def test_verify_collects_without_taking(net: Village, alice: User, bob: User, pad: bool) -> None:
    envelope = sealed(alice, bob, pad=pad)
    client = bob.client()
    for _ in range(2):
        report = client.verify(io.BytesIO(envelope), blocks=True)
        assert len(report.blocks) == 6
        assert not report.suspects
        assert not any(block.doubt for block in report.blocks)
    assert client.verify(io.BytesIO(envelope)).blocks == ()
    net.node(report.blocks[0].node).stop()
    shaky = client.verify(io.BytesIO(envelope), blocks=True)
    assert [suspect.code for suspect in shaky.suspects] == ["E-PEER-UNREACHABLE"]
    assert len(shaky.blocks) == 5
    assert opened(bob, envelope) == LETTER


def test_revoked_is_gone_and_signed_for(net: Village, alice: User, bob: User) -> None:
    envelope = sealed(alice, bob)
    refused(lambda: bob.client().revoke(io.BytesIO(envelope)), "E-NOT-SENDER")
    done = alice.client().revoke(io.BytesIO(envelope))
    assert done.holds
    assert len(done.nodes) == 6
    assert all(node.erased_ms and node.error is None for node in done.nodes)
    error = refused(lambda: opened(bob, envelope), "E-NOT-HELD")
    assert "revoked" in error.detail
    assert alice.client().revoke(io.BytesIO(envelope)) == done


def test_a_revocation_that_too_few_sign_does_not_hold(net: Village, alice: User, bob: User) -> None:
    out = io.BytesIO()
    done = alice.client().encrypt(io.BytesIO(LETTER), out, to=[bob.text])
    of_class = {c: [net.node(b.node) for b in done.blocks if b.node_class is c] for c in NodeClass}
    for nodes in of_class.values():
        nodes[0].stop()
        nodes[1].twist = refusing("E-NODE-READONLY")
    partly = alice.client().revoke(io.BytesIO(out.getvalue()))
    assert not partly.holds
    assert sorted(node.error.code for node in partly.nodes if node.error) == ["E-NODE-READONLY"] * 2 + ["E-PEER-UNREACHABLE"] * 2
    of_class[FOUNDATION][1].twist = None
    assert alice.client().revoke(io.BytesIO(out.getvalue())).holds


def test_an_erasure_for_another_block_is_no_erasure(net: Village, alice: User, bob: User) -> None:
    first = sealed(alice, bob)
    second = sealed(alice, bob)
    kept: dict[bytes, bytes] = {}

    async def play_back(node: Node, body: Any, honest: Any) -> bytes:
        if not isinstance(body, RevokeBody):
            return await honest()
        if node.id not in kept:
            kept[node.id] = await honest()
        return kept[node.id]

    for node in net.nodes:
        node.twist = play_back
    assert alice.client().revoke(io.BytesIO(first)).holds
    again = alice.client().revoke(io.BytesIO(second))
    replayed = [node for node in again.nodes if node.error]
    assert replayed
    assert {node.error.code for node in replayed if node.error} == {"E-ANSWER-INVALID"}


def test_alerts_need_somebody_to_ask(net: Village, alice: User) -> None:
    for node in net.nodes:
        node.stop()
    refused(lambda: alice.client().alerts(), "E-PEER-UNREACHABLE")


# -- the network file -----------------------------------------------------------------------------------------------------


def test_an_older_network_file_is_refused_in_a_later_run_too(net: Village) -> None:
    carol = net.user("carol")
    before = net.path.read_bytes()
    net.user("dave")
    assert Client.from_home(carol.home, passphrase=PASSPHRASE).registry.height == net.writer.version
    now = net.path.read_bytes()
    try:
        net.path.write_bytes(before)
        refused(lambda: Client.from_home(carol.home, passphrase=PASSPHRASE), "E-REGISTRY-VERSION")
    finally:
        net.path.write_bytes(now)
    Client.from_home(carol.home, passphrase=PASSPHRASE).close()
