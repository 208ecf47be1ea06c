"""What is asked of an appliance, and what an answer must be to count as entropy. Pure.

Two documented interfaces, both JSON with blocks in base64 (RFC 4648 §4):

    blocks   POST {"block_size": B, "block_count": N}   →   {"entropy": [N texts], ...}
    kib      GET ...?size=N                             →   {"random": [N texts of 1,024 bytes], "size": N, ...}

Nothing less than what was asked for is taken: N texts, each the one canonical base64 of exactly B bytes. An answer that is anything else is
refused as a whole, also where a part of it could be read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from qustream.errors import fault
from qustream.wire.json_text import decode_json

__all__ = ["KIB_BLOCK_BYTES", "Api", "Request", "answer_max_bytes", "read_answer", "request_for"]

Api: TypeAlias = Literal["blocks", "kib"]
KIB_BLOCK_BYTES = 1024  # the unit of the interface `kib`
# Fields beside the blocks: `extensions` and the like. Larger ones are nothing we asked for.
ANSWER_EXTRA_BYTES = 16_384
# Around each text: quotes, a comma, a line break and indentation.
BLOCK_EXTRA_BYTES = 32


class Request(msgspec.Struct, frozen=True):
    """An HTTP request: method, target, and the body of a POST."""

    method: str
    target: str
    body: bytes = b""


class _Blocks(msgspec.Struct, frozen=True):
    entropy: Sequence[str]


class _Kib(msgspec.Struct, frozen=True):
    random: Sequence[str]
    size: int


def request_for(api: Api, path: str, *, block_bytes: int, blocks: int) -> Request:
    """What asks for `blocks` blocks of `block_bytes` bytes. `path`: of the configured address, with its query."""
    if api == "kib":
        return Request("GET", f"{path}{'&' if '?' in path else '?'}size={blocks}")
    return Request("POST", path, json.dumps({"block_size": block_bytes, "block_count": blocks}).encode())


def answer_max_bytes(*, block_bytes: int, blocks: int) -> int:
    """How long an answer can be."""
    return blocks * (_text_length(block_bytes) + BLOCK_EXTRA_BYTES) + ANSWER_EXTRA_BYTES


def read_answer(api: Api, body: bytes | bytearray, *, block_bytes: int, blocks: int) -> list[bytes]:
    """The blocks of an answer. Raises E-APPLIANCE-ANSWER, which tells what is wrong and quotes nothing."""
    texts = _texts(api, body)
    if len(texts) != blocks:
        raise fault("E-APPLIANCE-ANSWER", f"{len(texts)} blocks where {blocks} were asked for")
    found = [_block(text, number, block_bytes) for number, text in enumerate(texts)]
    for number, block in enumerate(found):
        if block.count(block[0]) == len(block):
            raise fault("E-APPLIANCE-ANSWER", f"block {number} is one byte over and over")
    return found


def _texts(api: Api, body: bytes | bytearray) -> Sequence[str]:
    try:
        if api == "blocks":
            return decode_json(body, _Blocks).entropy
        kib = decode_json(body, _Kib)
    except ValueError:
        # The decoder's own words would quote the answer.
        field = "entropy" if api == "blocks" else "random"
        raise fault("E-APPLIANCE-ANSWER", f"{len(body)} bytes that are no JSON object with a list of texts in {field!r}") from None
    if kib.size != len(kib.random):
        raise fault("E-APPLIANCE-ANSWER", f"'size' and the number of texts in 'random' ({len(kib.random)}) differ")
    return kib.random


def _text_length(block_bytes: int) -> int:
    return -(-block_bytes // 3) * 4


def _block(text: str, number: int, block_bytes: int) -> bytes:
    if len(text) != _text_length(block_bytes):
        raise fault("E-APPLIANCE-ANSWER", f"block {number} has {len(text)} characters; {block_bytes} bytes are {_text_length(block_bytes)}")
    try:
        block = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fault("E-APPLIANCE-ANSWER", f"block {number} is not base64") from None
    # Base64 that ends in stray bits, or is of another length, encodes again to another text.
    if len(block) != block_bytes or base64.b64encode(block).decode() != text:
        raise fault("E-APPLIANCE-ANSWER", f"block {number} is not the base64 of {block_bytes} bytes")
    return block
