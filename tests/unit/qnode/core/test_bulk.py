"""The core of a fetch, event by event: whom it asks for what, what it keeps, whom it charges, leaves and forgives."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import pytest

from qnode.core import bulk_limits as limits
from qnode.core.bulk import Fetch, Stage, step
from qnode.core.bulk_events import (
    AskManifest,
    AskPieces,
    Begin,
    Charge,
    Done,
    Effect,
    Event,
    Failed,
    Held,
    HolderFound,
    HolderLost,
    Keep,
    Kept,
    ManifestTold,
    PieceCame,
    Refused,
    Ticked,
)
from qustream.wire.bulk import PIECE_BYTES, manifest_of, object_id
from qustream.wire.codec import encode

ALICE, BOB, CAROL = (bytes([letter]) * 32 for letter in b"abc")
COUNT = 10
PIECES = [bytes([i]) * PIECE_BYTES for i in range(COUNT - 1)] + [b"the last one"]
MANIFEST = manifest_of(sum(map(len, PIECES)), [hashlib.sha256(piece).digest() for piece in PIECES])
NAME = object_id(MANIFEST)
_E = TypeVar("_E", bound=Effect)


class Fetcher:
    """A core, driven by hand; every piece is on the disk as soon as it is to be kept."""

    def __init__(self, *holders: bytes, known: bool = True, held: frozenset[int] = frozenset(), most_bytes: int = 1 << 30) -> None:
        self.now_ms = 1_000
        self.core = Fetch(NAME, self.now_ms, manifest=MANIFEST if known else None, most_bytes=most_bytes)
        self.effects: list[Effect] = []
        for holder in holders:
            self.does(HolderFound(holder))
        if known:
            self.does(Held(held))

    def does(self, event: Event) -> list[Effect]:
        effects = step(self.core, event, self.now_ms)
        self.effects += effects
        for effect in list(effects):
            if isinstance(effect, Keep):
                effects += self.does(Kept(effect.index))
        return effects

    def sends(self, holder: bytes, *indices: int) -> list[Effect]:
        return [effect for index in indices for effect in self.does(PieceCame(holder, index, PIECES[index]))]

    def waits(self, ms: int) -> list[Effect]:
        """Ticks four times a second."""
        effects: list[Effect] = []
        for _ in range(ms // 250):
            self.now_ms += 250
            effects += self.does(Ticked())
        return effects

    def all(self, kind: type[_E]) -> list[_E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]


def asked(effects: list[Effect]) -> list[tuple[bytes, int, int]]:
    return [(effect.holder, effect.first, effect.count) for effect in effects if isinstance(effect, AskPieces)]


# --- the manifest


def test_the_manifest_comes_first_and_is_checked() -> None:
    fetcher = Fetcher(known=False)
    [ask] = fetcher.does(HolderFound(ALICE))
    assert ask == AskManifest(ALICE, 1)
    assert fetcher.does(HolderFound(BOB)) == []  # one is asked at a time
    assert fetcher.does(ManifestTold(ALICE, 1, encode(MANIFEST))) == [Begin(MANIFEST)]
    assert asked(fetcher.does(Held(frozenset()))) == [(ALICE, 0, 4), (BOB, 4, 4)]


@pytest.mark.parametrize(
    "data",
    [b"", encode(MANIFEST)[:-1], encode(manifest_of(1, [bytes(32)])), encode(MANIFEST)[:-1] + b"?"],
    ids=["empty", "short", "another", "forged"],
)
def test_a_manifest_that_is_not_true_is_charged_and_asked_elsewhere(data: bytes) -> None:
    fetcher = Fetcher(ALICE, BOB, known=False)
    effects = fetcher.does(ManifestTold(ALICE, 1, data))
    [charge] = [effect for effect in effects if isinstance(effect, Charge)]
    assert charge.holder == ALICE
    assert AskManifest(BOB, 2) in effects
    assert fetcher.does(HolderFound(ALICE)) == []
    assert fetcher.core.holders == [BOB]


def test_a_silent_holder_of_the_manifest_is_left_for_another() -> None:
    fetcher = Fetcher(ALICE, BOB, known=False)
    fetcher.waits(limits.MANIFEST_MS)
    assert [ask.holder for ask in fetcher.all(AskManifest)] == [ALICE, BOB]
    assert not fetcher.all(Charge)


def test_what_is_larger_than_wanted_is_not_fetched() -> None:
    fetcher = Fetcher(ALICE, known=False, most_bytes=MANIFEST.size - 1)
    assert fetcher.does(ManifestTold(ALICE, 1, encode(MANIFEST))) == [Failed("E-WIRE-OVERSIZE")]


# --- pieces


def test_an_honest_holder_gives_it_all_in_a_growing_window() -> None:
    fetcher = Fetcher(ALICE)
    assert asked(fetcher.effects) == [(ALICE, 0, 4)]
    assert asked(fetcher.sends(ALICE, 0, 1, 2)) == []
    assert asked(fetcher.sends(ALICE, 3)) == [(ALICE, 4, 4), (ALICE, 8, 2)]
    assert fetcher.core.under_way == 6
    effects = fetcher.sends(ALICE, *range(4, COUNT))
    assert effects[-1] == Done()
    assert {keep.index: keep.data for keep in fetcher.all(Keep)} == dict(enumerate(PIECES))
    assert (fetcher.core.missing, fetcher.core.under_way, fetcher.core.stage) == (0, 0, Stage.OVER)


def test_it_ends_when_the_last_piece_is_on_the_disk_and_not_before() -> None:
    core = Fetch(NAME, 0, manifest=MANIFEST)
    step(core, Held(frozenset(range(COUNT - 1))), 0)
    step(core, HolderFound(ALICE), 0)
    assert step(core, PieceCame(ALICE, COUNT - 1, PIECES[-1]), 0) == [Keep(COUNT - 1, PIECES[-1])]
    assert step(core, Kept(COUNT - 1), 0) == [Done()]


def test_what_is_on_the_disk_is_not_asked_for() -> None:
    fetcher = Fetcher(ALICE, held=frozenset({0, 1, 2, 5}))
    assert asked(fetcher.effects) == [(ALICE, 3, 2)]
    assert asked(fetcher.sends(ALICE, 3, 4)) == [(ALICE, 6, 4)]
    assert Fetcher(held=frozenset(range(COUNT))).effects == [Done()]


@pytest.mark.parametrize(
    ("index", "data"),
    [(0, bytes(PIECE_BYTES - 1)), (0, PIECES[1]), (COUNT - 1, PIECES[0]), (COUNT, b"x"), (4095, b"x"), (COUNT - 1, b"the last onE")],
)
def test_a_piece_that_is_not_true_is_charged_and_asked_elsewhere(index: int, data: bytes) -> None:
    fetcher = Fetcher(ALICE)
    fetcher.does(HolderFound(BOB))
    effects = fetcher.does(PieceCame(ALICE, index, data))
    assert effects[0] == Charge(ALICE, "E-ANSWER-INVALID")
    assert fetcher.core.holders == [BOB]
    fetcher.sends(BOB, *range(4, 8))
    fetcher.sends(BOB, *range(4), 8, 9)
    assert fetcher.all(Done)
    assert all(keep.data == PIECES[keep.index] for keep in fetcher.all(Keep))


def test_a_liar_does_not_come_back_and_what_it_sends_later_is_nothing() -> None:
    fetcher = Fetcher(ALICE)
    fetcher.does(PieceCame(ALICE, 0, b"x"))
    assert fetcher.does(HolderFound(ALICE)) == []
    assert fetcher.sends(ALICE, 0) == []


def test_who_goes_gives_back_and_may_come_again() -> None:
    fetcher = Fetcher(ALICE, BOB)
    assert asked(fetcher.effects) == [(ALICE, 0, 4), (BOB, 4, 4)]
    fetcher.sends(ALICE, 1)
    fetcher.does(HolderLost(ALICE))
    assert asked(fetcher.sends(BOB, 4, 5, 6, 7)) == [(BOB, 0, 1), (BOB, 2, 2)]
    assert asked(fetcher.does(HolderFound(ALICE))) == [(ALICE, 8, 2)]
    assert fetcher.does(HolderLost(CAROL)) == []
    assert not fetcher.all(Charge)


def test_a_piece_that_comes_after_it_was_given_up_counts() -> None:
    fetcher = Fetcher(ALICE)
    fetcher.waits(limits.STALL_MS)
    assert fetcher.core.under_way == 0
    assert [effect.index for effect in fetcher.sends(ALICE, 2) if isinstance(effect, Keep)] == [2]
    assert not fetcher.all(Charge)
    assert fetcher.sends(ALICE, 2) == []  # and a second time for nothing


# --- slow, busy, silent


def test_three_stalls_and_a_holder_is_out_uncharged() -> None:
    fetcher = Fetcher(ALICE)
    fetcher.waits(3 * (limits.STALL_MS + limits.REST_MS) + 1000)
    assert len(fetcher.all(AskPieces)) == 3
    assert fetcher.core.holders == []
    assert not fetcher.all(Charge)
    fetcher.waits(limits.STARVED_MS)
    assert fetcher.effects[-1] == Failed("E-DEADLINE")


def test_who_sends_something_is_not_stalled() -> None:
    fetcher = Fetcher(ALICE)
    for index in range(3):
        fetcher.waits(limits.STALL_MS - 250)
        fetcher.sends(ALICE, index)
    assert asked(fetcher.effects) == [(ALICE, 0, 4)]
    assert fetcher.core.under_way == 1


def test_a_busy_holder_is_left_alone_as_long_as_it_says_within_reason() -> None:
    fetcher = Fetcher(ALICE)
    [ask] = fetcher.all(AskPieces)
    assert asked(fetcher.does(Refused(ALICE, ask.ask, "E-PEER-LIMIT", 500))) == []
    assert asked(fetcher.waits(250)) == []
    assert asked(fetcher.waits(250)) == [(ALICE, 0, 4)]
    again = fetcher.all(AskPieces)[-1]
    fetcher.does(Refused(ALICE, again.ask, "E-PEER-LIMIT", 1 << 50))
    assert asked(fetcher.waits(limits.REST_MAX_MS)) == [(ALICE, 0, 4)]
    assert not fetcher.all(Charge)


@pytest.mark.parametrize("code", ["E-NOT-HELD", "E-PEER-UNLICENSED", "E-ANSWER-INVALID"])
def test_who_will_not_is_not_asked_again_and_not_charged(code: str) -> None:
    fetcher = Fetcher(ALICE)
    fetcher.does(Refused(ALICE, fetcher.all(AskPieces)[0].ask, code))
    assert fetcher.core.holders == []
    assert fetcher.does(HolderFound(ALICE)) == []
    assert not fetcher.all(Charge)
    fetcher.waits(limits.STARVED_MS)
    assert fetcher.effects[-1] == Failed(code)


def test_who_is_stopping_may_come_again() -> None:
    fetcher = Fetcher(ALICE)
    fetcher.does(Refused(ALICE, fetcher.all(AskPieces)[0].ask, "E-PEER-CLOSED"))
    assert fetcher.core.holders == []
    assert asked(fetcher.does(HolderFound(ALICE))) == [(ALICE, 0, 4)]


def test_an_answer_to_an_ask_that_was_given_up_means_nothing() -> None:
    fetcher = Fetcher(ALICE)
    fetcher.waits(limits.STALL_MS + limits.REST_MS)
    first, second = fetcher.all(AskPieces)
    fetcher.does(Refused(ALICE, first.ask, "E-NOT-HELD"))
    assert fetcher.core.holders == [ALICE]
    assert fetcher.core.under_way == second.count


def test_the_last_pieces_are_asked_of_a_second_holder_and_of_no_third() -> None:
    fetcher = Fetcher(ALICE, BOB, CAROL, held=frozenset(range(6)))
    assert asked(fetcher.effects) == [(ALICE, 6, 4)]
    fetcher.sends(ALICE, 6)
    assert asked(fetcher.waits(limits.SECOND_ASK_MS)) == [(BOB, 7, 3)]
    assert asked(fetcher.waits(limits.SECOND_ASK_MS)) == []
    fetcher.sends(BOB, 7, 8, 9)
    assert fetcher.all(Done)


def test_of_many_holders_so_many_pieces_are_under_way() -> None:
    pieces = [b"%d" % i for i in range(4096)]
    manifest = manifest_of(4096 * PIECE_BYTES, [hashlib.sha256(piece).digest() for piece in pieces])
    core = Fetch(object_id(manifest), 0, manifest=manifest)
    step(core, Held(frozenset()), 0)
    holders = [bytes([i]) * 32 for i in range(60)]
    asks = [ask for holder in holders for ask in step(core, HolderFound(holder), 0) if isinstance(ask, AskPieces)]
    assert len(core.holders) == limits.HOLDERS_MAX
    assert sum(ask.count for ask in asks) == core.under_way == limits.UNDER_WAY_MAX_PIECES
    assert len({(ask.first, ask.count) for ask in asks}) == len(asks)


def test_without_anybody_it_ends_after_a_while_and_says_why() -> None:
    fetcher = Fetcher()
    assert fetcher.waits(limits.STARVED_MS - 250) == []
    assert fetcher.waits(250) == [Failed("E-PEER-CLOSED")]
    assert fetcher.does(HolderFound(ALICE)) == []


def test_pieces_are_not_shown() -> None:
    assert repr(PieceCame(b"holder", 3, bytes(1 << 18))) == "PieceCame(holder=b'holder', index=3)"
    assert dict(PieceCame(b"holder", 3, b"x").__rich_repr__()) == {"holder": b"holder", "index": 3}
    with pytest.raises(TypeError):
        PieceCame(b"holder", 3)  # type: ignore[call-arg]
