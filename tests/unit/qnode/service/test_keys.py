"""The key service from a device's request to the bytes that leave: real signatures, real blocks, a real store."""

import hashlib
import os
import resource
from collections import Counter

import pytest
import trio
from support.keys_world import DAY_MS, Person, World

from qnode.core.delivery import REPLAY_MS
from qnode.service.keys import REQUESTS_MAX, KeyService
from qnode.store import Store
from qustream import block
from qustream.entropy import check_leaf
from qustream.errors import QuStreamError
from qustream.identity.signing import open_signed
from qustream.model.entropy import Attestation
from qustream.wire.codec import decode, encode
from qustream.wire.keys import (
    Acknowledged,
    AlertsAnswer,
    DeviceRequest,
    Erasure,
    KeyAnswer,
    Receipt,
    RevokeAnswer,
)

STORAGE_KEY = bytes(range(32))
SEED, OTHER_SEED = b"s" * 126, b"o" * 126
ANSWER_MAX = 400_000


class Counts:
    def __init__(self) -> None:
        self.answered = Counter()

    def count_answered(self, kind):
        self.answered[kind] += 1


class Node:
    """The service on a store in `folder`; `restart` closes and opens it again."""

    def __init__(self, world: World, folder, units: int = 4, **settings):
        self.world, self.folder, self.settings = world, folder, {"room_blocks": 16, **settings}
        self.pool, self.counts = world.shelf(units), Counts()
        self.open()

    def open(self, **settings):
        self.store = Store.open(self.folder, STORAGE_KEY, **{**self.settings, **settings})
        world = self.world
        self.service = KeyService(
            store=self.store, pool=self.pool, registry=world.registry, key=world.node, clock_ms=world.clock_ms, counts=self.counts
        )

    def restart(self, **settings):
        self.store.close()
        self.open(**settings)

    async def ask(self, request: bytes, device=None, *, channel=1, deadline_ms=10_000):
        peer = self.world.peer(device or self.world.alice.phone, channel)
        return await self.service.answer(peer, request, deadline_ms)

    async def code(self, request: bytes, device=None, **how):
        with pytest.raises(QuStreamError) as caught:
            await self.ask(request, device, **how)
        return caught.value.code

    async def alerts(self, person: Person, device, since_ms=0):
        await self.service.sweep()  # alerts are written behind the refusal, in the order of the store's thread
        answer = await self.ask(self.world.alerts(person, device, since_ms))
        return decode(answer, AlertsAnswer, max_bytes=ANSWER_MAX).alerts


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def node(world, tmp_path):
    node = Node(world, tmp_path / "data")
    yield node
    node.store.close()


# -- the answer ----------------------------------------------------------------------------------------------------------


async def test_the_answer_opens_to_the_unit_and_its_receipt_says_so(node, world):
    answer = decode(await node.ask(world.key(0, SEED)), KeyAnswer, max_bytes=ANSWER_MAX)
    [unit] = node.pool.taken
    material = block.open(answer.block, SEED)
    assert material == unit.material
    attestation = open_signed(answer.attestation, Attestation, world.qrng.public, "attestation")
    leaf = check_leaf(attestation, world.node.id, material, answer.proof)
    receipt = open_signed(answer.receipt, Receipt, world.node.public, "receipt")
    assert receipt == Receipt(
        chain=world.registry.chain,
        node=world.node.id,
        grant=world.alices.grant.grant,
        index=0,
        seed_hash=hashlib.sha256(SEED).digest(),
        block_hash=hashlib.sha256(answer.block + answer.salt).digest(),
        leaf=leaf,
        issued_ms=world.now_ms,
        expires_ms=world.now_ms + DAY_MS,
    )
    assert node.counts.answered == {"key": 1}


async def test_nothing_secret_lies_on_the_disk_in_clear(node, world):
    answer = decode(await node.ask(world.key(0, SEED)), KeyAnswer, max_bytes=ANSWER_MAX)
    material = node.pool.taken[0].material
    secrets = [SEED, answer.salt, answer.block[:64], answer.block[-64:], material[:64], material[-126:], world.bob.id, STORAGE_KEY]
    node.store.close()
    for path in node.folder.iterdir():
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret in data], path


async def test_a_repeated_request_gets_the_same_bytes_on_any_channel_also_after_a_restart(node, world):
    first = await node.ask(world.key(0, SEED))
    assert await node.ask(world.key(0, SEED)) == first
    world.wait(1000)
    assert await node.ask(world.key(0, SEED, exporter=world.exporter(2)), channel=2) == first
    node.restart()
    assert await node.ask(world.key(0, SEED)) == first
    assert len(node.pool.taken) == 1
    world.wait(REPLAY_MS)
    assert await node.code(world.key(0, SEED)) == "E-GRANT-SPENT"


@pytest.mark.parametrize("changes", [{"seed": OTHER_SEED}, {"recipients": ()}, {"lifetime_ms": 1}])
async def test_another_request_for_a_spent_index_costs_no_unit(node, world, changes):
    first = await node.ask(world.key(0, SEED))
    seed = changes.pop("seed", SEED)
    assert await node.code(world.key(0, seed, **changes)) == "E-GRANT-SPENT"
    assert len(node.pool.taken) == 1
    assert await node.ask(world.key(0, SEED)) == first


async def test_identical_requests_at_once_are_one_answer(node, world):
    answers = []

    async def ask(channel):
        answers.append(await node.ask(world.key(0, SEED, exporter=world.exporter(channel)), channel=channel))

    async with trio.open_nursery() as nursery:
        for channel in range(6):
            nursery.start_soon(ask, channel)
    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert len(node.pool.taken) == 1


async def test_of_different_requests_at_once_exactly_one_wins(node, world):
    outcomes = []

    async def ask(letter):
        try:
            outcomes.append(await node.ask(world.key(0, letter * 126)))
        except QuStreamError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        for letter in (b"a", b"b", b"c", b"d"):
            nursery.start_soon(ask, letter)
    assert sorted(str(outcome) for outcome in outcomes)[:3] == ["E-GRANT-SPENT"] * 3
    assert len(node.pool.taken) == 1


async def test_whoever_gives_up_waiting_can_still_fetch_what_was_made(node, world):
    request = world.key(0, SEED)
    with trio.CancelScope() as scope:

        async def give_up():
            while not node.pool.taken:
                await trio.sleep(0)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up)
            await node.ask(request)
    assert scope.cancel_called
    assert node.store.marks == 1
    answer = decode(await node.ask(world.key(0, SEED)), KeyAnswer, max_bytes=ANSWER_MAX)
    assert block.open(answer.block, SEED) == node.pool.taken[0].material
    assert len(node.pool.taken) == 1


# -- refusals ------------------------------------------------------------------------------------------------------------


REFUSED = {
    "another network": ({"chain": "other"}, "E-PEER-CHAIN"),
    "another node": ({"node": bytes(32)}, "E-REQUEST-NODE"),
    "another channel": ({"exporter": bytes(32)}, "E-REQUEST-NODE"),
    "expired": ({"expires_ms": 1}, "E-REQUEST-EXPIRED"),
    "too long valid": ({"expires_ms": 2**62}, "E-REQUEST-EXPIRED"),
    "another epoch": ({"epoch": 3}, "E-REQUEST-EXPIRED"),
    "an unknown user": ({"user": b"u" * 32}, "E-DEVICE-UNKNOWN"),
    "seed hash": ({"seed_hash": bytes(32)}, "E-REQUEST-INVALID"),
    "recipients twice": ({"recipients": (b"r" * 32,) * 2}, "E-REQUEST-INVALID"),
    "recipients for no time": ({"lifetime_ms": 0}, "E-REQUEST-INVALID"),
    "an unknown grant": ({"grant": bytes(32)}, "E-GRANT-UNKNOWN"),
    "another's stripe": ({"index": 1}, "E-REQUEST-INVALID"),
    "beyond the grant": ({"index": 40}, "E-REQUEST-INVALID"),
    "another rUID": ({"ruid": bytes(32)}, "E-GRANT-RUID"),
    "no path": ({"path": ()}, "E-GRANT-RUID"),
    "too long a life": ({"lifetime_ms": 10 * DAY_MS + 1}, "E-LIFETIME"),
    "unknown recipient": ({"recipients": (b"r" * 32,)}, "E-REGISTRY-UNKNOWN"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_by_name_and_nothing_is_spent(node, world, case):
    changes, code = REFUSED[case]
    assert await node.code(world.key(0, SEED, **changes)) == code
    assert not node.pool.taken
    assert node.store.marks == 0


async def test_refused_for_who_asks(node, world):
    alice, bob = world.alice, world.bob
    asked = world.key(0, SEED)
    spoiled = decode(asked, DeviceRequest, max_bytes=ANSWER_MAX)
    forged = encode(DeviceRequest(spoiled.body, spoiled.signature[:-1] + bytes([spoiled.signature[-1] ^ 1]), SEED))
    assert await node.code(forged) == "E-SIGNATURE"
    bobs = world.grant(bob)
    world.publish()
    assert await node.code(world.key(0, SEED, kit=bobs, user=alice.id)) == "E-GRANT-RUID"
    assert await node.code(world.key(0, SEED, user=bob.id)) == "E-REQUEST-INVALID"
    forged = alice.device("alice/phone", 0, world.now_ms, by=world.mallory.master)  # her own phone, certified by another
    assert await node.code(world.key(0, SEED, device=forged)) == "E-DEVICE-UNKNOWN"
    assert not node.pool.taken


async def test_an_expired_certificate_is_refused(node, world):
    world.wait(91 * DAY_MS)
    assert await node.code(world.collect(world.bob, world.bob.phone, 0)) == "E-DEVICE-EXPIRED"


async def test_a_grant_is_served_in_its_two_epochs_alone(node, world):
    later = world.grant(world.alice, epoch=2, pinned=True)
    world.publish()
    assert await node.code(world.key(0, SEED, kit=later)) == "E-GRANT-UNKNOWN"
    world.wait(3 * DAY_MS)
    await node.ask(world.key(0, SEED))
    world.wait(3 * DAY_MS)
    assert await node.code(world.key(2, SEED)) == "E-GRANT-EXPIRED"
    await node.ask(world.key(0, SEED, kit=later))


async def test_only_assigned_nodes_answer(node, world):
    kit = world.grant(world.alice, nonce=bytes(32))  # by one in ten thousand nonces the node is assigned to all of them
    world.publish()
    assigned = {
        index: any(record.key.id == world.node.id for ranks in world.registry.assignment(kit.grant, index).values() for record in ranks)
        for index in range(0, 40, 2)
    }
    assert set(assigned.values()) == {True, False}
    no = next(index for index, yes in assigned.items() if not yes)
    yes = next(index for index, yes in assigned.items() if yes)
    assert await node.code(world.key(no, SEED, kit=kit)) == "E-NOT-ASSIGNED"
    await node.ask(world.key(yes, SEED, kit=kit))


async def test_a_node_that_hears_nothing_of_the_network_serves_nobody(node, world):
    world.now_ms += 60_001
    assert await node.code(world.key(0, SEED)) == "E-CHAIN-STALE"


async def test_a_seed_belongs_to_key_requests_alone(node, world):
    body = decode(world.collect(world.bob, world.bob.phone, 0), DeviceRequest, max_bytes=ANSWER_MAX)
    assert await node.code(encode(DeviceRequest(body.body, body.signature, SEED))) == "E-REQUEST-INVALID"


async def test_without_units_nothing_is_spent(node, world):
    node.pool.units.clear()
    assert await node.code(world.key(0, SEED)) == "E-ENTROPY-SHORT"
    assert node.store.marks == 0
    node.pool.units.extend(world.shelf(1).units)
    await node.ask(world.key(0, SEED))


async def test_a_deadline_that_has_passed_costs_no_unit(node, world):
    assert await node.code(world.key(0, SEED), deadline_ms=0) == "E-DEADLINE"
    assert not node.pool.taken


async def test_a_full_node_says_so_before_it_takes_a_unit(world, tmp_path):
    node = Node(world, tmp_path / "data", room_blocks=1)
    await node.ask(world.key(0, SEED))
    assert await node.code(world.key(2, SEED)) == "E-NODE-FULL"
    assert len(node.pool.taken) == 1
    node.store.close()


async def test_a_disk_without_room_gives_out_what_it_has_and_takes_nothing_new(node, world):
    first = await node.ask(world.key(0, SEED))
    node.restart(reserve_bytes=1 << 60)
    await node.service.sweep()
    assert await node.code(world.key(2, SEED)) == "E-NODE-READONLY"
    assert len(node.pool.taken) == 1
    assert await node.ask(world.key(0, SEED)) == first
    assert await node.ask(world.revoke(world.alice, world.alice.laptop, 0))
    assert node.store.held_blocks == 0


async def test_when_the_commit_fails_the_unit_is_gone_and_the_index_is_not(node, world):
    size = (node.folder / "data.mdb").stat().st_size
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, unlimited[1]))
    try:
        assert await node.code(world.key(0, SEED)) == "E-NODE-READONLY"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert (node.store.marks, node.store.held_blocks) == (0, 0)
    assert node.store.trouble is not None
    [wasted] = node.pool.taken
    with trio.fail_after(60):
        while node.store.trouble is not None:
            assert await node.code(world.key(2, OTHER_SEED)) == "E-NODE-READONLY"
            await node.service.sweep()
            await trio.sleep(0.1)
    assert node.pool.taken == [wasted], "a node that cannot write takes no units"
    answer = decode(await node.ask(world.key(0, OTHER_SEED)), KeyAnswer, max_bytes=ANSWER_MAX)
    assert block.open(answer.block, OTHER_SEED) != wasted.material


async def test_a_node_restored_from_a_backup_serves_later_grants_alone(node, world):
    await node.ask(world.key(0, SEED))
    node.restart(restored_in_epoch=1)
    assert await node.code(world.key(2, SEED)) == "E-NODE-READONLY"
    assert await node.code(world.collect(world.bob, world.bob.phone, 0)) == "E-NOT-HELD"
    later = world.grant(world.alice, epoch=2, pinned=True)
    world.publish()
    world.wait(3 * DAY_MS)
    await node.ask(world.key(0, SEED, kit=later))


async def test_a_busy_node_says_so(node, world):
    outcomes = Counter()
    request = world.key(0, SEED)

    async def ask():
        try:
            await node.ask(request)
            outcomes["answered"] += 1
        except QuStreamError as error:
            outcomes[error.code] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(REQUESTS_MAX + 5):
            nursery.start_soon(ask)
    assert outcomes == {"answered": REQUESTS_MAX, "E-PEER-LIMIT": 5}
    assert len(node.service._turns) == 0


@pytest.mark.parametrize("data", [b"", b"\xc1", bytes(32_769), encode(DeviceRequest(b"", bytes(3373), b""))])
async def test_bytes_that_are_no_request(node, data):
    assert (await node.code(data)).startswith("E-WIRE-")


async def test_bytes_flipped_anywhere_are_refused_with_a_code(node, world):
    request = world.key(0, SEED)
    for at in [*range(0, 700, 7), *range(700, len(request), 97)]:
        flipped = request[:at] + bytes([request[at] ^ 0x20]) + request[at + 1 :]
        assert (await node.code(flipped)).startswith("E-")
    assert not node.pool.taken
    assert len(node.service._certificates) <= 1


# -- unknown and revoked devices -----------------------------------------------------------------------------------------


async def test_an_unregistered_device_is_refused_and_the_user_told(node, world):
    alice = world.alice
    stolen = alice.device("thief", 0, world.now_ms)  # signed by the true master, never enrolled
    self_made = alice.device("mallory/phone", 0, world.now_ms, by=world.mallory.master)
    for device in (stolen, stolen, self_made):
        assert await node.code(world.key(0, SEED, device=device), device) == "E-DEVICE-UNKNOWN"
    assert await node.code(world.collect(alice, stolen, 0), stolen) == "E-DEVICE-UNKNOWN"
    world.wait(60_000)
    await node.service.sweep()
    alerts = await node.alerts(alice, alice.laptop)
    assert {(alert.code, alert.device, alert.times) for alert in alerts} == {
        ("E-DEVICE-UNKNOWN", stolen.key.id, 3),
        ("E-DEVICE-UNKNOWN", self_made.key.id, 1),
    }
    assert await node.alerts(alice, alice.laptop, since_ms=world.now_ms) == ()
    assert await node.alerts(world.bob, world.bob.phone) == ()


async def test_a_revoked_device_is_refused_and_the_user_told(node, world):
    alice = world.alice
    first = await node.ask(world.key(0, SEED))
    world.writer.revoke_device(alice.id, alice.phone.key.id)
    world.publish()
    assert await node.code(world.key(0, SEED)) == "E-DEVICE-REVOKED"
    assert await node.code(world.alerts(alice, alice.phone)) == "E-DEVICE-REVOKED"
    [alert] = await node.alerts(alice, alice.laptop)
    assert (alert.code, alert.device, alert.at_ms) == ("E-DEVICE-REVOKED", alice.phone.key.id, world.now_ms)
    assert await node.ask(world.collect(world.bob, world.bob.phone, 0)) == first


async def test_nobody_makes_an_innocent_device_look_guilty(node, world):
    alice = world.alice
    world.writer.revoke_device(alice.id, alice.phone.key.id)
    world.publish()
    signed = decode(world.key(0, SEED), DeviceRequest, max_bytes=ANSWER_MAX)
    forged = encode(DeviceRequest(signed.body, os.urandom(3373), SEED))
    assert await node.code(forged) == "E-DEVICE-REVOKED"
    assert await node.alerts(alice, alice.laptop) == ()


async def test_a_stranger_with_many_keys_writes_no_more_than_the_bound(node, world):
    for number in range(20):
        device = world.alice.device(f"stranger {number}", 0, world.now_ms)
        assert await node.code(world.alerts(world.alice, device), device) == "E-DEVICE-UNKNOWN"
    assert len(await node.alerts(world.alice, world.alice.laptop)) == 8
    assert len(node.service._certificates) == 1  # the laptop's


# -- held blocks ---------------------------------------------------------------------------------------------------------


async def test_a_recipient_collects_until_he_acknowledges_then_all_is_erased(node, world):
    alice, bob = world.alice, world.bob
    first = await node.ask(world.key(0, SEED))
    for device in (bob.phone, bob.laptop):
        assert await node.ask(world.collect(bob, device, 0)) == first
    assert await node.code(world.collect(alice, alice.phone, 0)) == "E-NOT-RECIPIENT"
    assert await node.code(world.collect(bob, bob.phone, 2)) == "E-NOT-HELD"
    assert await acknowledged(node, world.acknowledge(bob, bob.phone, 0, collected=True)) is False
    assert await node.code(world.collect(bob, bob.laptop, 0)) == "E-NOT-HELD"
    assert await node.ask(world.key(0, SEED)) == first
    assert await acknowledged(node, world.acknowledge(alice, alice.phone, 0, collected=False)) is True
    assert await node.code(world.key(0, SEED)) == "E-GRANT-SPENT"
    assert await acknowledged(node, world.acknowledge(bob, bob.phone, 0, collected=True)) is True
    assert (node.store.held_blocks, node.store.erased, node.store.marks) == (0, 1, 1)
    assert node.counts.answered == {"key": 2, "collect": 2, "acknowledge": 3}


async def acknowledged(node, request):
    return decode(await node.ask(request), Acknowledged, max_bytes=100).erased


async def test_revoking_erases_and_says_the_same_for_ever(node, world):
    alice, bob = world.alice, world.bob
    assert await node.code(world.revoke(alice, alice.laptop, 0)) == "E-NOT-HELD"
    await node.ask(world.key(0, SEED))
    assert await node.code(world.revoke(bob, bob.phone, 0)) == "E-NOT-RECIPIENT"
    said = []

    async def revoke(device):
        said.append(await node.ask(world.revoke(alice, device, 0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(revoke, alice.phone)
        nursery.start_soon(revoke, alice.laptop)
    erased_ms = world.now_ms
    world.wait(DAY_MS)
    node.restart()
    await revoke(alice.laptop)
    assert len(set(said)) == 1
    signed = decode(said[0], RevokeAnswer, max_bytes=10_000).erasure
    erasure = open_signed(signed, Erasure, world.node.public, "erasure")
    assert erasure == Erasure(world.registry.chain, world.node.id, world.alices.grant.grant, 0, erased_ms)
    assert await node.code(world.collect(bob, bob.phone, 0)) == "E-NOT-HELD"
    assert await node.code(world.key(0, SEED)) == "E-GRANT-SPENT"
    assert node.store.held_blocks == 0


async def test_a_lifetime_that_is_over_is_over(node, world):
    alice, bob = world.alice, world.bob
    await node.ask(world.key(0, SEED))
    expired_ms = world.now_ms + DAY_MS
    world.wait(DAY_MS)
    assert await node.code(world.collect(bob, bob.phone, 0)) == "E-NOT-HELD"
    await node.service.sweep()
    assert node.store.held_blocks == 0
    world.wait(1000)
    signed = decode(await node.ask(world.revoke(alice, alice.phone, 0)), RevokeAnswer, max_bytes=10_000).erasure
    assert open_signed(signed, Erasure, world.node.public, "erasure").erased_ms == expired_ms
    world.wait(9 * DAY_MS)
    await node.service.sweep()
    assert node.store.marks == 0
    assert await node.code(world.revoke(alice, alice.phone, 0)) == "E-NOT-HELD"
