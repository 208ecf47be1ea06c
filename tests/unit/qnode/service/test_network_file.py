"""The network file on its way between nodes, over real connections: taken over where it is true, charged where it is not, and nothing
of the operator's touched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from support.bulk_pair import BulkNode, listening
from support.keys_world import CHAIN, World, named_key

from qnode.core import bulk_limits
from qnode.net.session import Session
from qnode.service import network_file
from qnode.service.network_file import NETWORK_FILE_TAGS, NetworkFiles
from qnode.service.watch import NetworkWatch, kept_file, known_height
from qnode.store.pieces import FileObject
from qustream.errors import QuStreamError, fault
from qustream.model.network import QrngServerRecord
from qustream.registry import NetworkFileRegistry, NetworkFileWriter
from qustream.registry.signed_file import open_file, seal_file
from qustream.wire.bulk import PIECE_BYTES, NetworkFileAsk, NetworkFileOffer
from qustream.wire.codec import decode, encode


class Node(BulkNode):
    """With a network file of its own, and what follows it."""

    def begin(self, world: World) -> None:
        self.path = self.folder / "network.toml"
        self.path.write_bytes(world.writer.path.read_bytes())
        self.data_dir = self.folder / "data"
        self.data_dir.mkdir()
        self.registry = NetworkFileRegistry(self.path, world.authority.public, chain=CHAIN, kept=kept_file(self.data_dir))
        self.registry.load(world.now_ms)
        self.heights: list[int] = []
        self.watch = NetworkWatch(
            self.registry, self.path, self.data_dir, clock_ms=world.clock_ms, on_change=lambda: self.heights.append(self.registry.height)
        )
        self.files = NetworkFiles(
            self.bulk, self.watch, self.registry, self.store, stands=lambda session: self.hub.get(session.number) is session,
            charge=lambda session, code: self.charged.append((session.peer, code)),
        )  # fmt: skip
        self.desk.route(NETWORK_FILE_TAGS, self.files.answer)

    def give(self, data: bytes, world: World) -> None:
        """What its operator does."""
        self.path.write_bytes(data)
        self.registry.refresh(world.now_ms)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def alice(tmp_path: Path, world: World) -> Node:
    node = Node(tmp_path / "alice")
    node.begin(world)
    return node


@pytest.fixture
def bob(tmp_path: Path, world: World) -> Node:
    node = Node(tmp_path / "bob")
    node.begin(world)
    return node


@asynccontextmanager
async def linked(alice: Node, bob: Node) -> AsyncIterator[Session]:
    async with listening([bob]) as nursery:
        nursery.start_soon(alice.files.run)
        yield await alice.connect(bob, nursery)


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.005)


def newer(world: World) -> bytes:
    world.writer.write()
    return world.writer.path.read_bytes()


def offering(thing: FileObject, height: int, node: BulkNode) -> Callable[[Session, bytes, int], Awaitable[bytes]]:
    """A node that offers this as its network file of this height."""
    node.bulk.offer(thing)

    async def answer(session: Session, body: bytes, deadline_ms: int) -> bytes:
        try:
            decode(body, NetworkFileAsk, max_bytes=64)
        except QuStreamError:
            return await node.desk.answer(session, body, deadline_ms)
        return encode(NetworkFileOffer(height, thing.id, thing.manifest.size))

    return answer


async def test_a_newer_file_comes_is_kept_used_and_remembered(alice: Node, bob: Node, world: World) -> None:
    before = alice.path.read_bytes()
    data = newer(world)
    bob.give(data, world)
    async with linked(alice, bob) as session:
        alice.files.height_heard(session, 2)
        await until(lambda: alice.heights)
    assert (alice.heights, alice.registry.height, known_height(alice.data_dir, CHAIN)) == ([2], 2, 2)
    assert kept_file(alice.data_dir).read_bytes() == data
    assert kept_file(alice.data_dir).stat().st_mode & 0o777 == 0o600
    assert alice.path.read_bytes() == before
    assert not alice.charged + bob.charged
    again = NetworkFileRegistry(alice.path, world.authority.public, chain=CHAIN, kept=kept_file(alice.data_dir), height_min=2)
    again.load(world.now_ms)
    assert again.height == 2


async def test_and_is_offered_on(alice: Node, bob: Node, tmp_path: Path, world: World) -> None:
    carol = Node(tmp_path / "carol")
    carol.begin(world)
    bob.give(newer(world), world)
    async with listening([alice]) as nursery, linked(alice, bob) as session:
        alice.files.height_heard(session, 2)
        await until(lambda: alice.heights)
        nursery.start_soon(carol.files.run)
        carol.files.height_heard(await carol.connect(alice, nursery), 2)
        await until(lambda: carol.heights)
    assert carol.registry.height == 2


async def test_several_newer_files_end_with_the_newest(alice: Node, bob: Node, world: World) -> None:
    async with linked(alice, bob) as session:
        for height in (2, 3, 4):
            bob.give(newer(world), world)
            alice.files.height_heard(session, height)
        await until(lambda: alice.registry.height == 4)
        assert len(bob.files._served) <= 2
        assert len(bob.bulk._offers) <= 2


def forged(data: bytes, _world: World, _folder: Path) -> bytes:
    return data.replace(b"community", b"foundation", 1)


def rubbish(_data: bytes, _world: World, _folder: Path) -> bytes:
    return b"x" * 300_000


def by_another_key(data: bytes, world: World, _folder: Path) -> bytes:
    text = open_file(data, world.authority.id)
    return seal_file(text[: text.rindex("# network_key")], named_key("mallory"))


def of_another_network(_data: bytes, world: World, folder: Path) -> bytes:
    writer = NetworkFileWriter.create(
        folder / "other.toml", "elsewhere", world.authority, genesis_ms=1, epoch_length_ms=1_000_000, seed=bytes(32)
    )
    writer.add_qrng_server(QrngServerRecord(world.qrng.public, "qrng", True, True))
    for _ in range(9):
        writer.write()
    return (folder / "other.toml").read_bytes()


def the_old_one(_data: bytes, _world: World, folder: Path) -> bytes:
    return (folder / "alice" / "network.toml").read_bytes()


@pytest.mark.parametrize("lie", [forged, rubbish, by_another_key, of_another_network, the_old_one])
async def test_a_file_that_is_not_true_changes_nothing_and_is_charged_once(
    alice: Node, bob: Node, world: World, tmp_path: Path, lie: Callable[[bytes, World, Path], bytes]
) -> None:
    path = tmp_path / "lie"
    path.write_bytes(lie(newer(world), world, tmp_path))
    bob.answer = offering(FileObject.open(path), 99, bob)
    before = alice.path.read_bytes()
    async with linked(alice, bob) as session:
        alice.files.height_heard(session, 99)
        await until(lambda: alice.charged)
        # The first ask is over, on both sides: it says itself at its end that bob has to rest.
        await until(lambda: bob.id not in alice.files._asking and not bob.bulk.turns.working)
        served = bob.bulk.count.served
        alice.files._rests.clear()
        alice.files.height_heard(session, 99)
        await until(lambda: bob.id in alice.files._rests)
        assert bob.bulk.count.served == served  # the same lie is not fetched twice
    assert alice.charged == [(bob.id, "E-ANSWER-INVALID")]
    assert (alice.heights, alice.registry.height, alice.path.read_bytes()) == ([], 1, before)
    assert not kept_file(alice.data_dir).exists()
    assert list((alice.folder / "bulk").iterdir()) == []


async def test_what_has_come_of_the_true_file_before_a_restart_outlasts_a_lie(alice: Node, bob: Node, world: World, tmp_path: Path) -> None:
    true, lie = tmp_path / "true", tmp_path / "lie"
    true.write_bytes(newer(world) + b"#" * PIECE_BYTES)
    lie.write_bytes(b"x" * 300_000)
    store, thing = alice.store(), FileObject.open(true)
    store.begin(thing.id, thing.manifest)
    store.write(thing.id, 0, thing.read(0, 1)[0])
    store.leave(thing.id)
    bob.answer = offering(FileObject.open(lie), 99, bob)
    async with linked(alice, bob) as session:
        alice.files.height_heard(session, 99)
        await until(lambda: alice.charged)
        await until(lambda: not alice.files._fetches)
    assert alice.store().begin(thing.id, thing.manifest) == {0}


async def test_a_good_file_under_a_false_height_is_used_and_its_teller_charged(
    alice: Node, bob: Node, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "good"
    path.write_bytes(newer(world))
    bob.answer = offering(FileObject.open(path), 99, bob)
    async with linked(alice, bob) as session:
        alice.files.height_heard(session, 99)
        await until(lambda: alice.charged)
    assert alice.registry.height == 2
    assert alice.charged == [(bob.id, "E-ANSWER-INVALID")]


async def test_a_signed_file_that_is_not_understood_is_not_charged(alice: Node, bob: Node, world: World, tmp_path: Path) -> None:
    text = open_file(newer(world), world.authority.id)
    path = tmp_path / "later"
    path.write_bytes(seal_file("something_new = 1\n" + text[: text.rindex("# network_key")], world.authority))
    bob.answer = offering(FileObject.open(path), 2, bob)
    async with linked(alice, bob) as session:
        alice.files.height_heard(session, 2)
        await until(lambda: bob.id in alice.files._rests)
    assert (alice.charged, alice.registry.height) == ([], 1)


@pytest.mark.parametrize(
    "offer", [NetworkFileOffer(2, bytes(32), 1 << 30), NetworkFileOffer(2, bytes(32), 100), b"\xc0", fault("E-NOT-HELD")]
)
async def test_a_teller_without_a_file_waits_twice_as_long_each_time(
    alice: Node, bob: Node, offer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(session: Session, body: bytes, deadline_ms: int) -> bytes:
        try:
            decode(body, NetworkFileAsk, max_bytes=64)
        except QuStreamError:
            return await bob.desk.answer(session, body, deadline_ms)
        if isinstance(offer, QuStreamError):
            raise fault(offer.code)
        return offer if isinstance(offer, bytes) else encode(offer)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk_limits, "STARVED_MS", 300)
    monkeypatch.setattr(network_file, "LOOK_S", 0.05)
    monkeypatch.setattr(network_file, "REST_S", 0.1)
    bob.answer = answer
    async with linked(alice, bob) as session:
        alice.files.height_heard(session, 2)
        await until(lambda: alice.files._rests.get(bob.id, (0, 0))[1] >= 0.4)
    assert (alice.charged, alice.registry.height) == ([], 1)


async def test_a_silent_liar_does_not_keep_the_true_file_away(alice: Node, bob: Node, world: World, tmp_path: Path) -> None:
    carol = Node(tmp_path / "carol")
    carol.begin(world)
    path = tmp_path / "endless"
    path.write_bytes(bytes(20_000_000))
    thing = FileObject.open(path)

    async def answer(session: Session, body: bytes, deadline_ms: int) -> bytes:
        if decode_tag(body) == 85:
            return encode(NetworkFileOffer(50, thing.id, thing.manifest.size))
        if decode_tag(body) == 80:
            return encode(thing.manifest)
        await trio.sleep_forever()
        raise AssertionError

    bob.answer = answer
    async with listening([carol]) as nursery, linked(alice, bob) as session:
        alice.files.height_heard(session, 50)
        await until(lambda: alice.files._fetches)
        carol.give(newer(world), world)
        alice.files.height_heard(await alice.connect(carol, nursery), 2)
        await until(lambda: alice.registry.height == 2)


def decode_tag(body: bytes) -> int:
    return body[1]


def endless(node: BulkNode, folder: Path, height: int) -> None:
    """Let the node offer a file of its own of which it never gives anything but the manifest."""
    path = folder / f"endless-{node.id.hex()}"
    path.write_bytes(node.id + bytes(2_000_000))
    thing = FileObject.open(path)

    async def answer(session: Session, body: bytes, deadline_ms: int) -> bytes:
        if decode_tag(body) == 85:
            return encode(NetworkFileOffer(height, thing.id, thing.manifest.size))
        if decode_tag(body) == 80:
            return encode(thing.manifest)
        await trio.sleep_forever()
        raise AssertionError

    node.answer = answer


async def test_nor_do_as_many_of_them_as_may_be_listened_to(
    alice: Node, bob: Node, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_file, "LOOK_S", 0.05)
    monkeypatch.setattr(network_file, "FETCH_S", 0.5)
    monkeypatch.setattr(network_file, "BUSY_REST_S", 0.1)
    liars = [BulkNode(tmp_path / f"liar{number}") for number in range(network_file.FETCHES_MAX)]
    for liar in liars:
        endless(liar, tmp_path, 50)
    bob.give(newer(world), world)
    async with listening(liars) as nursery, linked(alice, bob) as session:
        for liar in liars:
            alice.files.height_heard(await alice.connect(liar, nursery), 50)
        await until(lambda: len(alice.files._fetches) == network_file.FETCHES_MAX)
        alice.files.height_heard(session, 2)
        await until(lambda: alice.registry.height == 2)
    assert bob.id not in alice.files._rests  # it was not its fault
    assert {liar.id for liar in liars} & alice.files._rests.keys()  # and there was room because one had had its time


async def test_whoever_offers_the_true_file_under_a_false_height_is_charged_alone(
    alice: Node, bob: Node, world: World, tmp_path: Path
) -> None:
    mallory = BulkNode(tmp_path / "mallory")
    path = tmp_path / "true"
    path.write_bytes(newer(world))
    thing = FileObject.open(path)
    bob.give(path.read_bytes(), world)

    async def answer(session: Session, body: bytes, deadline_ms: int) -> bytes:
        if decode_tag(body) == 85:
            return encode(NetworkFileOffer(99, thing.id, thing.manifest.size))
        await trio.sleep_forever()
        raise AssertionError

    mallory.answer = answer
    async with listening([mallory]) as nursery, linked(alice, bob) as session:
        alice.files.height_heard(await alice.connect(mallory, nursery), 99)
        await until(lambda: alice.files._fetches)
        alice.files.height_heard(session, 2)
        await until(lambda: len(alice.files._fetches[thing.id].offered_by) == 2)
        alice.sessions[mallory.id].hang_up()  # so that bob is asked at once
        await until(lambda: alice.charged)
    assert alice.registry.height == 2
    assert alice.charged == [(mallory.id, "E-ANSWER-INVALID")]


async def test_a_node_with_nothing_newer_says_so(alice: Node, bob: Node) -> None:
    async with linked(alice, bob) as session:
        with pytest.raises(QuStreamError, match="E-NOT-HELD"):
            await session.call(encode(NetworkFileAsk(1)), 5000, max_answer_bytes=64)
        offer = decode(await session.call(encode(NetworkFileAsk(0)), 5000, max_answer_bytes=64), NetworkFileOffer, max_bytes=64)
        assert (offer.height, offer.size) == (1, bob.path.stat().st_size)


async def test_a_file_that_is_being_replaced_is_not_offered_under_another_name(
    alice: Node, bob: Node, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(FileObject, "open", lambda path, _most, real=FileObject.open: read.append(path) or real(path))
    bob.path.write_bytes(newer(world))  # and bob has not looked yet
    async with linked(alice, bob) as session:
        for _ in range(3):
            with pytest.raises(QuStreamError, match="E-NOT-HELD"):
                await session.call(encode(NetworkFileAsk(0)), 5000, max_answer_bytes=64)
        assert len(read) == 1  # not once for everybody who asks
        monkeypatch.setattr(network_file, "REPLACED_S", 0.0)
        bob.files._replaced_until_s = 0.0
        bob.registry.refresh(world.now_ms)
        await session.call(encode(NetworkFileAsk(0)), 5000, max_answer_bytes=64)


async def test_a_folder_that_cannot_be_made_leaves_the_node_with_its_own_file(alice: Node, bob: Node, world: World) -> None:
    (alice.folder / "bulk").write_bytes(b"in the way")
    bob.give(newer(world), world)
    async with linked(alice, bob) as session:
        alice.files.height_heard(session, 2)
        with trio.fail_after(10):
            await alice.files.run()
    assert alice.registry.height == 1


async def test_what_went_wrong_long_ago_is_forgotten(alice: Node, autojump_clock: trio.testing.MockClock) -> None:
    peer = bytes(32)
    for _ in range(5):
        alice.files._rest(peer)
    assert alice.files._rests[peer][1] == 2**5 * network_file.REST_S
    await trio.sleep(2**4 * network_file.REST_S + network_file.REST_FORGOTTEN_S + 1)
    alice.files._rest(peer)
    assert alice.files._rests[peer][1] == 2 * network_file.REST_S
