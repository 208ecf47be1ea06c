"""A light client believes what a quorum signed and a proof leads to, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from support.light_chain import CHAIN, NO_PROOF, ROTATION_MS, START_MS, LightChain, Told, holds, sign, vote_key

from qustream.errors import QuStreamError
from qustream.light.trust import CHECKPOINT_MAX_MS, HEAD_MAX_MS, Later, Trust
from qustream.model.state import EpochEntry, Table
from qustream.wire.codec import encode
from qustream.wire.consensus import Certificate, Kind, header_digest
from qustream.wire.light import (
    Checkpoint,
    CheckpointAsk,
    HandOver,
    HandOvers,
    HandOversAsk,
    KeysAsk,
    ProofsAsk,
    SetAsk,
    SetTold,
    VoteKeys,
    checkpoint_digest,
)

EPOCH_0 = bytes([Table.EPOCH]) + bytes(8)
NOTHING_THERE = bytes([Table.EPOCH]) + b"\xff" * 8


def follow(trust: Trust, node: Told) -> Trust:
    while (question := trust.question()) is not None:
        try:
            trust.take(question, node.ask(0, encode(question)))
        except QuStreamError as error:
            if error.code != "E-NOT-HELD":
                raise
            trust.is_newest()
    return trust


def trusting(chain: LightChain, **others: Any) -> Trust:
    return Trust(chain.pinned, verify=holds, now_ms=chain.now_ms, **others)


def test_hand_overs_lead_from_the_checkpoint_to_the_present_rotation() -> None:
    chain = LightChain(rotations=7)
    trust = follow(trusting(chain), chain.node())
    assert (trust.chain, trust.rotation) == (CHAIN, 7)


def test_a_value_and_that_there_is_none_are_proven() -> None:
    chain = LightChain()
    trust = follow(trusting(chain), chain.node())
    value, nothing = trust.values([EPOCH_0, NOTHING_THERE], encode(chain.proofs([EPOCH_0, NOTHING_THERE])), chain.now_ms)
    assert value == encode(EpochEntry(0, START_MS, b"\x07" * 32))
    assert nothing is None


def test_what_is_remembered_is_gone_on_from() -> None:
    chain = LightChain(rotations=4)
    known = follow(trusting(chain), chain.node()).known
    chain.rotations = 6
    chain.now_ms += 2 * ROTATION_MS
    node = chain.node()
    trust = follow(trusting(chain, known=known), node)
    assert trust.rotation == 6
    assert node.asked <= 1 + 3 * 3  # nothing of rotations 1 to 3


def test_what_is_remembered_of_another_checkpoint_is_not_used() -> None:
    chain, other = LightChain(), LightChain(validators=7)
    known = follow(trusting(other), other.node()).known
    assert trusting(chain, known=known).rotation == 0


def test_an_old_checkpoint_is_refused() -> None:
    chain = LightChain()
    trust = Trust(chain.pinned, verify=holds, now_ms=START_MS + CHECKPOINT_MAX_MS + 1)
    with pytest.raises(QuStreamError, match="14"):
        follow(trust, chain.node())
    fresh = follow(trusting(chain), chain.node()).known
    with pytest.raises(QuStreamError) as caught:
        Trust(chain.pinned, verify=holds, now_ms=fresh.time_ms + CHECKPOINT_MAX_MS + 1, known=fresh)
    assert (caught.value.code, caught.value.exit_code) == ("E-CHECKPOINT-OLD", 78), "nobody is told to try later"


def _fewer(hand_overs: HandOvers, chain: LightChain) -> HandOvers:
    header = hand_overs.items[0].header
    return HandOvers((HandOver(header, chain.certify(header, signers=[0, 1])),))


def _certificate(hand_overs: HandOvers, change: Callable[[Certificate], Certificate]) -> HandOvers:
    first = hand_overs.items[0]
    return HandOvers((HandOver(first.header, change(first.certificate)),))


def _header(hand_overs: HandOvers, **changes: Any) -> HandOvers:
    first = hand_overs.items[0]
    return HandOvers((HandOver(replace(first.header, **changes), first.certificate),))


LIES: dict[str, tuple[type, Callable[[Any, LightChain], Any]]] = {
    "another checkpoint": (Checkpoint, lambda a, _: replace(a, rotation=2)),
    "another set": (SetTold, lambda a, _: replace(a, seats=a.seats[:3])),
    "a heavier seat": (SetTold, lambda a, _: replace(a, seats=(replace(a.seats[0], weight=1000), *a.seats[1:]))),
    "another key": (VoteKeys, lambda a, _: VoteKeys((b"\x00" * 1312, *a.keys[1:]))),
    "a key too few": (VoteKeys, lambda a, _: VoteKeys(a.keys[1:])),
    "less than a quorum": (HandOvers, _fewer),
    "a forged signature": (HandOvers, lambda a, _: _certificate(a, lambda c: replace(c, signatures=(b"\x00" * 2420, *c.signatures[1:])))),
    "one signature too few": (HandOvers, lambda a, _: _certificate(a, lambda c: replace(c, signatures=c.signatures[:-1]))),
    "a voter who is not there": (HandOvers, lambda a, _: _certificate(a, lambda c: replace(c, voters=b"\xe0\x01"))),
    "no voter": (HandOvers, lambda a, _: _certificate(a, lambda c: replace(c, voters=b"\x00"))),
    "a notarisation": (HandOvers, lambda a, _: _certificate(a, lambda c: replace(c, kind=Kind.NOTAR))),
    "another set to come": (HandOvers, lambda a, _: _header(a, next_set=b"\x01" * 32)),
    "no set to come": (HandOvers, lambda a, c: HandOvers((HandOver(c.header(1), c.certify(c.header(1))),))),
    "another rotation": (HandOvers, lambda a, c: HandOvers((c.hand_over(2),))),
    "another chain": (HandOvers, lambda a, _: _header(a, chain="other")),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_and_changes_nothing(name: str) -> None:
    chain = LightChain(rotations=3)
    kind, change = LIES[name]
    liar = chain.node(lambda _, answer: change(answer, chain) if isinstance(answer, kind) else answer)
    trust = trusting(chain)
    with pytest.raises(QuStreamError) as caught:
        follow(trust, liar)
    assert caught.value.code == "E-PROOF"
    assert trust.rotation <= 1
    assert follow(trust, chain.node()).rotation == 3


def test_signatures_of_another_rotation_do_not_count() -> None:
    chain = LightChain(rotations=3)
    trust = follow(trusting(chain), chain.node())
    answer = chain.proofs([EPOCH_0])
    strangers = replace(answer.certificate, signatures=tuple(sign(vote_key(190 + n), _statement(answer)) for n in range(3)))
    with pytest.raises(QuStreamError, match="does not hold"):
        trust.values([EPOCH_0], encode(replace(answer, certificate=strangers)), chain.now_ms)


def _statement(answer: Any) -> Any:
    from qustream.wire.consensus import Statement

    certificate = answer.certificate
    return Statement(CHAIN, certificate.rotation, certificate.view, Kind.FINAL, certificate.digest)


def test_forged_values_proofs_and_headers_are_refused() -> None:
    chain = LightChain()
    trust = follow(trusting(chain), chain.node())
    good = chain.proofs([EPOCH_0])
    entry = good.entries[0]
    forged = [
        replace(good, entries=(replace(entry, value=encode(EpochEntry(1, START_MS, bytes(32)))),)),
        replace(good, entries=(replace(entry, value=None),)),
        replace(good, entries=(replace(entry, proof=NO_PROOF),)),
        replace(good, entries=()),
        replace(good, headers=(replace(good.headers[0], executed_root=b"\x01" * 32), good.headers[1])),
        replace(good, headers=good.headers[:1]),
        replace(good, headers=tuple(reversed(good.headers))),
    ]
    for each in forged:
        with pytest.raises(QuStreamError) as caught:
            trust.values([EPOCH_0], encode(each), chain.now_ms)
        assert caught.value.code == "E-PROOF"
    assert trust.values([EPOCH_0], encode(good), chain.now_ms)


@pytest.mark.parametrize("age_ms", [HEAD_MAX_MS + 1_000, -HEAD_MAX_MS - 1_000])
def test_an_answer_that_is_not_of_now_is_refused(age_ms: int) -> None:
    chain = LightChain()
    trust = follow(trusting(chain), chain.node())
    with pytest.raises(QuStreamError) as caught:
        trust.values([EPOCH_0], encode(chain.proofs([EPOCH_0], age_ms=age_ms)), chain.now_ms)
    assert caught.value.code == "E-CHAIN-STALE"


def test_an_answer_of_a_later_rotation_says_follow_first() -> None:
    chain = LightChain(rotations=3)
    trust = follow(trusting(chain), chain.node())
    chain.rotations = 4
    answer = encode(chain.proofs([EPOCH_0]))
    with pytest.raises(Later):
        trust.values([EPOCH_0], answer, chain.now_ms + ROTATION_MS)
    trust.follow(chain.now_ms + ROTATION_MS)
    assert follow(trust, chain.node()).values([EPOCH_0], answer, chain.now_ms + ROTATION_MS)


def test_an_answer_of_the_rotation_before_still_counts() -> None:
    chain = LightChain(rotations=3)
    before = encode(chain.proofs([EPOCH_0]))
    chain.rotations = 4
    trust = follow(trusting(chain), chain.node())
    assert trust.rotation == 4
    assert trust.values([EPOCH_0], before, chain.now_ms)


def test_nothing_older_than_what_was_seen_is_taken() -> None:
    chain = LightChain(rotations=3)
    trust = follow(trusting(chain), chain.node())
    trust.values([EPOCH_0], encode(chain.proofs([EPOCH_0])), chain.now_ms)
    chain.rotations = 2
    with pytest.raises(QuStreamError, match="older"):
        trust.values([EPOCH_0], encode(chain.proofs([EPOCH_0], age_ms=-ROTATION_MS)), chain.now_ms)


def test_questions_are_asked_in_this_order_and_keys_only_once() -> None:
    chain = LightChain(rotations=3)
    trust, asked = trusting(chain), []
    node = chain.node(lambda question, answer: asked.append(question) or answer)
    follow(trust, node)
    kinds = [type(each) for each in asked]
    assert kinds[1:4] == [SetAsk, KeysAsk, HandOversAsk]
    keys = [each for question in asked if isinstance(question, KeysAsk) for each in question.hashes]
    assert len(keys) == len(set(keys)) == 4 + 2
    assert ProofsAsk not in kinds


def test_garbage_is_refused() -> None:
    chain = LightChain()
    for garbage in (b"", b"\xc0", encode(chain.checkpoint)[:-1], encode(chain.hand_over(1))):
        with pytest.raises(QuStreamError):
            trusting(chain).take(trusting(chain).question(), garbage)  # type: ignore[arg-type]


def test_a_checkpoint_is_its_digest() -> None:
    chain = LightChain()
    assert checkpoint_digest(replace(chain.checkpoint, time_ms=START_MS + 1)) != chain.pinned


def test_a_new_head_does_not_make_an_old_state_new() -> None:
    chain = LightChain()
    trust = follow(trusting(chain), chain.node())
    trust.values([EPOCH_0], encode(chain.proofs([EPOCH_0])), chain.now_ms)
    true = chain.proofs([EPOCH_0])
    # A chain of headers all of which are final, whose first names the state of some blocks before.
    first = replace(true.headers[0], executed=true.headers[0].executed - 20)
    last = replace(true.headers[1], parent=header_digest(first), height=true.headers[1].height + 5)
    answer = replace(true, headers=(first, last), certificate=chain.certify(last))
    with pytest.raises(QuStreamError, match="older state"):
        trust.values([EPOCH_0], encode(answer), chain.now_ms)


def test_who_slept_for_longer_than_a_checkpoint_is_good_follows_nobody() -> None:
    chain = LightChain()
    trust = follow(trusting(chain), chain.node())
    trust.follow(chain.now_ms + CHECKPOINT_MAX_MS - ROTATION_MS)
    with pytest.raises(QuStreamError) as caught:
        trust.follow(chain.now_ms + CHECKPOINT_MAX_MS + ROTATION_MS)
    assert caught.value.code == "E-CHECKPOINT-OLD"


def test_a_set_of_another_rotation_is_refused_whatever_its_hash() -> None:
    chain = LightChain()
    odd = replace(chain.checkpoint, set=chain.set_hash(2))
    trust = Trust(checkpoint_digest(odd), verify=holds, now_ms=chain.now_ms)
    trust.take(CheckpointAsk(trust.pinned), encode(odd))
    with pytest.raises(QuStreamError, match="not the set"):
        trust.take(SetAsk(1), encode(chain.rotation_set(2)))
