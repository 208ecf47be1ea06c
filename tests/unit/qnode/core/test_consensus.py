"""One validator's consensus, step by step: alice is 0, bob 1, carol 2, dave 3; each has weight 1, so three decide."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace as with_fields

from qnode.core.consensus import Consensus, step
from qnode.core.consensus_catchup import words_of
from qnode.core.consensus_events import (
    Accuse,
    Base,
    BlockBuilt,
    Broadcast,
    Build,
    Effect,
    Final,
    Finalise,
    Heard,
    Judge,
    Judged,
    OwnVotes,
    Persist,
    RotationBegan,
    RotationOver,
    SendEnd,
    SendKept,
    SendTo,
    Sign,
    Signed,
    SignState,
    Ticked,
    Verified,
    Verify,
    Wake,
)
from qnode.core.consensus_view import certificate
from qustream.wire.consensus import NO_DIGEST, Certificate, ChainHeader, ConsensusAsk, Kind, Proposal, Statement, Vote, header_digest

BASE = Base(b"B" * 32, 10, 1_000, 8)
ALICE, BOB, CAROL, DAVE = range(4)


def header(view: int, *, parent: bytes = BASE.digest, parent_view: int = 0, height: int = 11, time_ms: int = 2_000) -> ChainHeader:
    return ChainHeader("c", 3, view, height, parent, parent_view, time_ms, 8, bytes(32), bytes(32), 0, NO_DIGEST, NO_DIGEST, (view - 1) % 4)


def proposal(of: ChainHeader) -> Proposal:
    return Proposal(of, (), b"p%d" % of.view)


def cert(view: int, kind: Kind, digest: bytes = NO_DIGEST, voters: tuple[int, ...] = (1, 2, 3)) -> Certificate:
    return certificate(3, view, kind, digest, [(voter, b"s%d" % voter) for voter in voters])


@dataclass
class Seat:
    """A validator's core and everything it has ordered. What it wants verified is, what it wants signed is signed, at once."""

    me: int | None = ALICE
    edge_ms: int = 1_000_000
    had: SignState = field(default_factory=SignState)
    now_ms: int = 1_500
    core: Consensus = field(default_factory=Consensus)
    seen: list[Effect] = field(default_factory=list)
    judges: bool = True

    def __post_init__(self) -> None:
        self.give(RotationBegan("c", 3, (1, 1, 1, 1), (0, 1, 2, 3), BASE, self.edge_ms, self.me, self.had))

    def give(self, *events: object) -> list[Effect]:
        start, due = len(self.seen), list(events)
        while due:
            for effect in step(self.core, due.pop(0), self.now_ms):  # type: ignore[arg-type]
                self.seen.append(effect)
                if isinstance(effect, Verify):
                    due.append(Verified(effect.message, True))
                elif isinstance(effect, Sign):
                    due.append(Signed(effect.statement, b"mine"))
                elif isinstance(effect, Judge) and self.judges:
                    due.append(Judged(effect.digest, True))
        return self.seen[start:]

    def hear(self, *messages: object) -> list[Effect]:
        return self.give(*(Heard(b"peer", message) for message in messages))  # type: ignore[arg-type]

    def vote(self, view: int, kind: Kind, digest: bytes = NO_DIGEST, voters: tuple[int, ...] = (BOB, CAROL)) -> list[Effect]:
        return self.hear(*(Vote(3, view, kind, digest, voter, b"s%d" % voter) for voter in voters))

    def tick(self, passed_ms: int) -> list[Effect]:
        self.now_ms += passed_ms
        return self.give(Ticked(5))

    def signed(self, kind: Kind) -> list[tuple[int, bytes]]:
        return [(e.statement.view, e.statement.digest) for e in self.seen if isinstance(e, Sign) and e.statement.kind is kind]


def of(effects: list[Effect], kind: type) -> list:  # type: ignore[type-arg]
    return [effect for effect in effects if isinstance(effect, kind)]


def test_the_leader_builds_persists_signs_and_says() -> None:
    alice = Seat()
    build = of(alice.seen, Build)[0]
    assert (build.view, build.parent, build.height, build.must_be_empty) == (1, BASE.digest, 11, False)
    effects = alice.give(BlockBuilt(header(1), ()))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Sign) < kinds.index(Broadcast)
    assert alice.signed(Kind.PROPOSAL) == [(1, header_digest(header(1)))]
    assert alice.signed(Kind.NOTAR) == [(1, header_digest(header(1)))]  # and votes for it, once it has been judged
    assert not alice.give(BlockBuilt(header(1, time_ms=2_001), ()))  # one a view


def test_three_notars_notarise_and_three_finals_make_it_final() -> None:
    bob = Seat(me=BOB)
    block = header(1)
    digest = header_digest(block)
    bob.hear(proposal(block))
    assert bob.signed(Kind.NOTAR) == [(1, digest)]
    bob.vote(1, Kind.NOTAR, digest, (ALICE, CAROL))
    assert bob.core.view == 2
    assert bob.signed(Kind.FINAL) == [(1, digest)]
    effects = bob.vote(1, Kind.FINAL, digest, (ALICE, DAVE))
    assert [final.header.height for final in of(effects, Finalise)[0].blocks] == [11]
    assert bob.core.final_view == 1


def test_final_is_signed_for_what_we_notarised_ourselves_and_nothing_else() -> None:
    bob = Seat(me=BOB)
    bob.hear(proposal(header(1)))
    other = header_digest(header(1, time_ms=2_001))
    bob.hear(cert(1, Kind.NOTAR, other, (ALICE, CAROL, DAVE)))
    assert bob.core.view == 2
    assert bob.signed(Kind.FINAL) == []


def test_skip_after_notar_but_never_after_final() -> None:
    bob = Seat(me=BOB)
    digest = header_digest(header(1))
    bob.hear(proposal(header(1)))
    bob.tick(2_000)
    assert bob.signed(Kind.SKIP) == [(1, NO_DIGEST)]
    bob.hear(cert(1, Kind.NOTAR, digest, (ALICE, CAROL, DAVE)))
    assert bob.signed(Kind.FINAL) == []  # having skipped


def test_without_a_proposal_two_deltas_with_one_three() -> None:
    bob, carol = Seat(me=BOB), Seat(me=CAROL, judges=False)
    bob.tick(999)
    assert bob.signed(Kind.SKIP) == []
    bob.tick(1)
    assert bob.signed(Kind.SKIP) == [(1, NO_DIGEST)]
    carol.hear(proposal(header(1)))
    carol.tick(1_499)
    assert carol.signed(Kind.SKIP) == []
    carol.tick(1)
    assert carol.signed(Kind.SKIP) == [(1, NO_DIGEST)]


def test_a_block_waits_for_the_certificates_it_stands_on() -> None:
    dave = Seat(me=DAVE)
    first = header(1)
    third = header(3, parent=header_digest(first), parent_view=1, height=12, time_ms=3_000)
    dave.hear(cert(2, Kind.SKIP, voters=(ALICE, BOB, CAROL)))
    assert dave.core.view == 3
    dave.hear(proposal(first), proposal(third))
    assert dave.signed(Kind.NOTAR) == []
    dave.hear(cert(1, Kind.NOTAR, header_digest(first)))
    assert dave.signed(Kind.NOTAR) == [(3, header_digest(third))]


def test_a_block_that_does_not_fit_its_parent_gets_no_vote() -> None:
    for wrong in (header(1, height=12), header(1, time_ms=1_000), with_fields(header(1), executed=9), with_fields(header(1), executed=7)):
        bob = Seat(me=BOB)
        bob.hear(proposal(wrong))
        assert bob.signed(Kind.NOTAR) == [], wrong


def test_what_is_not_the_leaders_or_not_of_this_rotation_is_not_even_verified() -> None:
    bob = Seat(me=BOB)
    assert not bob.hear(proposal(with_fields(header(1), proposer=2)), proposal(with_fields(header(1), rotation=2)))
    assert not of(bob.hear(proposal(with_fields(header(1), rotation=4))), Verify)
    assert not bob.vote(1, Kind.SKIP, b"x" * 32)
    assert not bob.vote(1, Kind.NOTAR, b"x" * 32, (4,))
    assert not bob.vote(66, Kind.SKIP)
    assert not bob.hear(cert(1, Kind.SKIP, voters=(ALICE, BOB)))  # too little weight


def test_a_vote_is_verified_once_and_not_at_all_when_there_is_a_certificate() -> None:
    bob = Seat(me=BOB)
    assert len(of(bob.vote(1, Kind.SKIP, voters=(ALICE,)), Verify)) == 1
    assert not bob.vote(1, Kind.SKIP, voters=(ALICE,))
    bob.hear(cert(1, Kind.SKIP, voters=(ALICE, CAROL, DAVE)))
    assert not bob.vote(1, Kind.SKIP, voters=(DAVE,))


def test_two_of_a_kind_and_skip_with_final_are_evidence() -> None:
    bob = Seat(me=BOB)
    one, two = header_digest(header(1)), header_digest(header(1, time_ms=2_001))
    bob.vote(1, Kind.NOTAR, one, (CAROL,))
    assert [e.validator for e in of(bob.vote(1, Kind.NOTAR, two, (CAROL,)), Accuse)] == [CAROL]
    assert not of(bob.vote(1, Kind.SKIP, voters=(CAROL,)), Accuse)  # notar and skip are legal
    accused = of(bob.vote(1, Kind.FINAL, one, (CAROL,)), Accuse)
    assert {(a.first[0].kind, a.second[0].kind) for a in accused} == {(Kind.NOTAR, Kind.FINAL), (Kind.SKIP, Kind.FINAL)}
    bob.hear(proposal(header(1)))
    accused = of(bob.hear(proposal(header(1, time_ms=2_001))), Accuse)
    assert [(a.validator, a.first[0].kind) for a in accused] == [(ALICE, Kind.PROPOSAL)]


def test_what_was_signed_before_a_restart_is_not_signed_otherwise_after_it() -> None:
    digest = header_digest(header(1))
    bob = Seat(me=BOB, had=SignState(3, 0, {1: OwnVotes(notarised=digest)}))
    bob.hear(proposal(header(1, time_ms=2_001)))
    assert bob.signed(Kind.NOTAR) == []
    late = Seat(me=BOB, had=SignState(3, 5, {}))
    late.hear(proposal(header(1)))
    late.tick(20_000)
    late.tick(20_000)
    assert not [e for e in late.seen if isinstance(e, Sign)]  # below the view that was final nothing is remembered, so nothing is signed
    elsewhere = Seat(me=BOB, had=SignState(2, 5, {1: OwnVotes(skipped=True)}))
    elsewhere.hear(proposal(header(1)))
    assert elsewhere.signed(Kind.NOTAR) == [(1, digest)]  # another rotation


def test_who_looks_on_signs_nothing_and_learns_what_is_final() -> None:
    nobody = Seat(me=None)
    digest = header_digest(header(1))
    nobody.hear(proposal(header(1)), cert(1, Kind.FINAL, digest))
    nobody.tick(60_000)
    assert nobody.core.final_view == 1
    assert not of(nobody.seen, Sign)


def test_the_boundary_block_ends_the_rotation_and_its_descendants_count_for_nothing() -> None:
    bob = Seat(me=BOB, edge_ms=2_000)
    boundary = header(1)
    after = header(2, parent=header_digest(boundary), parent_view=1, height=11, time_ms=2_500)
    bob.hear(proposal(boundary), cert(1, Kind.NOTAR, header_digest(boundary)), proposal(after))
    effects = bob.hear(cert(2, Kind.FINAL, header_digest(after)))
    assert [final.digest for final in of(effects, Finalise)[0].blocks] == [header_digest(boundary)]
    assert of(effects, RotationOver) == [RotationOver(Base(header_digest(boundary), 11, 2_000, 8), 2, header_digest(after))]
    assert bob.core.view == 0
    assert step(bob.core, Ticked(1), bob.now_ms) == []


def test_a_block_after_the_boundary_is_empty_and_takes_no_height() -> None:
    bob = Seat(me=BOB, edge_ms=2_000)
    boundary = header(1)
    bob.hear(proposal(boundary), cert(1, Kind.NOTAR, header_digest(boundary)))
    build = of(bob.seen, Build)[0]
    assert (build.view, build.height, build.must_be_empty) == (2, 11, True)


def test_who_asks_gets_what_there_is_once_a_second() -> None:
    bob = Seat(me=BOB)
    digest = header_digest(header(1))
    bob.hear(proposal(header(1)), cert(1, Kind.FINAL, digest))
    ask = ConsensusAsk(3, 1, 0, ())
    effects = bob.hear(ask)
    assert SendKept(b"peer", 3, 1, Kind.FINAL, digest) in effects
    assert not bob.hear(ask)
    bob.now_ms += 1_000
    assert bob.hear(ConsensusAsk(2, 1, 0, ())) == [SendEnd(b"peer", 2)]


def test_what_somebody_has_said_can_be_told_him_the_newest_first() -> None:
    seat = Seat()
    for view in range(1, 12):
        seat.vote(view, Kind.SKIP, voters=(BOB,))
        seat.vote(view, Kind.NOTAR, b"h" * 32, voters=(BOB, CAROL))
    found = words_of(seat.core, BOB)
    assert [(each.view, each.validator) for each in found] == [(view, BOB) for view in range(11, 3, -1) for _ in range(2)]
    assert words_of(seat.core, DAVE) == []


def test_while_nothing_becomes_final_own_votes_are_said_again_and_paced() -> None:
    bob = Seat(me=BOB)
    bob.tick(1_000)
    again = [len([e for e in of(bob.tick(1_000), Broadcast) if isinstance(e.message, Vote)]) for _ in range(60)]
    assert 6 <= sum(again) <= 14
    assert max(again) == 1


def test_who_hears_that_others_are_ahead_asks_them_after_a_delta_until_it_is_there() -> None:
    bob = Seat(me=BOB)
    bob.vote(3, Kind.NOTAR, b"x" * 32, (DAVE,))
    assert not of(bob.tick(499), SendTo)
    for after_ms in (1, 500):
        asked = of(bob.tick(after_ms), SendTo)
        assert asked[0].to == DAVE
        assert isinstance(asked[0].message, ConsensusAsk)
    bob.hear(cert(2, Kind.SKIP))
    assert DAVE not in [effect.to for effect in of(bob.tick(500), SendTo)]


def test_a_proposal_of_a_later_view_says_as_much() -> None:
    bob = Seat(me=BOB)
    bob.hear(proposal(header(4)))
    assert DAVE in [effect.to for effect in of(bob.tick(500), SendTo)]


def test_a_leader_that_may_have_been_left_behind_is_told_once_and_asks_back() -> None:
    bob, alice = Seat(me=BOB), Seat(me=ALICE)
    assert not of(bob.tick(499), SendTo)
    [told] = of(bob.tick(1), SendTo)
    assert (told.to, told.message) == (ALICE, ConsensusAsk(3, 1, 0, ()))
    assert not of(bob.tick(499), SendTo)
    back = of(alice.hear(ConsensusAsk(3, 5, 0, ()), ConsensusAsk(3, 5, 0, ())), SendTo)
    assert [(ask.to, ask.message) for ask in back] == [(b"peer", ConsensusAsk(3, 1, 0, ()))]
    carol = Seat(me=CAROL)
    carol.hear(proposal(header(1)))
    assert not of(carol.tick(500), SendTo)  # the leader knows


def test_who_hears_of_a_later_rotation_asks_how_this_one_ended_once_a_delta() -> None:
    bob = Seat(me=BOB)
    later = [Vote(4, 1, Kind.SKIP, NO_DIGEST, voter, b"s") for voter in (ALICE, CAROL)]
    assert [(ask.to, ask.message.rotation) for ask in of(bob.hear(*later), SendTo)] == [(b"peer", 3)]
    bob.now_ms += 500
    assert len(of(bob.hear(*later), SendTo)) == 1


def test_a_wake_that_was_overtaken_plans_no_other() -> None:
    bob = Seat(me=BOB)
    bob.hear(cert(1, Kind.NOTAR, header_digest(header(1))), proposal(header(1)))
    bob.tick(500)
    bob.vote(3, Kind.NOTAR, b"x" * 32, (DAVE,))  # an earlier wake than the one for the timers of an idle view
    wakes = of(bob.seen, Wake)
    assert wakes[-1].at_ms < wakes[-2].at_ms
    for at_ms in sorted(wake.at_ms for wake in wakes) * 20:
        bob.tick(max(0, at_ms - bob.now_ms))
    ends = sorted({wake.at_ms for wake in of(bob.seen, Wake)})
    assert len(of(bob.seen, Wake)) <= len(ends) + 1


def test_a_thousand_blocks_may_come_last_one_first() -> None:
    bob = Seat(me=BOB)
    chain = [header(1)]
    for view in range(2, 1_001):
        below = chain[-1]
        chain.append(header(view, parent=header_digest(below), parent_view=view - 1, height=10 + view, time_ms=2_000 + view))
    bob.hear(cert(1_000, Kind.FINAL, header_digest(chain[-1])))
    for block in reversed(chain):
        bob.hear(cert(block.view, Kind.NOTAR, header_digest(block)), proposal(block))
    assert len(of(bob.seen, Finalise)[0].blocks) == 1_000
    assert bob.core.sizes["orphans"] == 0


def test_statements_name_chain_rotation_and_view() -> None:
    bob = Seat(me=BOB)
    bob.tick(1_000)
    assert of(bob.seen, Sign)[0].statement == Statement("c", 3, 1, Kind.SKIP, NO_DIGEST)


def test_a_validator_goes_on_from_the_last_final_block_after_a_restart() -> None:
    last = header(5, parent_view=4, height=14, time_ms=6_000)
    name = header_digest(last)
    bob = Seat(me=BOB, had=SignState(3, 5, {5: OwnVotes(notarised=name)}))
    bob.give(RotationBegan("c", 3, (1, 1, 1, 1), (0, 1, 2, 3), BASE, 1_000_000, BOB, bob.had, reached=Final(name, last, ())))
    assert (bob.core.view, bob.core.final_view) == (6, 5)
    build = of(bob.seen, Build)[-1]  # the sixth view is bob's
    assert (build.view, build.parent, build.parent_view, build.height) == (6, name, 5, 15)
    bob.give(Verified(cert(5, Kind.FINAL, name), True))
    assert not of(bob.seen, Finalise)  # known already
    above = header(6, parent=name, parent_view=5, height=15, time_ms=7_000)
    bob.hear(proposal(above), cert(6, Kind.FINAL, header_digest(above)))
    assert [block.digest for block in of(bob.seen, Finalise)[-1].blocks] == [header_digest(above)]
    assert bob.hear(ConsensusAsk(3, 1, 4, ()))  # and can tell others how far it is
