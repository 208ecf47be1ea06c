"""Making headers: what is checked, what is spent, what never shows."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from qustream.envelope import HeldBlock, make_header, read_header, seal_pad, unseal, verify_sender
from qustream.envelope.header import HEADER_MAX_BYTES
from qustream.errors import QuStreamError
from qustream.identity.hpke import HpkeKey
from qustream.model.network import NodeClass


def refused(world: Any, blocks: list[HeldBlock], **changes: Any) -> str:
    with pytest.raises(QuStreamError) as caught:
        make_header(blocks, **world.order(**changes))
    with pytest.raises(QuStreamError) as padded:
        seal_pad(blocks, b"hello", **world.order(**changes))
    assert padded.value.code == caught.value.code
    return caught.value.code


def test_blocks_are_put_in_order_of_class_and_keep_their_own(world: Any) -> None:
    blocks = world.blocks("order")
    mixed = [blocks[n] for n in (4, 2, 3, 0, 5, 1)]
    raw, _ = make_header(mixed, **world.order())
    assert [block.node for block in read_header(BytesIO(raw)).core.blocks] == [world.nodes[n] for n in (2, 0, 1, 4, 3, 5)]


@pytest.mark.parametrize("count", range(6))
def test_too_few_blocks(world: Any, count: int) -> None:
    assert refused(world, world.blocks()[:count]) == "E-CLASS-MIX"


def test_too_many_or_the_same_or_the_wrong_class(world: Any) -> None:
    blocks = world.blocks()
    assert refused(world, [*blocks, blocks[0]]) == "E-CLASS-MIX"
    assert refused(world, [*blocks[:5], blocks[4]]) == "E-CLASS-MIX"
    assert refused(world, world.blocks(node_class=NodeClass.COMMUNITY)) == "E-CLASS-MIX"


def test_blocks_of_different_indices(world: Any) -> None:
    assert refused(world, [*world.blocks()[:5], world.blocks(index=8)[5]]) == "E-CLASS-MIX"
    assert refused(world, [*world.blocks()[:5], world.blocks(grant=b"g" * 32)[5]]) == "E-CLASS-MIX"


def test_recipients_are_one_to_sixty_four_and_distinct(world: Any) -> None:
    bob = world.bob.named
    assert refused(world, world.blocks(), recipients=[]) == "E-REQUEST-INVALID"
    assert refused(world, world.blocks(), recipients=[bob, bob]) == "E-REQUEST-INVALID"
    many = [(bytes([n]) * 32, bob[1]) for n in range(65)]
    assert refused(world, world.blocks(), recipients=many) == "E-REQUEST-INVALID"


def test_sixty_four_recipients_fit(world: Any) -> None:
    keys = [HpkeKey(bytes([n]) * 32) for n in range(64)]
    recipients = [(bytes([n]) * 32, key.public) for n, key in enumerate(keys)]
    raw, _ = make_header(world.blocks(), **world.order(recipients=recipients))
    assert len(raw) < HEADER_MAX_BYTES
    header = read_header(BytesIO(raw))
    secrets = [unseal(header, user, key) for (user, _), key in zip(recipients, keys, strict=True)]
    assert len({bytes(each.client_secret) for each in secrets}) == 1
    assert len(set(header.seals)) == 64


@pytest.mark.parametrize("expires_ms", [0, 1_800_000_000_000])
def test_an_envelope_lives_some_time(world: Any, expires_ms: int) -> None:
    assert refused(world, world.blocks(), expires_ms=expires_ms) == "E-REQUEST-INVALID"


def test_a_recipients_key_that_is_none(world: Any) -> None:
    blocks = world.blocks()
    with pytest.raises(QuStreamError, match="E-WIRE-MALFORMED"):
        make_header(blocks, **world.order(recipients=[(b"b" * 32, b"short")]))
    assert all(block.spent for block in blocks)


def test_a_block_seed_of_the_wrong_length_is_our_own_mistake(world: Any) -> None:
    with pytest.raises(ValueError, match="126 bytes"):
        make_header(world.blocks(seed=b"short"), **world.order())


def test_blocks_are_wiped_and_good_for_one_envelope(world: Any) -> None:
    blocks = world.blocks("once")
    materials = [block.material for block in blocks]
    assert not any(block.spent for block in blocks)
    make_header(blocks, **world.order())
    assert all(block.spent for block in blocks)
    assert all(material == bytes(262_270) for material in materials)
    assert refused(world, blocks) == "E-GRANT-SPENT"
    assert refused(world, [*world.blocks("once")[:5], blocks[5]]) == "E-GRANT-SPENT"


def test_immutable_material_is_let_go(world: Any) -> None:
    blocks = world.blocks(material=world.material(0))
    make_header(blocks, **world.order())
    assert all(block.spent and block.material == b"" for block in blocks)


def test_refused_orders_spend_nothing(world: Any) -> None:
    blocks = world.blocks()
    refused(world, blocks, recipients=[])
    assert not any(block.spent for block in blocks)
    make_header(blocks, **world.order())


def test_no_two_envelopes_of_the_same_blocks_share_a_key(world: Any) -> None:
    first = make_header(world.blocks(), **world.order())
    second = make_header(world.blocks(), **world.order())
    assert first[1].secret != second[1].secret


def test_reprs_show_no_secret(world: Any) -> None:
    block = world.blocks()[0]
    assert repr(block) == f"<HeldBlock of {world.nodes[0].hex()[:12]}>"
    raw, key = make_header(world.blocks(), **world.order())
    header = read_header(BytesIO(raw))
    assert repr(key) == f"<ContentKey of {header.hash.hex()[:12]}>"
    assert repr(unseal(header, world.bob.user, world.bob.hpke)) == "<ClientSecrets>"
    verify_sender(header, world.alice.master.public, header.core.created_ms)
