"""What was said in one part of a network while it was cut comes to the other when they are linked again; and what that may cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from support.peers_town import CHAIN, Town, TownNode, town, until

from qnode.core import peers_attempts
from qnode.service import peers_missed as module
from qnode.service import peers_records
from qnode.service.gossip import Verdict
from qustream.model.base import Signed
from qustream.model.network import AddressRecord


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_attempts, "BACKOFF_FIRST_MS", 200)
    monkeypatch.setattr(peers_attempts, "BACKOFF_MAX_MS", 800)
    monkeypatch.setattr(peers_records, "ASK_PAUSE_S", 10_000)  # or they would ask for everything, having just started


def said(t: Town, node: TownNode, address: str = "192.0.2.1:7400") -> Signed:
    return node.key.sign_noun("address", AddressRecord(CHAIN, node.id, t.clock_ms(), (address,)))


def where(node: TownNode, other: TownNode) -> str:
    return node.service.records.addresses(other.id)[0]


@pytest.fixture
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that are made twice at the start count as having come and gone; that a peer then waits a minute is shown apart."""
    monkeypatch.setattr(module, "PAUSE_S", 0.5)


@pytest.mark.usefixtures("_short_pause")
async def test_what_was_said_in_one_half_comes_to_all_of_the_other(tmp_path: Path) -> None:
    """The far one has no link across, ever: it hears by gossip of what the near one has asked for."""
    async with town(tmp_path, 6) as t:
        ours, near, far, here, there, both = t.nodes
        t.cut([ours], [far])
        await t.start(ours, near, far)
        await t.linked(ours, near)
        await t.linked(near, far)
        t.cut([ours], [near])
        await until(lambda: not ours.links | (near.links - {far.id}), "they are cut from each other")
        # Taken, and not told by gossip: what is lazily repaired afterwards is not what this is about.
        assert await ours.service.records.take(said(t, here, "192.0.2.1:1")) is Verdict.GOOD
        assert await near.service.records.take(said(t, there, "192.0.2.2:2")) is Verdict.GOOD
        for node in (ours, near):
            assert await node.service.records.take(said(t, both, "192.0.2.3:3")) is Verdict.GOOD
        t.heal([ours], [near])
        await until(lambda: where(ours, there) == "192.0.2.2:2", "ours has asked near")
        await until(lambda: where(near, here) == "192.0.2.1:1", "near has asked ours")
        await until(lambda: where(far, here) == "192.0.2.1:1", "near has told far")
        assert where(far, both) == both.listen  # what was no news to near is not told again
        assert far.id not in ours.links
        assert all(node.service.network.bad == 0 for node in (ours, near, far))
        await until(lambda: not any(node.service.missed._since_s for node in (ours, near)), "nobody has anything to ask any more")


@pytest.mark.usefixtures("_short_pause")
async def test_what_was_taken_long_before_is_not_asked_for(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        one, other, late, early = t.nodes
        await t.start(one, other)
        await t.linked(one, other)
        records = one.service.records
        for node in (late, early):
            assert await records.take(said(t, node)) is Verdict.GOOD
        records._taken_s[early.id] -= 1000
        assert len(await records.after(bytes(32), 900)) == 1
        assert len(await records.after(bytes(32), 1100)) == 2
        assert len(await records.after(bytes(32))) == 2
        assert await records.after(late.id if late.id > early.id else early.id, 1100) == []
        t.cut([one], [other])
        await until(lambda: not one.links | other.links)
        t.heal([one], [other])
        await until(lambda: where(other, late) == "192.0.2.1:7400")
        assert where(other, early) == early.listen


async def test_of_what_was_missed_a_few_pages_are_taken_and_then_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("qnode.service.peers_records", "qnode.net.answers"):
        monkeypatch.setattr(f"{place}.RECORDS_MAX", 2, raising=False)
    monkeypatch.setattr(peers_records, "MISSED_PAGES_MAX", 2)
    async with town(tmp_path, 8) as t:
        one, other = t.nodes[:2]
        await t.start(one, other)
        await t.linked(one, other)
        for node in t.nodes[2:]:
            assert await one.service.records.take(said(t, node)) is Verdict.GOOD
        link, gossip, records = other.service.hub.link_to(one.id), other.service.gossip, other.service.records
        nodes = sorted(t.nodes[2:], key=lambda node: node.id)
        assert link is not None
        assert await records.ask(link, gossip, 0.0) == nodes[3].id
        assert [where(other, node) != node.listen for node in nodes] == [True] * 4 + [False] * 2
        assert await records.ask(link, gossip, 0.0, nodes[3].id) == b""
        assert all(where(other, node) != node.listen for node in nodes)


class Side:
    """Links and answers as a test wants them, before `Missed`."""

    def __init__(self, count: int, answer: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        self.known = {bytes([number]) for number in range(count)}
        self.links: dict[bytes, object] = {peer: object() for peer in self.known}
        self.asked: list[tuple[bytes, float]] = []
        self.after: list[bytes] = []
        self.answer = answer
        self.missed = module.Missed(self.known, self, self, None)  # type: ignore[arg-type]

    def link_to(self, peer: bytes) -> object | None:
        return self.links.get(peer)

    async def ask(self, link: object, _gossip: None, since_s: float, after: bytes) -> bytes | None:
        [peer] = [peer for peer, other in self.links.items() if other is link]
        self.asked.append((peer, since_s))
        self.after.append(after)
        return await self.answer(peer)


async def test_few_are_asked_at_once_and_each_once(autojump_clock: trio.testing.MockClock) -> None:
    async def late(_peer: bytes) -> bytes | None:
        await trio.sleep(5)
        return b""

    side = Side(20, late)
    for peer in side.known:
        side.missed.ended(peer)
    async with trio.open_nursery() as nursery:
        for peer in [*side.known, *side.known]:
            nursery.start_soon(side.missed.ask, peer)
        await trio.sleep(1)
        assert len(side.asked) == module.ASKED_AT_ONCE_MAX
    assert sorted(peer for peer, _ in side.asked) == sorted(side.known)
    assert not side.missed._asking


async def test_who_did_not_answer_is_asked_for_all_of_it_on_its_next_link(autojump_clock: trio.testing.MockClock) -> None:
    answers = [None, None, b""]

    async def answer(peer: bytes) -> bytes | None:
        if len(answers) == 2:  # the second time its link ends meanwhile, and the next is there already
            side.missed.ended(peer)
            side.links[peer] = object()
        return answers.pop(0)

    side = Side(1, answer)
    [peer] = side.known
    began_s = trio.current_time()
    assert not side.missed.is_due(peer)
    await side.missed.ask(peer)
    assert side.asked == []  # there was no link before
    side.missed.ended(peer)
    await trio.sleep(100)
    await side.missed.ask(peer)
    assert len(side.asked) == 1
    side.missed.ended(peer)
    await trio.sleep(100)
    await side.missed.ask(peer)
    assert side.asked == [(peer, began_s - module.UNNOTICED_S)] * 3
    assert not side.missed.is_due(peer)


async def test_what_is_remembered_is_of_known_nodes(autojump_clock: trio.testing.MockClock) -> None:
    async def refuse(peer: bytes) -> bytes | None:
        side.known.discard(peer)
        return None

    side = Side(3, refuse)
    for number in range(100):
        side.missed.ended(bytes([number]))
    assert side.missed._since_s.keys() == side.known
    await side.missed.ask(b"\0")
    assert side.missed._since_s.keys() == {b"\1", b"\2"}
    side.known.discard(b"\1")
    side.missed.forget_others()
    assert side.missed._since_s.keys() == {b"\2"}


async def test_who_has_more_than_is_taken_at_once_is_asked_for_the_rest_a_minute_later(autojump_clock: trio.testing.MockClock) -> None:
    answers = [b"a" * 32, None, b"b" * 32, b""]

    async def answer(peer: bytes) -> bytes | None:
        if len(answers) == 3:
            side.links[peer] = object()  # its link has ended meanwhile, and the next is there: it goes on where it was
        return answers.pop(0)

    side = Side(1, answer)
    [peer] = side.known
    began_s = trio.current_time()
    side.missed.ended(peer)
    await side.missed.ask(peer)
    assert side.after == [bytes(32), b"a" * 32, b"a" * 32, b"b" * 32]
    assert {since_s for _, since_s in side.asked} == {began_s - module.UNNOTICED_S}
    assert trio.current_time() - began_s == 2 * module.PAUSE_S
    assert not side.missed.is_due(peer)


async def test_who_has_more_and_more_is_not_asked_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async def answer(_peer: bytes) -> bytes | None:
        return len(side.asked).to_bytes(32, "big")

    side = Side(1, answer)
    [peer] = side.known
    side.missed.ended(peer)
    await side.missed.ask(peer)
    assert len(side.asked) == module.TURNS_MAX
    assert not side.missed.is_due(peer)
    assert not side.missed._asking


async def test_who_comes_and_goes_is_asked_once_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    async def answer(_peer: bytes) -> bytes | None:
        return b""

    side = Side(1, answer)
    [peer] = side.known
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(30):  # a link every three seconds, for a minute and a half
            side.missed.ended(peer)
            nursery.start_soon(side.missed.ask, peer)
            await trio.sleep(3)
    assert len(side.asked) == 3
    assert trio.current_time() - began_s >= 2 * module.PAUSE_S
