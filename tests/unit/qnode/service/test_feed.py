"""A link to a QRNG server that a test plays: honest, slow, failing, lying."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from support.feed_server import LIVE, FeedSession, Script, fed, honest
from support.keys_world import CHAIN, DAY_MS, World, named_key
from support.maker import Maker
from support.places import host

from qnode.service import feed
from qnode.service.feed import FeedLink
from qnode.service.pool import Pool
from qustream.entropy import check_leaf
from qustream.identity.signing import open_signed
from qustream.model.entropy import Attestation, DeviceDescriptor
from qustream.model.network import QrngServerRecord
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.feed import FeedCredit, FeedHealth, FeedUnit
from qustream.wire.hello import Role

PATIENCE_S = 60.0  # usually milliseconds; a loaded machine


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def link_to(world: World, address: str, pool: Pool, *, server: bytes | None = None) -> FeedLink:
    return FeedLink(
        address, server or world.qrng.id, pool=pool, key=world.node, hello=lambda: LocalHello(CHAIN, (Role.NODE,)),
        registry=world.registry, clock_ms=world.clock_ms, on_change=lambda: None,
    )  # fmt: skip


@asynccontextmanager
async def running(*links: FeedLink) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(link.run)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


async def test_the_pool_is_filled_and_refilled_and_never_overfilled(world: World) -> None:
    pool = Pool(3)
    async with fed(world, honest) as address, running(link := link_to(world, address, pool)):
        await until(lambda: len(pool) == 3)
        assert (link.status.state, link.status.code, link.status.units) == ("live", "", 3)
        unit = pool.take(world.now_ms)
        assert unit is not None
        attestation = open_signed(unit.attestation, Attestation, world.qrng.public, "attestation")
        assert check_leaf(attestation, world.node.id, unit.material, unit.proof) == unit.leaf
        assert (unit.server, unit.expires_ms) == (world.qrng.id, attestation.expires_ms)
        await until(lambda: len(pool) == 3)
        assert link.status.units == 4


async def test_what_is_expired_is_replaced(world: World) -> None:
    pool = Pool(2)
    async with fed(world, honest) as address, running(link_to(world, address, pool)):
        await until(lambda: len(pool) == 2)
        world.wait(2 * DAY_MS)
        pool.drop_expired(world.now_ms)
        assert pool.expired == 2
        await until(lambda: len(pool) == 2)


EMULATOR = DeviceDescriptor("emulator", "urandom", "1", 8, 8000, 0, True, True, "")


async def forged_attestation(session: FeedSession) -> None:
    batch, units = session.made(signer=named_key("somebody else"))
    await session.send(batch, *units)


async def of_another_network(session: FeedSession) -> None:
    batch, units = session.made(chain="elsewhere")
    await session.send(batch, *units)


async def of_another_server(session: FeedSession) -> None:
    batch, units = session.made(server=bytes(32))
    await session.send(batch, *units)


async def stale(session: FeedSession) -> None:
    now_ms = session.world.now_ms
    batch, units = session.made(start_ms=now_ms - 3000, end_ms=now_ms - 2000, expires_ms=now_ms - 1000)
    await session.send(batch, *units)


async def nearly_stale(session: FeedSession) -> None:
    batch, units = session.made(expires_ms=session.world.now_ms + 20_000)
    await session.send(batch, *units)


async def unhealthy(session: FeedSession) -> None:
    health = replace(session.world.attestation(bytes(32), 1).health, samples=0)
    batch, units = session.made(health=health)
    await session.send(batch, *units)


async def for_another_node(session: FeedSession) -> None:
    batch, units = session.made(node=session.world.nodes[1].id)
    await session.send(batch, *units)


async def other_material(session: FeedSession) -> None:
    batch, [unit] = session.made()
    await session.send(batch, replace(unit, unit=bytes([unit.unit[0] ^ 1]) + unit.unit[1:]))


async def other_leaf(session: FeedSession) -> None:
    batch, units = session.made(2)
    await session.send(batch, replace(units[0], proof=replace(units[0].proof, index=1)))


async def other_number(session: FeedSession) -> None:
    batch, [unit] = session.made()
    await session.send(batch, replace(unit, proof=replace(unit.proof, sequence=unit.proof.sequence + 1)))


async def without_batch(session: FeedSession) -> None:
    _, units = session.made()
    await session.send(*units)


async def without_credit(session: FeedSession) -> None:
    batch, units = session.made(5)
    await session.send(batch, *units)


async def batches_without_units(session: FeedSession) -> None:
    await session.send(*(session.made()[0] for _ in range(feed.BATCHES_KEPT + 1)))


async def a_nodes_message(session: FeedSession) -> None:
    await session.send(FeedCredit(1))


async def another_channel(session: FeedSession) -> None:
    await session.send(LIVE, channel=Channel.GOSSIP)


async def garbage(session: FeedSession) -> None:
    await session.connection.send(Channel.BULK, os.urandom(100))


async def an_unknown_state(session: FeedSession) -> None:
    await session.send(FeedHealth("euphoric", "", ""))


LIES = {
    forged_attestation: "E-SIGNATURE",
    of_another_network: "E-ATTESTATION",
    of_another_server: "E-ATTESTATION",
    stale: "E-ATTESTATION-STALE",
    nearly_stale: "E-ATTESTATION-STALE",
    unhealthy: "E-ATTESTATION",
    for_another_node: "E-PROOF",
    other_material: "E-PROOF",
    other_leaf: "E-PROOF",
    other_number: "E-PROOF",
    without_batch: "E-ATTESTATION",
    without_credit: "E-FRAME-ORDER",
    batches_without_units: "E-FRAME-ORDER",
    a_nodes_message: "E-FRAME-ORDER",
    another_channel: "E-FRAME-ORDER",
    garbage: "E-WIRE-MALFORMED",
    an_unknown_state: "E-WIRE-MALFORMED",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_a_lying_server_loses_the_link_and_gives_nothing(world: World, lie: Script) -> None:
    pool, told = Pool(4), []

    async def script(session: FeedSession) -> None:
        await session.open()
        await session.credit()
        await lie(session)
        told.append(await session.until_closed())

    async with fed(world, script) as address, running(link := link_to(world, address, pool)):
        await until(lambda: link.status.state == "refused")
        assert (link.status.code, len(pool)) == (LIES[lie], 4 if lie is without_credit else 0)
        assert pool.room_units == 4 - len(pool)
        await until(lambda: told)
        assert told[0] == LIES[lie]  # the server's operator can read it too


async def one_altered(session: FeedSession) -> None:
    batch, units = session.made(4)
    units[2] = replace(units[2], unit=units[2].unit[:-129] + bytes([units[2].unit[-129] ^ 1]) + units[2].unit[-128:])
    await session.send(batch, *units)


async def one_twice(session: FeedSession) -> None:
    batch, units = session.made(2)
    await session.send(batch, *units, units[1])


async def one_of_a_batch_that_never_came(session: FeedSession) -> None:
    batch, units = session.made(2)
    await session.send(batch, *units, *session.made(1)[1])


async def garbage_behind_two(session: FeedSession) -> None:
    batch, units = session.made(2)
    await session.send(batch, *units)
    await garbage(session)


async def a_stale_batch_behind_two(session: FeedSession) -> None:
    batch, units = session.made(2)
    await session.send(batch, *units)
    await stale(session)


SPOILT = {
    one_altered: "E-PROOF",
    one_twice: "E-PROOF",
    one_of_a_batch_that_never_came: "E-ATTESTATION",
    garbage_behind_two: "E-WIRE-MALFORMED",
    a_stale_batch_behind_two: "E-ATTESTATION-STALE",
}


@pytest.mark.parametrize("lie", SPOILT, ids=lambda lie: lie.__name__)
async def test_units_before_the_fault_are_kept_however_they_came_together(world: World, lie: Script) -> None:
    pool = Pool(4)

    async def script(session: FeedSession) -> None:
        await session.open()
        await session.credit()
        await lie(session)
        await session.until_closed()

    async with fed(world, script) as address, running(link := link_to(world, address, pool)):
        await until(lambda: link.status.state == "refused")
        assert (link.status.code, link.status.units, len(pool)) == (SPOILT[lie], 2, 2)
        assert pool.room_units == 2
        numbers = [unit.proof.sequence for unit in (pool.take(world.now_ms), pool.take(world.now_ms)) if unit is not None]
        assert numbers == sorted(set(numbers))


async def test_a_unit_in_the_pool_is_what_was_sent(world: World) -> None:
    pool, sent = Pool(3), list[FeedUnit]()

    async def script(session: FeedSession) -> None:
        await session.open()
        batch, units = session.made(await session.credit())
        sent.extend(units)
        await session.send(batch, *units)
        await session.until_closed()

    async with fed(world, script) as address, running(link_to(world, address, pool)):
        await until(lambda: len(pool) == 3)
        for unit in sent:
            held = pool.take(world.now_ms)
            assert held is not None
            assert bytes(held.material) + held.scatter == unit.unit
            assert held.proof == unit.proof
            assert not any(secret in repr(held) for secret in (repr(unit.unit[:20])[2:-1], unit.unit[:20].hex()))


async def test_a_sequence_number_is_used_once_over_all_connections(world: World) -> None:
    pool = Pool(4)

    async def first(session: FeedSession) -> None:
        await session.open()
        await session.credit()
        batch, units = session.made(2, first=7)
        await session.send(batch, *units)
        await until(lambda: len(pool) == 2)

    async def second(session: FeedSession) -> None:
        await session.open()
        await session.credit()
        batch, units = session.made(1, first=8)
        await session.send(batch, *units)
        await session.until_closed()

    async with fed(world, first, second) as address, running(link := link_to(world, address, pool)):
        await until(lambda: link.status.code == "E-PROOF")
        assert len(pool) == 2


async def test_a_server_that_mends_its_ways_is_taken_back(world: World) -> None:
    pool = Pool(2)

    async def bad(session: FeedSession) -> None:
        await session.open()
        await session.credit()
        await other_material(session)
        await session.until_closed()

    async with fed(world, bad, honest) as address, running(link := link_to(world, address, pool)):
        await until(lambda: link.status.state == "refused")
        await until(lambda: len(pool) == 2)
        assert (link.status.state, link.status.code) == ("live", "")


async def test_an_emulator_needs_a_server_registered_as_one(world: World) -> None:
    hardware = named_key("hardware")
    world.writer.add_qrng_server(QrngServerRecord(hardware.public, "hardware", False, True))
    world.publish()
    pool = Pool(1)

    async def script(session: FeedSession) -> None:
        await session.open()
        await session.credit()
        batch, units = session.made(signer=hardware, server=hardware.id, device=EMULATOR)
        await session.send(batch, *units)
        await session.until_closed()

    async with (
        fed(world, script, key=hardware) as address,
        running(link := link_to(world, address, pool, server=hardware.id)),
    ):
        await until(lambda: link.status.state == "refused")
        assert (link.status.code, len(pool)) == ("E-ATTESTATION-DEVICE", 0)


@pytest.mark.parametrize(("certified", "code"), [(True, ""), (False, "E-ATTESTATION-EVIDENCE")])
async def test_where_the_network_names_makers_the_device_must_be_of_theirs(world: World, certified: bool, code: str) -> None:
    maker, pool = Maker(), Pool(1)
    world.writer.set_device_authorities(world.qrng.id, (maker.public,))
    world.publish()
    device = (maker if certified else Maker("other")).device().descriptor()

    async def script(session: FeedSession) -> None:
        await session.open()
        await session.credit()
        batch, units = session.made(device=device)
        await session.send(batch, *units)
        await session.until_closed()

    async with fed(world, script) as address, running(link := link_to(world, address, pool)):
        await until(lambda: len(pool) == 1 or link.status.state == "refused")
        assert (link.status.code, len(pool)) == (code, int(certified))


async def test_another_identity_at_the_address_is_refused(world: World) -> None:
    async with fed(world, honest, key=named_key("impostor")) as address, running(link := link_to(world, address, Pool(1))):
        await until(lambda: link.status.state == "refused")
        assert link.status.code == "E-PEER-IDENTITY"


async def test_a_server_the_network_does_not_know_is_not_even_asked(world: World) -> None:
    unknown = named_key("unknown")
    async with fed(world, honest, key=unknown) as address, running(link := link_to(world, address, Pool(1), server=unknown.id)):
        await until(lambda: link.status.state == "refused")
        assert link.status.code == "E-REGISTRY-UNKNOWN"
        world.writer.add_qrng_server(QrngServerRecord(unknown.public, "new", True, True))
        world.publish()
        link.retry()
        await until(lambda: link.status.state == "live")


async def test_a_server_struck_off_is_left_at_its_next_batch(world: World) -> None:
    pool = Pool(1)
    async with fed(world, honest) as address, running(link := link_to(world, address, pool)):
        await until(lambda: len(pool) == 1)
        world.writer.set_qrng_server_active(world.qrng.id, False)
        world.publish()
        pool.take(world.now_ms)
        await until(lambda: link.status.state == "refused")
        assert link.status.code == "E-ATTESTATION"


async def test_nobody_there_and_then_somebody(world: World) -> None:
    async with fed(world, honest, listen=f"{host(9)}:0") as address:
        pass  # the port is free again
    pool = Pool(1)
    async with running(link := link_to(world, address, pool)):
        await until(lambda: link.status.state == "unreachable")
        assert link.status.code == "E-PEER-UNREACHABLE"
        async with fed(world, honest, listen=address):
            link.retry()
            await until(lambda: len(pool) == 1)
            assert link.status.state == "live"
        await until(lambda: link.status.state == "unreachable")


async def test_a_failed_device_gives_its_room_back_and_is_heard_when_it_is_mended(world: World) -> None:
    pool = Pool(2)
    mended = trio.Event()
    opened: list[int] = []

    async def failing(session: FeedSession) -> None:
        opened.append((await session.open()).credit)
        assert await session.credit() == 2
        await session.send(FeedHealth("failed", "E-DEV-LATCHED", "repetition count 31"))
        await session.until_closed()

    async def mending(session: FeedSession) -> None:
        opened.append((await session.open(FeedHealth("failed", "E-DEV-LATCHED", "repetition count 31"))).credit)
        await mended.wait()
        await session.send(LIVE)
        batch, units = session.made(await session.credit())
        await session.send(batch, *units)
        await session.until_closed()

    async with fed(world, failing, mending) as address, running(link := link_to(world, address, pool)):
        await until(lambda: len(opened) == 2 and link.status.state == "failed")
        assert (link.status.code, link.status.reason) == ("E-DEV-LATCHED", "repetition count 31")
        assert (opened, pool.room_units) == ([0, 0], 2)
        mended.set()
        await until(lambda: len(pool) == 2)
        assert (link.status.state, link.status.code) == ("live", "")


async def test_an_answer_that_is_overtaken_by_a_push_does_not_undo_it(world: World) -> None:
    pool = Pool(1)

    async def script(session: FeedSession) -> None:
        await session.open()
        request = await session.connection.next_request()
        await session.send(FeedHealth("suspect", "E-DEV-HEALTH", "a window failed"))
        await until(lambda: link.status.state == "suspect")
        await session.answer(request.id, LIVE)
        batch, units = session.made()
        await session.send(batch, *units)
        await session.until_closed()

    async with fed(world, script) as address:
        link = link_to(world, address, pool)
        async with running(link):
            await until(lambda: len(pool) == 1)
            assert link.status.state == "suspect"


async def test_a_server_that_holds_everything_and_sends_nothing_is_left_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(feed, "OVERDUE_S", 0.2)
    other = named_key("other")
    world.writer.add_qrng_server(QrngServerRecord(other.public, "other", True, True))
    world.publish()
    pool = Pool(4)

    async def silent(session: FeedSession) -> None:
        await session.open()
        while True:
            await session.credit()

    async def of_other(session: FeedSession) -> None:
        await session.open()
        while True:
            batch, units = session.made(await session.credit(), signer=other, server=other.id)
            await session.send(batch, *units)

    async with fed(world, silent) as first, fed(world, of_other, key=other) as second:
        greedy, fair = link_to(world, first, pool), link_to(world, second, pool, server=other.id)
        async with running(greedy):
            await until(lambda: pool.room_units == 0)
            async with running(fair):
                await until(lambda: len(pool) >= 2)
                assert fair.status.units >= 2
                assert greedy.status.units == 0


@pytest.mark.parametrize("code", ["E-NO-SUCH-CODE", "E-DISK-FULL"])
async def test_what_a_server_says_reaches_displays_clean(world: World, code: str) -> None:
    said = FeedHealth("suspect", code, "\x1b[2J\nroot: all is well \u202e")

    async def script(session: FeedSession) -> None:
        await session.open(said)
        await session.until_closed()

    async with fed(world, script) as address, running(link := link_to(world, address, Pool(1))):
        await until(lambda: link.status.state == "suspect")
        assert link.status.code == "E-FEED-STOPPED"
        assert link.status.reason == "?[2J?root: all is well ?"


async def test_stopping_in_the_middle_of_a_unit_leaves_nothing_behind(world: World) -> None:
    for wait_s in (0.0, 0.002, 0.01, 0.03):
        pool = Pool(8)
        async with fed(world, honest) as address, running(link := link_to(world, address, pool)):
            await trio.sleep(wait_s)
        assert pool.room_units == 8 - len(pool)
        assert link.status.units == len(pool)
