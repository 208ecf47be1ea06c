"""Ways to lie, and what tests of a client do all the time: see `support.village`."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from support.village import Node, User

from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass
from qustream.wire.codec import decode, encode
from qustream.wire.keys import CollectBody, KeyAnswer, KeyBody, Receipt

FOUNDATION, COMMUNITY = NodeClass.FOUNDATION, NodeClass.COMMUNITY
LETTER = b"the plain text of a letter\n" * 100
HONEST_MS = 4_000  # in which an honest node answers on the busiest machine; a silent one costs a test twice as much
STRANGER = SigningKey(bytes(32))


def sealed(alice: User, bob: User, **options: Any) -> bytes:
    """The letter as an envelope from Alice to Bob."""
    out = io.BytesIO()
    alice.client().encrypt(io.BytesIO(LETTER), out, to=[bob.text], **options)
    return out.getvalue()


def opened(bob: User, envelope: bytes) -> bytes:
    """What Bob finds in it."""
    out = io.BytesIO()
    bob.client().open(io.BytesIO(envelope), out)
    return out.getvalue()


def refused(call: Callable[[], object], code: str) -> QuStreamError:
    """The error of a call that must fail with `code`."""
    with pytest.raises(QuStreamError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value


def answering(change: Any, to: type[Any] = KeyBody) -> Any:
    """A node that changes its honest `KeyAnswer` to requests of kind `to`: `change(node, body, answer) -> answer or bytes`."""

    async def twist(node: Node, body: Any, honest: Any) -> bytes:
        data = await honest()
        if not isinstance(body, to):
            return data
        answer = decode(data, KeyAnswer, max_bytes=len(data))
        made = change(node, body, answer)
        return made if isinstance(made, bytes) else encode(made)

    return twist


def collected(change: Any) -> Any:
    """As `answering`, to recipients alone."""
    return answering(change, CollectBody)


def another_block(node: Node, body: KeyBody, answer: KeyAnswer) -> KeyAnswer:
    """Well signed for these very bytes, but they are not what this seed opens."""
    other = os.urandom(len(answer.block))
    receipt = replace(decode(answer.receipt.body, Receipt, max_bytes=10_000), block_hash=hashlib.sha256(other + answer.salt).digest())
    return replace(answer, block=other, receipt=node.key.sign_noun("receipt", receipt))


def flipped(data: bytes, at: int = 5) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def silent(node: Node, body: Any, honest: Any) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


def refusing(code: str, detail: str = "") -> Any:
    async def twist(node: Node, body: Any, honest: Any) -> bytes:
        raise fault(code, detail)

    return twist
