"""Objects over real connections: fetched whole, from several, through cuts, restarts, liars and silence; and what is refused."""

from __future__ import annotations

import socket
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from support.bulk_pair import BulkNode, Hooked, listening, made_object

from qnode.core import bulk_limits as limits
from qnode.net.session import UNSENT_MAX_BYTES, Session
from qnode.store.pieces import FileObject
from qustream.errors import QuStreamError
from qustream.transport.limits import Channel
from qustream.wire.bulk import PIECE_BYTES, BulkAsk, BulkPiece, BulkSent, Manifest, ManifestAsk, ProbeData
from qustream.wire.codec import decode, encode

PIECES = 21
SIZE = PIECES * PIECE_BYTES - 1000


@pytest.fixture
def alice(tmp_path: Path) -> BulkNode:
    return BulkNode(tmp_path / "alice")


@pytest.fixture
def bob(tmp_path: Path) -> BulkNode:
    return BulkNode(tmp_path / "bob")


@pytest.fixture
def carol(tmp_path: Path) -> BulkNode:
    return BulkNode(tmp_path / "carol")


@pytest.fixture
def thing(tmp_path: Path) -> FileObject:
    return made_object(tmp_path, SIZE)


async def fetched(node: BulkNode, thing: FileObject, holders: Sequence[Session]) -> bytes:
    with trio.fail_after(60):
        path = await node.bulk.fetch(thing.id, node.store(), holders)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_bytes()


def content(thing: FileObject) -> bytes:
    return b"".join(thing.read(0, PIECES))


async def code_of(session: Session, ask: ManifestAsk | BulkAsk) -> str:
    try:
        await session.call(encode(ask), 5000, max_answer_bytes=1 << 19)
    except QuStreamError as error:
        return error.code
    return ""


async def test_an_object_comes_whole(alice: BulkNode, bob: BulkNode, thing: FileObject) -> None:
    bob.bulk.offer(thing)
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        assert await fetched(alice, thing, [session]) == content(thing)
        assert alice.bulk.count.fetched == 1
        assert alice.bulk.count.bytes_in == bob.bulk.count.bytes_out == SIZE
        assert bob.bulk.turns.working == 0
        assert alice.bulk._owed[session] == 0
    assert not alice.charged + bob.charged


async def test_several_holders_share_the_work(alice: BulkNode, bob: BulkNode, carol: BulkNode, thing: FileObject) -> None:
    for node in (bob, carol):
        node.bulk.offer(thing)
    async with listening([bob, carol]) as nursery:
        holders = [await alice.connect(node, nursery) for node in (bob, carol)]
        assert await fetched(alice, thing, holders) == content(thing)
    assert all(node.bulk.count.bytes_out >= 4 * PIECE_BYTES for node in (bob, carol))


async def test_a_cable_cut_in_the_middle_costs_what_was_under_way(alice: BulkNode, bob: BulkNode, thing: FileObject) -> None:
    cuts = [8, 16]

    def cut(served: int) -> None:
        if cuts and served >= cuts[0]:
            del cuts[0]
            bob.cut()

    bob.bulk.offer(Hooked(thing, cut))
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)

        async def come_again() -> None:
            nonlocal session
            while True:
                await session.connection.wait_closed()
                session = await alice.connect(bob, nursery)
                alice.bulk.join(thing.id, session)

        nursery.start_soon(come_again)
        assert await fetched(alice, thing, [session]) == content(thing)
        assert not cuts
    assert not alice.charged
    window = limits.WINDOW_MAX_ASKS * 4
    assert alice.bulk.count.bytes_in <= SIZE
    assert bob.bulk.count.bytes_out <= SIZE + 2 * window * PIECE_BYTES


async def test_a_restart_goes_on_with_what_is_good_on_the_disk(alice: BulkNode, bob: BulkNode, tmp_path: Path, thing: FileObject) -> None:
    stop, store, kept = trio.CancelScope(), alice.store(), list[int]()
    write = store.write

    def write_some(name: bytes, index: int, data: bytes) -> None:
        write(name, index, data)
        kept.append(index)
        if len(kept) >= 4:
            trio.from_thread.run_sync(stop.cancel)

    store.write = write_some  # type: ignore[method-assign]
    bob.bulk.offer(thing)
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        with trio.fail_after(60), stop:
            await alice.bulk.fetch(thing.id, store, [session])
        assert stop.cancelled_caught
        part = alice.folder / "bulk" / f"{thing.id.hex()}.part"
        on_disk = alice.store().begin(thing.id, thing.manifest)
        assert 4 <= len(on_disk) < PIECES
        with part.open("r+b") as file:  # a piece that the disk has lost
            file.seek(PIECE_BYTES * min(on_disk) + 77)
            file.write(b"?")
        again = BulkNode(alice.folder, key=alice.key)
        before = bob.bulk.count.bytes_out
        session = await again.connect(bob, nursery)
        assert await fetched(again, thing, [session]) == content(thing)
        assert again.bulk.count.bytes_in == sum(
            len(piece) for index, piece in enumerate(thing.read(0, PIECES)) if index not in on_disk or index == min(on_disk)
        )
        assert bob.bulk.count.bytes_out > before
    assert [path.suffix for path in (alice.folder / "bulk").iterdir()] == [".object"]


async def test_a_liar_is_charged_and_another_asked(alice: BulkNode, bob: BulkNode, carol: BulkNode, thing: FileObject) -> None:
    async def lie(session: Session, body: bytes, deadline_ms: int) -> bytes:
        ask = decode(body, ManifestAsk | BulkAsk, max_bytes=64)
        if isinstance(ask, ManifestAsk):
            return encode(thing.manifest)
        for index in range(ask.first, ask.first + ask.count):
            await session.connection.send(Channel.BULK, encode(BulkPiece(ask.object, index, bytes(PIECE_BYTES))))
        return encode(BulkSent(ask.count))

    bob.answer = lie
    carol.bulk.offer(thing)
    async with listening([bob, carol]) as nursery:
        holders = [await alice.connect(node, nursery) for node in (bob, carol)]
        assert await fetched(alice, thing, holders) == content(thing)
    assert alice.charged == [(bob.id, "E-ANSWER-INVALID")]


@pytest.mark.parametrize("answer", [b"", b"\x93\x51\x01\x90", encode(Manifest(1, (bytes(32),)))])
async def test_a_manifest_that_is_none_is_charged(alice: BulkNode, bob: BulkNode, thing: FileObject, answer: bytes) -> None:
    async def lie(_session: Session, _body: bytes, _deadline_ms: int) -> bytes:
        return answer

    bob.answer = lie
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        with trio.move_on_after(30) as scope:
            nursery.start_soon(alice.bulk.fetch, thing.id, alice.store(), [session])
            while not alice.charged:
                await trio.sleep(0.001)
        assert not scope.cancelled_caught
        nursery.cancel_scope.cancel()
    assert [peer for peer, _ in alice.charged] == [bob.id]


async def test_a_silent_holder_costs_a_while_and_no_more(
    alice: BulkNode, bob: BulkNode, carol: BulkNode, thing: FileObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STALL_MS", 1_500)  # for the good one as well

    async def fall_silent(session: Session, body: bytes, deadline_ms: int) -> bytes:
        ask = decode(body, ManifestAsk | BulkAsk, max_bytes=64)
        if isinstance(ask, BulkAsk):
            await trio.sleep_forever()
        return encode(thing.manifest)

    bob.answer = fall_silent
    carol.bulk.offer(thing)
    async with listening([bob, carol]) as nursery:
        holders = [await alice.connect(node, nursery) for node in (bob, carol)]
        assert await fetched(alice, thing, holders) == content(thing)
    assert not alice.charged


async def test_a_piece_that_nobody_asked_for_is_charged_and_ends_the_session(alice: BulkNode, bob: BulkNode) -> None:
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        with trio.fail_after(60):
            while not bob.inbound:
                await trio.sleep(0.001)
            await bob.inbound[0].connection.send(Channel.BULK, encode(BulkPiece(bytes(32), 0, b"x")))
            await session.connection.wait_closed()
            await bob.inbound[0].connection.wait_closed()
        assert session.connection.end_code == "E-FRAME-ORDER"
        assert bob.inbound[0].connection.end_code == "E-FRAME-ORDER"
    assert alice.charged == [(bob.id, "E-FRAME-ORDER")]


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\xc0", "E-WIRE-MALFORMED"), (encode(ProbeData(b"x")), "E-FRAME-ORDER"), (encode(BulkSent(1)), "E-WIRE-MALFORMED")],
)
async def test_what_is_no_piece_ends_the_session(alice: BulkNode, bob: BulkNode, body: bytes, code: str) -> None:
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        await session.connection.send(Channel.BULK, body)
        with trio.fail_after(60):
            await session.connection.wait_closed()
        assert session.connection.end_code == code


async def test_what_is_not_there_or_too_much_is_refused_by_name(alice: BulkNode, bob: BulkNode, thing: FileObject) -> None:
    bob.bulk.offer(thing)
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        assert await code_of(session, ManifestAsk(bytes(32))) == "E-NOT-HELD"
        assert await code_of(session, BulkAsk(bytes(32), 0, 1)) == "E-NOT-HELD"
        assert await code_of(session, BulkAsk(thing.id, PIECES - 1, 2)) == "E-REQUEST-INVALID"
        for _ in range(limits.SERVED_PEER_MAX_ASKS):
            bob.bulk.turns.begin(alice.id, 1, 0)
        assert await code_of(session, BulkAsk(thing.id, 0, 1)) == "E-PEER-LIMIT"
        bob.bulk.withdraw(thing.id)
        assert await code_of(session, BulkAsk(thing.id, 0, 1)) == "E-NOT-HELD"


async def test_a_file_that_is_changed_in_place_makes_silent_not_a_liar(
    alice: BulkNode, bob: BulkNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STARVED_MS", 300)
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * PIECE_BYTES))
    thing = FileObject.open(path)
    bob.bulk.offer(thing)
    path.write_bytes(b"x" * 2 * PIECE_BYTES)
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        with pytest.raises(QuStreamError, match="E-NOT-HELD"):
            await fetched(alice, thing, [session])
    assert not alice.charged
    assert alice.bulk.count.failed == 1


async def test_a_full_disk_ends_the_fetch(alice: BulkNode, bob: BulkNode, thing: FileObject) -> None:
    bob.bulk.offer(thing)
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        with pytest.raises(QuStreamError, match="E-DISK-FULL"):
            await alice.bulk.fetch(thing.id, alice.store(room_bytes=SIZE - 1), [session])
        with pytest.raises(QuStreamError, match="E-WIRE-OVERSIZE"):
            await alice.bulk.fetch(thing.id, alice.store(), [session], most_bytes=SIZE - 1)
        assert await fetched(alice, thing, [session]) == content(thing)


async def test_only_so_many_objects_are_served(bob: BulkNode, tmp_path: Path) -> None:
    things = [made_object(tmp_path, 10) for _ in range(20)]
    for thing in things:
        bob.bulk.offer(thing)
    assert list(bob.bulk._offers) == [thing.id for thing in things[4:]]


async def test_the_kernel_holds_little_of_what_is_not_sent(alice: BulkNode, bob: BulkNode) -> None:
    """So that gossip overtakes pieces: what the kernel has goes first, whatever its channel."""
    async with listening([bob]) as nursery:
        session = await alice.connect(bob, nursery)
        sock = session.connection._link._socket
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_MAX_BYTES
