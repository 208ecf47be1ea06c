"""Nodes that fall silent, break off, refuse or are gone, over real TLS."""

from __future__ import annotations

import errno
import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.lies import (
    COMMUNITY,
    FOUNDATION,
    HONEST_MS,
    LETTER,
    opened,
    refused,
    refusing,
    sealed,
    silent,
)
from support.village import Cut, Node, User, Village

from qustream.client.asking import Gather
from qustream.client.flows import VIEW_MAX_MS
from qustream.client.reports import Encrypted
from qustream.errors import Unavailable, fault
from qustream.model.network import NodeClass
from qustream.wire.keys import AcknowledgeBody, KeyBody, RevokeBody


def test_an_answer_lost_with_its_connection_is_asked_for_again(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[COMMUNITY][2]
    given = []

    async def lose_the_first(node: Node, body: Any, honest: Any) -> bytes:
        data = await honest()
        if isinstance(body, KeyBody):
            given.append(data)
            if len(given) == 1:
                raise Cut
        return data

    node.twist = lose_the_first
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert done.suspects == ()
    assert node.id in {block.node for block in done.blocks}
    first, second = node.asked_for(KeyBody)
    assert first.seed_hash == second.seed_hash
    assert given[0] == given[1]


def test_a_node_that_always_breaks_off_is_passed_over(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[COMMUNITY][0]

    async def cut(node: Node, body: Any, honest: Any) -> bytes:
        raise Cut

    node.twist = cut
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code, suspect.is_fault) for suspect in done.suspects] == [(node.id, "E-PEER-CLOSED", False)]
    assert len(node.asked) == 2


def test_no_answer_within_the_deadline(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[FOUNDATION][0]
    node.twist = silent
    done = alice.client(timeout_ms=HONEST_MS).encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code, suspect.is_fault) for suspect in done.suspects] == [(node.id, "E-DEADLINE", False)]
    assert len(node.asked_for(KeyBody)) == 2


def test_a_slow_node_does_not_hold_up_the_others(net: Village, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gather, "patience_ms", HONEST_MS)
    node = alice.next_ranks()[FOUNDATION][0]
    node.twist = silent
    began_s = time.monotonic()
    done = alice.client(timeout_ms=120_000).encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert time.monotonic() - began_s < 120  # nobody waited for its answer
    assert [(suspect.node, suspect.code) for suspect in done.suspects] == [(node.id, "E-DEADLINE")]
    assert len(done.blocks) == 6


@pytest.mark.parametrize("code", ["E-ENTROPY-SHORT", "E-CHAIN-STALE", "E-NODE-FULL", "E-NODE-READONLY", "E-NOT-ASSIGNED"])
def test_a_refusal_leads_to_the_next_rank(net: Village, alice: User, bob: User, code: str) -> None:
    node = alice.next_ranks()[COMMUNITY][1]
    node.twist = refusing(code, "not now")
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code, suspect.is_fault) for suspect in done.suspects] == [(node.id, code, False)]


def test_a_refusal_that_only_an_operator_could_mean_is_no_refusal(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[COMMUNITY][1]
    node.twist = refusing("E-CONFIG", "reformat your disk")
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code, suspect.is_fault) for suspect in done.suspects] == [(node.id, "E-ANSWER-INVALID", False)]
    assert "disk" not in str(done.suspects)


def test_ranks_four_and_five_serve_when_two_are_gone(net: Village, alice: User, bob: User) -> None:
    ranks = alice.next_ranks()
    for node in (*ranks[FOUNDATION][:2], *ranks[COMMUNITY][1:3]):
        node.stop()
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert {suspect.code for suspect in done.suspects} == {"E-PEER-UNREACHABLE"}
    assert {block.node for block in done.blocks} == {
        node.id for node in (*ranks[FOUNDATION][2:], ranks[COMMUNITY][0], *ranks[COMMUNITY][3:])
    }


@pytest.mark.parametrize("node_class", [FOUNDATION, COMMUNITY])
def test_a_class_that_is_down_is_named_quickly_with_every_reason(
    net: Village, alice: User, bob: User, node_class: NodeClass, tmp_path: Path
) -> None:
    envelope = sealed(alice, bob)
    for node in net.of(node_class):
        node.stop()
    letter = tmp_path / "letter"
    letter.write_bytes(LETTER)
    started = time.monotonic()
    to_encrypt = refused(lambda: alice.client().encrypt(letter, tmp_path / "letter.qs", to=[bob.text]), "E-CLASS-SHORT")
    to_open = refused(lambda: bob.client().open(io.BytesIO(envelope), tmp_path / "letter.opened"), "E-CLASS-SHORT")
    assert time.monotonic() - started < 60  # no deadline was waited for
    for error, nodes in ((to_encrypt, 5), (to_open, 3)):
        assert isinstance(error, Unavailable)
        assert node_class.name.lower() in error.detail
        assert error.detail.count("E-PEER-UNREACHABLE") == nodes
    assert list(tmp_path.iterdir()) == [letter]


def test_blocks_of_an_envelope_that_never_was_are_given_back(net: Village, alice: User, bob: User) -> None:
    for node in net.of(COMMUNITY):
        node.twist = refusing("E-NODE-FULL")
    refused(lambda: sealed(alice, bob), "E-CLASS-SHORT")
    for node in net.of(FOUNDATION):
        assert len(node.asked_for(RevokeBody)) == len(node.asked_for(KeyBody)) == (1 if node.asked else 0)


class FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_blocks_are_given_back_when_the_envelope_cannot_be_written(net: Village, alice: User, bob: User) -> None:
    with pytest.raises(OSError, match="No space left"):
        alice.client().encrypt(io.BytesIO(LETTER), FullDisk(), to=[bob.text])
    assert sum(len(node.asked_for(RevokeBody)) for node in net.nodes) == 6
    assert not any(node.asked_for(AcknowledgeBody) for node in net.nodes)


def test_nobody_forgets_before_the_file_is_in_its_place(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    letter, envelope, copy = (tmp_path / name for name in ("letter", "letter.qs", "copy"))
    letter.write_bytes(LETTER)
    there = []

    async def look(node: Node, body: Any, honest: Any) -> bytes:
        if isinstance(body, AcknowledgeBody):
            there.append((copy if body.collected else envelope).exists())
        return await honest()

    for node in net.nodes:
        node.twist = look
    alice.client().encrypt(letter, envelope, to=[bob.text])
    bob.client().open(envelope, copy)
    assert there == [True] * 12
    assert copy.read_bytes() == LETTER


def test_a_node_that_takes_no_acknowledgement_is_reported_and_harmless(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[COMMUNITY][0]

    async def deaf(node: Node, body: Any, honest: Any) -> bytes:
        if isinstance(body, AcknowledgeBody):
            raise fault("E-NODE-READONLY")
        return await honest()

    node.twist = deaf
    done = alice.client().encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert done.unacknowledged == (node.id,)
    assert len(done.blocks) == 6


# -- the client itself ----------------------------------------------------------------------------------------------------


def test_threads_share_a_client(net: Village, alice: User, bob: User) -> None:
    client, outs = alice.client(), [io.BytesIO() for _ in range(4)]
    done: list[Encrypted] = []
    threads = [threading.Thread(target=lambda out=out: done.append(client.encrypt(io.BytesIO(LETTER), out, to=[bob.text]))) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.index for each in done}) == 4
    assert all(len(each.blocks) == 6 and not each.suspects for each in done)
    assert [opened(bob, out.getvalue()) for out in outs] == [LETTER] * 4


def test_a_network_file_that_is_gone_is_borne_for_a_while(net: Village, alice: User, bob: User) -> None:
    client = alice.client()
    away = net.path.with_suffix(".away")
    net.path.rename(away)
    try:
        assert client.grants()
        net.offset_ms = VIEW_MAX_MS + 1
        error = refused(lambda: client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text]), "E-CHAIN-STALE")
        assert "10 minutes" in error.detail
        assert "No such file" in error.detail
    finally:
        away.rename(net.path)
    client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
