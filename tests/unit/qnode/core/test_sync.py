"""The core of getting the chain from others, event by event: whom it asks for what, whom it believes, rests and charges."""

from __future__ import annotations

from typing import TypeVar

import pytest

from qnode.core import sync_limits as limits
from qnode.core.consensus_events import Final
from qnode.core.sync import Sync, step
from qnode.core.sync_events import (
    AskBlocks,
    AskBody,
    BlocksTold,
    BodyTold,
    Charge,
    Effect,
    Event,
    Finalise,
    Found,
    Head,
    Keep,
    Kept,
    Look,
    Moved,
    NotFinalised,
    PeerFound,
    PeerLost,
    Refused,
    Ticked,
    Verified,
    Verify,
)
from qustream.rules import merkle
from qustream.wire.consensus import VOTE_SIGNATURE_BYTES, Certificate, ChainHeader, Kind, header_digest
from qustream.wire.sync import HEADERS_MAX, BlocksAnswer, BodyAnswer

CHAIN, ZERO, BASE = "chain", bytes(32), b"\x0b" * 32
ALICE, BOB, CAROL, DAVE = (bytes([letter]) * 32 for letter in b"abcd")
IDS = tuple(bytes([number]) * 32 for number in range(3))
_E = TypeVar("_E", bound=Effect)


def run(head: Head, *bodies: tuple[bytes, ...], known: bool = True) -> BlocksAnswer:
    headers, parent = [], head.digest
    for place, ids in enumerate(bodies):
        height = head.height + 1 + place
        headers.append(ChainHeader(CHAIN, 1, height, height, parent, 0, 0, 0, ZERO, merkle.root(ids), len(ids), ZERO, ZERO, 0))
        parent = header_digest(headers[-1])
    message = Certificate(1, headers[-1].view, Kind.FINAL, parent, b"\xe0", (bytes(VOTE_SIGNATURE_BYTES),) * 3)
    return BlocksAnswer(headers[-1].height, tuple(headers), bodies if known else (), message)


HEAD = Head(10, BASE, 1, (1, 1, 1, 1))
NONE = BlocksAnswer(10, (), (), None)


def after(head: Head, answer: BlocksAnswer) -> Head:
    return Head(answer.headers[-1].height, header_digest(answer.headers[-1]), 1, head.weights, head.is_validator)


class Follower:
    def __init__(self, *peers: bytes, head: Head = HEAD) -> None:
        self.sync, self.now_ms, self.all = Sync(CHAIN), 0, list[Effect]()
        self.does(Moved(head))
        for peer in peers:
            self.does(PeerFound(peer))

    def does(self, event: Event, after_ms: int = 0) -> list[Effect]:
        self.now_ms += after_ms
        effects = step(self.sync, event, self.now_ms)
        self.all += effects
        return effects

    def last(self, kind: type[_E]) -> _E:
        return [effect for effect in self.all if isinstance(effect, kind)][-1]

    def asks(self, *, givers: bool) -> list[AskBlocks]:
        return [effect for effect in self.all if isinstance(effect, AskBlocks) and bool(effect.most) is givers]

    def tell(self, answer: BlocksAnswer, after_ms: int = 0) -> list[Effect]:
        giver = self.asks(givers=True)[-1]
        return self.does(BlocksTold(giver.peer, giver.ask, answer), after_ms)

    def verified(self, answer: BlocksAnswer) -> list[Effect]:
        self.tell(answer)
        return self.does(Verified(self.last(Verify).run, True))


def of(effects: list[Effect], kind: type[_E]) -> list[_E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_one_is_asked_for_blocks_and_two_how_far_they_are() -> None:
    one = Follower(ALICE, BOB, CAROL, DAVE)
    (giver,) = one.asks(givers=True)
    assert (giver.above, giver.most, giver.wait_ms) == (10, HEADERS_MAX, limits.WAIT_MS)
    watches = one.asks(givers=False)
    assert [(each.above, each.most, each.wait_ms) for each in watches] == [(12, 0, limits.WAIT_MS)] * 2
    assert one.does(Ticked(5), 1000) == []
    assert one.sync.sizes == {"peers": 4, "asks": 3, "bodies": 0, "run": 0}


def test_blocks_are_verified_fetched_and_handed_on() -> None:
    one = Follower(ALICE)
    answer = run(HEAD, (), IDS)
    effects = one.tell(answer)
    (verify,) = of(effects, Verify)
    assert verify.certificate == answer.certificate
    assert not of(effects, Look)
    effects = one.does(Verified(verify.run, True))
    assert of(effects, Look) == [Look(12, IDS)]
    (ask,) = of(one.does(Found(12, (1, 2))), AskBody)
    assert (ask.peer, ask.height, ask.first, ask.count) == (ALICE, 12, 1, 2)
    effects = one.does(BodyTold(ALICE, ask.ask, BodyAnswer((), (b"1", b"2")), IDS[1:]))
    assert of(effects, Keep) == [Keep(12, (1, 2), IDS[1:], (b"1", b"2"))]
    assert not of(effects, Finalise)
    (finalise,) = of(one.does(Kept(12, (1, 2))), Finalise)
    assert [(final.header.height, final.ids) for final in finalise.blocks] == [(11, ()), (12, IDS)]
    assert (finalise.certificate, finalise.tail) == (answer.certificate, ())
    (giver,) = [each for each in of(one.does(Moved(after(HEAD, answer))), AskBlocks) if each.most]
    assert (giver.peer, giver.above) == (ALICE, 12)


def test_ids_that_did_not_come_along_are_asked_for() -> None:
    one = Follower(ALICE)
    (ask,) = of(one.verified(run(HEAD, IDS, known=False)), AskBody)
    assert (ask.height, ask.first, ask.count) == (11, 0, 3)
    one.does(BodyTold(ALICE, ask.ask, BodyAnswer(IDS, (b"0",)), IDS[:1]))
    assert of(one.all, Look) == []  # first what came is on disk
    assert of(one.does(Kept(11, (0,))), Look) == [Look(11, IDS)]
    (ask,) = of(one.does(Found(11, (1, 2))), AskBody)
    assert (ask.first, ask.count) == (1, 2)


def test_a_boundary_block_is_handed_on_with_what_proves_it() -> None:
    one = Follower(ALICE)
    answer = run(HEAD, ())
    tail = ChainHeader(
        CHAIN, 1, 99, 11, header_digest(answer.headers[0]), 0, 0, 0, ZERO, merkle.root(()), 0, ZERO, ZERO, 0
    )  # fmt: skip
    message = Certificate(1, 99, Kind.FINAL, header_digest(tail), b"\xe0", (bytes(VOTE_SIGNATURE_BYTES),) * 3)
    effects = one.verified(BlocksAnswer(11, (*answer.headers, tail), (), message))
    (finalise,) = of(effects, Finalise)
    assert finalise.blocks == (Final(header_digest(answer.headers[0]), answer.headers[0], ()),)
    assert finalise.tail == (tail,)


@pytest.mark.parametrize("lie", ["headers", "signature", "body", "ids", "nothing", "no message"])
def test_who_lies_is_charged_and_asked_no_more(lie: str) -> None:
    one = Follower(ALICE)
    if lie == "headers":
        one.tell(run(Head(10, ZERO, 1, HEAD.weights), ()))
    elif lie == "signature":
        one.tell(run(HEAD, ()))
        one.does(Verified(one.last(Verify).run, False))
    elif lie == "no message":
        giver = one.asks(givers=True)[-1]
        one.does(Refused(giver.peer, giver.ask, is_lie=True))
    else:
        one.verified(run(HEAD, IDS, known=lie != "ids"))
        if lie != "ids":
            one.does(Found(11, (0, 1, 2)))
        ask = one.last(AskBody)
        ids, names = {"body": ((), IDS[::-1]), "ids": (IDS[:2], IDS[:1]), "nothing": ((), ())}[lie]
        one.does(BodyTold(ALICE, ask.ask, BodyAnswer(ids, (b"0",) * len(names)), names))
    assert [each.peer for each in of(one.all, Charge)] == [ALICE]
    assert one.last(Charge).why
    asked = len(one.all)
    one.does(Ticked(1), limits.REST_MAX_MS)
    assert len(one.all) == asked
    one.does(PeerLost(ALICE))
    one.does(PeerFound(ALICE))  # it comes again
    assert len(one.all) == asked
    one.does(PeerFound(BOB))
    assert len(one.all) > asked


def test_a_good_run_is_finished_though_its_giver_is_gone() -> None:
    one = Follower(ALICE, BOB)
    one.verified(run(HEAD, IDS))
    one.does(Found(11, (0,)))
    given = one.last(AskBody)
    (ask,) = of(one.does(PeerLost(given.peer)), AskBody)
    assert ask.peer != given.peer
    assert one.does(BodyTold(given.peer, given.ask, BodyAnswer((), (b"x",)), IDS[2:])) == []  # nothing comes of it any more
    one.does(BodyTold(ask.peer, ask.ask, BodyAnswer((), (b"0",)), IDS[:1]))
    assert of(one.does(Kept(11, (0,))), Finalise)


def test_a_part_that_does_not_come_is_asked_of_another_too() -> None:
    one = Follower(ALICE, BOB)
    one.verified(run(HEAD, IDS))
    one.does(Found(11, (0, 1, 2)))
    first = one.last(AskBody)
    assert of(one.does(Ticked(0), limits.BODY_MS - 1), AskBody) == []
    (second,) = of(one.does(Ticked(0), 1), AskBody)
    assert (second.peer != first.peer, second.first, second.count) == (True, 0, 3)
    one.does(BodyTold(second.peer, second.ask, BodyAnswer((), (b"0", b"1", b"2")), IDS))
    one.does(Kept(11, (0, 1, 2)))
    assert of(one.does(BodyTold(first.peer, first.ask, BodyAnswer((), (b"0",)), IDS[:1])), Keep) == []
    assert len(of(one.all, Finalise)) == 1


def test_who_does_not_have_a_body_is_not_asked_for_it_again_at_once() -> None:
    one = Follower(ALICE, BOB)
    one.verified(run(HEAD, IDS))
    one.does(Found(11, (0, 1, 2)))
    first = one.last(AskBody)
    (second,) = of(one.does(Refused(first.peer, first.ask)), AskBody)
    assert second.peer != first.peer
    one.does(Refused(second.peer, second.ask))
    assert len(of(one.all, AskBody)) == 2
    one.does(Ticked(0), limits.REST_MS)
    one.does(Ticked(0), 1)  # nobody else has it: it begins anew
    assert len(of(one.all, AskBody)) == 3


def test_a_watch_that_is_ahead_is_asked_for_blocks() -> None:
    one = Follower(ALICE, BOB)
    watch = one.asks(givers=False)[-1]
    assert of(one.does(BlocksTold(watch.peer, watch.ask, BlocksAnswer(50, (), (), None))), AskBlocks) == []  # the giver has had no time
    assert one.sync.told == 50
    (giver,) = of(one.does(Ticked(0), limits.GIVER_MS), AskBlocks)
    assert (giver.peer, giver.most, giver.wait_ms) == (watch.peer, HEADERS_MAX, 0)
    one.tell(BlocksAnswer(50, (), (), None))  # it told of blocks, and gives none
    assert of(one.all, Charge) == []
    assert one.sync.told == 0
    one.does(Ticked(0), 2 * limits.REST_MS - 1)
    assert len(one.asks(givers=True)) == 2


def test_a_validator_asks_only_when_it_is_overtaken() -> None:
    head = Head(10, BASE, 1, HEAD.weights, is_validator=True)
    one = Follower(ALICE, BOB, head=head)
    assert one.asks(givers=True) == []
    watch = one.asks(givers=False)[0]
    one.does(BlocksTold(watch.peer, watch.ask, BlocksAnswer(13, (), (), None)))
    one.does(Ticked(0), limits.WATCH_REST_MS)
    assert one.asks(givers=True) == []
    other = [each for each in one.asks(givers=False) if each.peer != watch.peer][-1]
    one.does(BlocksTold(other.peer, other.ask, BlocksAnswer(14, (), (), None)))
    (giver,) = one.asks(givers=True)
    assert (giver.peer, giver.above) == (other.peer, 10)
    slow = Follower(ALICE, head=head)
    watch = slow.asks(givers=False)[0]
    slow.does(BlocksTold(watch.peer, watch.ask, BlocksAnswer(11, (), (), None)))
    assert slow.asks(givers=True) == []
    slow.does(Ticked(0), limits.STALE_MS + 1)  # nothing has come for long: any block will do
    assert len(slow.asks(givers=True)) == 1


def test_what_others_bring_meanwhile_is_left_out() -> None:
    one = Follower(ALICE)
    answer = run(HEAD, (), IDS, ())
    one.verified(answer)
    between = Head(11, header_digest(answer.headers[0]), 1, HEAD.weights)
    one.does(Moved(between))
    (finalise,) = of(one.does(Found(12, ())), Finalise)
    assert [final.header.height for final in finalise.blocks] == [12, 13]
    late = Follower(ALICE)
    late.does(Moved(between))
    effects = late.tell(answer)  # asked for above 10
    assert of(effects, Charge) == []
    late.does(Verified(of(effects, Verify)[0].run, True))
    assert late.sync.sizes["run"] == 2
    late.does(Moved(Head(13, header_digest(answer.headers[2]), 2, HEAD.weights)))
    assert late.sync.sizes["run"] == 0


def test_a_disk_that_is_full_is_tried_again() -> None:
    one = Follower(ALICE)
    assert of(one.verified(run(HEAD, ())), Finalise)
    assert one.does(NotFinalised()) == []
    one.does(Ticked(0), limits.RETRY_MS - 1)
    givers = len(one.asks(givers=True))
    one.does(Ticked(0), 1)
    assert len(one.asks(givers=True)) == givers + 1


def test_refusals_grow_and_limits_are_obeyed() -> None:
    one = Follower(ALICE)
    rests = []
    for _ in range(4):
        giver = one.asks(givers=True)[-1]
        one.does(Refused(ALICE, giver.ask))
        rested = 0
        while one.asks(givers=True)[-1] is giver:
            one.does(Ticked(0), 500)
            rested += 500
        rests.append(rested)
    assert rests == [1000, 2000, 4000, 8000]
    giver = one.asks(givers=True)[-1]
    one.does(Refused(ALICE, giver.ask, after_ms=1 << 40))
    one.does(Ticked(0), limits.REST_MAX_MS)
    assert one.asks(givers=True)[-1] is not giver


def test_who_says_later_is_as_far_as_it_said_and_who_does_not_answer_is_not() -> None:
    one = Follower(ALICE, BOB)
    watch = one.asks(givers=False)[-1]
    one.does(BlocksTold(watch.peer, watch.ask, BlocksAnswer(700, (), (), None)))
    one.does(Ticked(0), limits.GIVER_MS)  # the first giver brings nothing
    giver = one.asks(givers=True)[-1]
    assert giver.peer == watch.peer
    one.does(Refused(giver.peer, giver.ask, after_ms=5_000))
    assert (one.sync.told, one.sync.spoken) == (700, 700)
    one.does(Ticked(0), 5_000)
    again = one.asks(givers=True)[-1]
    assert again.peer == giver.peer
    assert again is not giver
    one.does(Refused(again.peer, again.ask))
    assert one.sync.told == 0


def test_later_is_no_failure_and_no_word_of_a_height_for_ever() -> None:
    one, waited = Follower(ALICE, BOB), 0
    watch = one.asks(givers=False)[-1]
    one.does(BlocksTold(watch.peer, watch.ask, BlocksAnswer(700, (), (), None)))
    one.does(Ticked(0), limits.GIVER_MS)
    while waited < limits.TOLD_MS:
        giver = [ask for ask in one.asks(givers=True) if ask.peer == watch.peer][-1]
        one.does(Refused(giver.peer, giver.ask, after_ms=5_000))
        assert one.sync.told == 700
        one.does(Ticked(0), 5_000)
        again = [ask for ask in one.asks(givers=True) if ask.peer == watch.peer][-1]
        assert again is not giver, "it is asked when it said, however often it says so"
        waited += 5_000
    one.does(Refused(again.peer, again.ask, after_ms=5_000))
    assert one.sync.told == 0


def test_later_makes_up_for_no_failure() -> None:
    """Or who refuses all and says so late would be asked first, again and again."""
    one = Follower(ALICE)
    for rest_ms in (1_000, 2_000, 4_000, 8_000):
        one.does(Refused(ALICE, one.asks(givers=True)[-1].ask))
        one.does(Ticked(0), rest_ms)
    giver = one.asks(givers=True)[-1]
    one.does(Refused(ALICE, giver.ask, after_ms=1))
    one.does(Ticked(0), 15_900)
    assert one.asks(givers=True)[-1] is giver
    one.does(Ticked(0), 100)
    assert one.asks(givers=True)[-1] is not giver


def test_peers_are_remembered_within_bounds() -> None:
    one = Follower(ALICE)
    for number in range(limits.PEERS_MAX + 50):
        name = number.to_bytes(32, "big")
        one.does(PeerFound(name))
        if number % 2:
            one.does(PeerLost(name))
    assert one.sync.sizes["peers"] == limits.PEERS_MAX
