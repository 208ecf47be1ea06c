"""What a validator hears of its own votes before it votes: from whom, how much, and that none of it can be made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from support.ledger_world import voter

from qnode.core.consensus_limits import REMINDED_MAX
from qnode.service.meeting import Meeting
from qustream.wire.consensus import ConsensusAsk, ConsensusMessage, Kind, Statement, Vote

CHAIN, ME = "meeting", 2
ALICE, BOB, CAROL = b"a" * 32, b"b" * 32, b"c" * 32
ASK = ConsensusAsk(3, 8, 7, ())


@dataclass
class Link:
    peer: bytes


@dataclass
class Room:
    """As `Ballots`."""

    there: list[bytes] = field(default_factory=list)
    sent: list[tuple[Any, ConsensusMessage]] = field(default_factory=list)

    def sessions(self) -> list[Link]:
        return [Link(peer) for peer in self.there]

    def send(self, to: bytes, message: ConsensusMessage) -> None:
        self.sent.append((to, message))


@lru_cache
def vote(view: int, *, key: int = ME, validator: int = ME, chain: str = CHAIN) -> Vote:
    statement = Statement(chain, 3, view, Kind.NOTAR, b"d" * 32)
    return Vote(3, view, Kind.NOTAR, b"d" * 32, validator, voter(key).sign(statement))


def meeting(room: Room) -> Meeting:
    return Meeting(room, voter(ME), CHAIN, ME)  # type: ignore[arg-type]


def test_only_what_we_have_signed_counts() -> None:
    made = meeting(Room())
    made.hear(ALICE, [vote(8), vote(8), ASK, vote(9, key=1), vote(9, chain="another"), vote(9, validator=1), replace(vote(9), view=10)])
    assert made.words == [vote(8)]


def test_who_says_much_keeps_nobody_from_being_heard() -> None:
    made = meeting(Room())
    made.hear(ALICE, [replace(vote(8), view=view) for view in range(100, 100 + 2 * REMINDED_MAX)])
    made.hear(ALICE, [vote(8)])
    assert made.words == []
    made.hear(BOB, [vote(8)])
    assert made.words == [vote(8)]


@pytest.mark.parametrize(("there", "waited_s"), [([], 7.0), ([ALICE], 7.0), ([ALICE, BOB], 1.0), ([ALICE, BOB, CAROL], 1.0)])
async def test_it_lasts_until_a_quorum_is_there_and_could_answer(there: list[bytes], waited_s: float, autojump_clock: Any) -> None:
    room = Room(there)
    made, began_s = meeting(room), trio.current_time()
    await made.hold({ALICE: 1, BOB: 1, CAROL: 1}, 1, ASK, meet_s=6.0 if len(there) < 2 else 60.0, answer_s=1.0)
    # Nobody answers: all are asked once.
    assert sorted(room.sent) == [(peer, ASK) for peer in there]
    assert trio.current_time() - began_s == pytest.approx(waited_s if there else 6.0, abs=0.2)


async def test_it_is_over_when_all_have_answered(autojump_clock: Any) -> None:
    room = Room([ALICE, BOB])
    made, began_s = meeting(room), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: made.hold({ALICE: 1, BOB: 1, CAROL: 1}, 1, ASK, meet_s=60.0, answer_s=5.0))
        await trio.testing.wait_all_tasks_blocked()
        made.hear(ALICE, [vote(8)])
        made.hear(BOB, [vote(8)])
    assert trio.current_time() - began_s < 1.0


async def test_one_alone_meets_nobody(autojump_clock: Any) -> None:
    began_s = trio.current_time()
    await meeting(Room()).hold({}, 1, ASK, meet_s=60.0, answer_s=5.0)
    assert trio.current_time() - began_s < 0.1
