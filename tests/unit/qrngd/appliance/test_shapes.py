"""Answers: only the one canonical form of exactly what was asked for is entropy, and no refusal quotes an answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from qrngd.appliance.shapes import answer_max_bytes, read_answer, request_for
from qustream.errors import OperatorFault

BLOCKS = [bytes(range(number, number + 20)) for number in range(3)]
TEXTS = [base64.b64encode(block).decode() for block in BLOCKS]
SHAPE = {"block_bytes": 20, "blocks": 3}


def read(document: Any, api: Any = "blocks") -> list[bytes]:
    return read_answer(api, document if isinstance(document, bytes) else json.dumps(document).encode(), **SHAPE)


def test_requests_are_the_documented_ones() -> None:
    post = request_for("blocks", "/api/v1/get_entropy", block_bytes=64, blocks=8)
    assert (post.method, post.target, json.loads(post.body)) == ("POST", "/api/v1/get_entropy", {"block_size": 64, "block_count": 8})
    assert request_for("kib", "/api/v1/quantum-entropy", block_bytes=1024, blocks=8).target == "/api/v1/quantum-entropy?size=8"
    assert request_for("kib", "/q?a=b", block_bytes=1024, blocks=8).target == "/q?a=b&size=8"


def test_both_interfaces_give_their_blocks() -> None:
    assert read({"entropy": TEXTS}) == BLOCKS
    assert read({"extensions": [{"type": 1}], "entropy": TEXTS, "id": "x"}) == BLOCKS
    assert read({"random": TEXTS, "size": 3}, "kib") == BLOCKS
    slashes = [b"\xff" * 3 + bytes(range(17)), *BLOCKS[1:]]
    texts = [base64.b64encode(block).decode() for block in slashes]
    assert read(json.dumps({"entropy": texts}).replace("/", "\\/").encode()) == slashes, "a slash may be escaped in JSON"


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (b"", "no JSON object"),
        (b"\xff\xfe", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b'{"entropy": ["secret', "no JSON object"),
        (json.dumps({"entropy": TEXTS, "note": "x"}).encode().replace(b"x", b"\x80"), "no JSON object"),
        (json.dumps({"entropy": TEXTS}).encode() + b"x", "no JSON object"),
        ("an error", "no JSON object"),
        ({"error": "quota"}, "no JSON object"),
        ({"entropy": "".join(TEXTS)}, "no JSON object"),
        ({"entropy": [1, 2, 3]}, "no JSON object"),
        ({"entropy": [*TEXTS[:2], None]}, "no JSON object"),
        ({"entropy": []}, "0 blocks"),
        ({"entropy": TEXTS[:2]}, "2 blocks"),
        ({"entropy": [*TEXTS, TEXTS[0]]}, "4 blocks"),
        ({"entropy": [*TEXTS[:2], ""]}, "block 2 has 0 characters"),
        ({"entropy": [TEXTS[0] + "AAAA", *TEXTS[1:]]}, "block 0 has 32 characters"),
        ({"entropy": [TEXTS[0], "-" + TEXTS[1][1:], TEXTS[2]]}, "block 1 is not base64"),
        ({"entropy": [TEXTS[0], "\n" + TEXTS[1][1:], TEXTS[2]]}, "block 1 is not base64"),
        ({"entropy": [TEXTS[0], "é" + TEXTS[1][1:], TEXTS[2]]}, "block 1 is not base64"),
        ({"entropy": [TEXTS[0], TEXTS[1][:-4] + "A===", TEXTS[2]]}, "block 1 is not"),
        ({"entropy": [TEXTS[0], TEXTS[1][:-2] + "9=", TEXTS[2]]}, "block 1 is not the base64 of 20 bytes"),  # stray bits at its end
        ({"entropy": [TEXTS[0], TEXTS[1][:-2] + "==", TEXTS[2]]}, "block 1 is not the base64 of 20 bytes"),
        ({"entropy": [*TEXTS[:2], base64.b64encode(b"\x07" * 20).decode()]}, "block 2 is one byte over and over"),
    ],
)
def test_everything_else_is_refused_and_not_quoted(document: Any, word: str) -> None:
    with pytest.raises(OperatorFault) as caught:
        read(document)
    assert caught.value.code == "E-APPLIANCE-ANSWER"
    assert word in caught.value.detail
    for text in (*TEXTS, "secret", "quota"):
        assert text not in caught.value.detail


@pytest.mark.parametrize("document", [{"random": TEXTS}, {"random": TEXTS, "size": 4}, {"random": TEXTS, "size": "3"}, {"entropy": TEXTS}])
def test_the_interface_kib_counts_its_texts(document: Any) -> None:
    with pytest.raises(OperatorFault) as caught:
        read(document, "kib")
    assert caught.value.code == "E-APPLIANCE-ANSWER"


@pytest.mark.parametrize(("block_bytes", "blocks"), [(16, 1), (1024, 64), (1, 512), (65_536, 16)])
def test_a_prettily_printed_answer_is_within_the_bound(block_bytes: int, blocks: int) -> None:
    document = {"entropy": [base64.b64encode(bytes(block_bytes)).decode()] * blocks, "extensions": []}
    assert len(json.dumps(document, indent=8)) <= answer_max_bytes(block_bytes=block_bytes, blocks=blocks)
