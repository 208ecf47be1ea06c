"""Opening headers: who sent it, who may open it, which blocks it takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec
import pytest

from qustream.envelope import ClientSecrets, Header, content_key, make_header, read_header, unseal, verify_sender
from qustream.envelope.header import EnvelopeHeader, HeaderBody, StreamContent, preamble, seal_info
from qustream.envelope.sender import Order, make_secrets, write_header
from qustream.errors import QuStreamError
from qustream.identity.hpke import hpke_seal
from qustream.wire.codec import decode, encode


@pytest.fixture(scope="module", params=["stream", "pad"])
def made(request: pytest.FixtureRequest, world: Any) -> tuple[Header, bytes]:
    """A header and, of the maker's content key, its secret."""
    pad_bytes = 1000 if request.param == "pad" else None
    order = Order.checked(world.blocks(), **world.order())
    secrets, corrections = make_secrets(order, pad_bytes)
    raw, key = write_header(order, secrets, corrections, pad_bytes=pad_bytes)
    return read_header(BytesIO(raw)), bytes(key.secret)


@pytest.fixture(scope="module")
def header(made: tuple[Header, bytes]) -> Header:
    return made[0]


@pytest.fixture(scope="module")
def secrets(header: Header, world: Any) -> ClientSecrets:
    return unseal(header, world.bob.user, world.bob.hpke)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(QuStreamError) as caught:
        call()
    return caught.value.code


# --- the sender


def test_the_sender_is_found(header: Header, world: Any) -> None:
    sender = verify_sender(header, world.alice.master.public, header.core.created_ms)
    assert (sender.user, sender.device, sender.label) == (world.alice.user, world.alice.device.id, "alice's")


def test_another_users_master_key(header: Header, world: Any) -> None:
    at_ms = header.core.created_ms
    assert code_of(lambda: verify_sender(header, world.mallory.master.public, at_ms)) == "E-ENVELOPE-SENDER"


def test_a_clock_that_is_behind_is_forgiven_for_five_minutes(header: Header, world: Any) -> None:
    created_ms = header.core.created_ms
    verify_sender(header, world.alice.master.public, created_ms - 300_000)
    late = created_ms - 300_001
    assert code_of(lambda: verify_sender(header, world.alice.master.public, late)) == "E-ENVELOPE-SENDER"


def forged(world: Any, sender: Any, **changes: Any) -> str:
    raw, _ = make_header(world.blocks(), **world.order(sender=sender, **changes))
    found = read_header(BytesIO(raw))
    return code_of(lambda: verify_sender(found, world.alice.master.public, found.core.created_ms))


def test_forged_senders(world: Any) -> None:
    alice, mallory = world.alice, world.mallory
    certificate = alice.certify(alice.device)
    by_mallory = mallory.certify(mallory.device, user=alice.user)
    cases = {
        "mallory's device under alice's certificate": (alice.user, mallory.device, certificate),
        "a certificate mallory made himself": (alice.user, mallory.device, by_mallory),
        "alice's device as mallory": (mallory.user, alice.device, certificate),
        "a certificate of alice for another user": (alice.user, alice.device, alice.certify(alice.device, user=mallory.user)),
        "a signature lifted from another certificate": (
            alice.user,
            mallory.device,
            msgspec.structs.replace(by_mallory, signature=certificate.signature),
        ),
    }
    assert {name: forged(world, sender) for name, sender in cases.items()} == dict.fromkeys(cases, "E-ENVELOPE-SENDER")


@pytest.mark.parametrize(("issued", "expires"), [(1, 1000), (-1000, 0)], ids=["not yet", "no longer"])
def test_a_certificate_outside_its_time(world: Any, issued: int, expires: int) -> None:
    alice = type(world.alice)("alice", issued_ms=1_800_000_000_000 + issued, expires_ms=1_800_000_000_000 + expires)
    assert forged(world, alice.sender) == "E-ENVELOPE-SENDER"


@pytest.mark.parametrize(("issued", "expires"), [(0, 1), (0, 1000), (-1000, 1)])
def test_a_certificate_at_the_edges_of_its_time(world: Any, issued: int, expires: int) -> None:
    alice = type(world.alice)("alice", issued_ms=1_800_000_000_000 + issued, expires_ms=1_800_000_000_000 + expires)
    raw, _ = make_header(world.blocks(), **world.order(sender=alice.sender))
    found = read_header(BytesIO(raw))
    assert verify_sender(found, alice.master.public, found.core.created_ms).user == alice.user


def test_a_header_edited_in_any_byte_is_refused(world: Any) -> None:
    """Structure or signature: every single byte before the content matters."""
    raw, _ = make_header(world.blocks(), **world.order(recipients=[world.bob.named]))
    master = world.alice.master.public
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1 << at % 8
        with pytest.raises(QuStreamError):
            verify_sender(read_header(BytesIO(bytes(changed))), master, 1_800_000_000_000)


# --- the seal


def test_every_recipient_gets_the_same_secrets(header: Header, world: Any, secrets: ClientSecrets) -> None:
    carol = unseal(header, world.carol.user, world.carol.hpke)
    assert carol.client_secret == secrets.client_secret
    assert carol.seeds == secrets.seeds == {block.node: block.seed for block in world.blocks()}


def test_who_is_not_named_and_who_takes_anothers_name(header: Header, world: Any) -> None:
    assert code_of(lambda: unseal(header, world.mallory.user, world.mallory.hpke)) == "E-NOT-RECIPIENT"
    assert code_of(lambda: unseal(header, world.bob.user, world.mallory.hpke)) == "E-ENVELOPE-TAMPERED"


def with_body(header: Header, **changes: Any) -> Header:
    body = msgspec.structs.replace(decode(header.body, HeaderBody, max_bytes=1 << 18), **changes)
    data = encode(EnvelopeHeader(encode(body), header.signature))
    section = b"" if header.pad_bytes is None else b"".join(header.corrections)
    return read_header(BytesIO(preamble(data) + data + section))


def test_swapped_changed_and_foreign_seals(header: Header, world: Any) -> None:
    mine, other = header.seals
    changed = mine[:-1] + bytes([mine[-1] ^ 1])
    foreign = hpke_seal(world.bob.hpke.public, bytes(788), seal_info(bytes(32), world.bob.user))
    for seals in [(other, mine), (changed, other), (foreign, other)]:
        edited = with_body(header, seals=seals)
        assert code_of(lambda edited=edited: unseal(edited, world.bob.user, world.bob.hpke)) == "E-ENVELOPE-TAMPERED"


def test_client_secrets_are_wiped(header: Header, world: Any) -> None:
    mine = unseal(header, world.bob.user, world.bob.hpke)
    mine.wipe()
    assert mine.client_secret == bytes(32)


# --- the content key


PAIRS = list(itertools.combinations(range(3), 2))


@pytest.mark.parametrize("foundation", PAIRS)
@pytest.mark.parametrize("community", PAIRS)
def test_any_two_blocks_of_each_class_give_the_key(
    made: tuple[Header, bytes], world: Any, secrets: ClientSecrets, foundation: tuple[int, int], community: tuple[int, int]
) -> None:
    header, expected = made
    which = (*foundation, *(n + 3 for n in community))
    key = content_key(header, secrets.client_secret, world.opened(*which))
    assert key.secret == expected
    assert key.inconsistent == ()
    assert key.header_hash == header.hash


def test_all_six_blocks_give_the_key(made: tuple[Header, bytes], world: Any, secrets: ClientSecrets) -> None:
    key = content_key(made[0], secrets.client_secret, world.opened())
    assert key.secret == made[1]
    assert key.inconsistent == ()


@pytest.mark.parametrize(
    ("which", "name", "have"),
    [((3, 4, 5), "foundation", 0), ((0, 3, 4, 5), "foundation", 1), ((0, 1, 2), "community", 0), ((0, 1, 2, 4), "community", 1)],
)
def test_one_class_short_is_named(header: Header, world: Any, secrets: ClientSecrets, which: tuple[int, ...], name: str, have: int) -> None:
    with pytest.raises(QuStreamError) as caught:
        content_key(header, secrets.client_secret, world.opened(*which))
    assert caught.value.code == "E-CLASS-SHORT"
    assert caught.value.detail == f"{have} of the {name} blocks could be had, 2 are needed"


def test_nothing_at_all_is_short(header: Header, secrets: ClientSecrets) -> None:
    assert code_of(lambda: content_key(header, secrets.client_secret, {})) == "E-CLASS-SHORT"


def test_a_block_of_a_foreign_node(header: Header, world: Any, secrets: ClientSecrets) -> None:
    blocks = {**world.opened(), b"x" * 32: (world.material(0), world.salt(0))}
    assert code_of(lambda: content_key(header, secrets.client_secret, blocks)) == "E-CLASS-MIX"


def spoilt(world: Any, *which: int, of: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> dict[bytes, tuple[bytes, bytes]]:
    """The blocks of nodes `of`, those of `which` being another request's."""
    return {**world.opened(*of), **{world.nodes[n]: (world.material(n, "other"), world.salt(n)) for n in which}}


@pytest.mark.parametrize("which", [(n,) for n in range(6)] + list(itertools.product(range(3), range(3, 6))))
def test_an_inconsistent_node_of_a_class_is_found_and_named(
    made: tuple[Header, bytes], world: Any, secrets: ClientSecrets, which: tuple[int, ...]
) -> None:
    key = content_key(made[0], secrets.client_secret, spoilt(world, *which))
    assert key.secret == made[1]
    assert key.inconsistent == tuple(world.nodes[n] for n in which)


@pytest.mark.parametrize(
    ("which", "of"), [((0,), (0, 1, 3, 4)), ((4,), (1, 2, 3, 4)), ((0, 1), tuple(range(6))), ((3, 4, 5), tuple(range(6)))]
)
def test_too_many_wrong_blocks(header: Header, world: Any, secrets: ClientSecrets, which: tuple[int, ...], of: tuple[int, ...]) -> None:
    blocks = spoilt(world, *which, of=of)
    assert code_of(lambda: content_key(header, secrets.client_secret, blocks)) == "E-ENVELOPE-TAMPERED"


def test_a_wrong_salt_is_a_wrong_block(header: Header, world: Any, secrets: ClientSecrets) -> None:
    blocks = {**world.opened(0, 1, 3, 4), world.nodes[0]: (world.material(0), world.salt(1))}
    assert code_of(lambda: content_key(header, secrets.client_secret, blocks)) == "E-ENVELOPE-TAMPERED"


def test_a_wrong_client_secret(header: Header, world: Any, secrets: ClientSecrets) -> None:
    wrong = bytes([secrets.client_secret[0] ^ 1]) + bytes(secrets.client_secret[1:])
    assert code_of(lambda: content_key(header, wrong, world.opened())) == "E-ENVELOPE-TAMPERED"


def test_a_changed_commitment(header: Header, world: Any, secrets: ClientSecrets) -> None:
    edited = with_body(header, commitment=bytes(32))
    assert code_of(lambda: content_key(edited, secrets.client_secret, world.opened())) == "E-ENVELOPE-TAMPERED"


def test_a_changed_correction_breaks_signature_and_third_share(world: Any) -> None:
    raw, _ = make_header(world.blocks(), **world.order())
    header = read_header(BytesIO(raw))
    content = header.core.content
    assert isinstance(content, StreamContent)
    changed = msgspec.structs.replace(content, foundation_correction=bytes(64))
    edited = with_body(header, core=encode(msgspec.structs.replace(header.core, content=changed)))
    assert code_of(lambda: verify_sender(edited, world.alice.master.public, 1_800_000_000_000)) == "E-ENVELOPE-SENDER"
    secrets = unseal(header, world.bob.user, world.bob.hpke)
    assert code_of(lambda: content_key(edited, secrets.client_secret, world.opened())) == "E-ENVELOPE-TAMPERED"
