"""Every type that is decoded has a maximum, and no message is longer than the place it travels in."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from qustream.errors import QuStreamError
from qustream.wire.codec import decode
from qustream.wire.feed import FEED_MAX_BYTES, FeedMessage
from qustream.wire.hello import HELLO_MAX_BYTES, Goodbye, Hello, Ping, Pong
from qustream.wire.keys import REQUEST_MAX_BYTES, DeviceRequest, KeysAnswer, RequestBody
from qustream.wire.rpc import BODY_MAX_BYTES

ROOT = Path(__file__).parents[4]
spec = importlib.util.spec_from_file_location("spec_tables", ROOT / "scripts/spec_tables.py")
spec_tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spec_tables)

VECTORS = json.loads((ROOT / "proto/vectors/encoding.json").read_text())
KINDS = [
    *spec_tables.kinds(spec_tables.MESSAGE_MODULES, tagged=True),
    *spec_tables.kinds(spec_tables.NOUN_MODULES, tagged=False),
]


def plain(value: Any) -> Any:
    """The value that a vector's description stands for."""
    if isinstance(value, dict):
        return bytes([value["fill"]]) * value["bytes"]
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_bounded_and_of_a_type_the_encoding_knows(kind):
    """`most_bytes` and `shape` know neither floats, maps, dates nor anything without a maximum, and refuse them."""
    described = spec_tables.struct_of(kind)
    assert described.array_like
    assert described.forbid_unknown_fields
    assert spec_tables.most_bytes(described) > 0
    assert all(spec_tables.shape(field.type) for field in described.fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_field_may_be_left_out(kind):
    """Constructors may fill in a last field that is nil or empty; encoded it is always there, so bytes without it are refused."""
    optional = [field for field in spec_tables.struct_of(kind).fields if not field.required]
    assert [field.default for field in optional] in ([], [None], [()])
    if not optional:
        return
    vector = next(v for v in VECTORS["kinds"] if v["kind"] == kind.__name__)
    fields = [plain(value) for value in vector["fields"]][: -len(optional)]
    with pytest.raises(QuStreamError) as caught:
        decode(msgspec.msgpack.encode(fields), kind, max_bytes=1 << 20)
    assert caught.value.code == "E-WIRE-NONCANONICAL"


@pytest.mark.parametrize(
    ("union", "place_bytes"),
    [
        (Hello | Ping | Pong | Goodbye, HELLO_MAX_BYTES),
        (RequestBody, REQUEST_MAX_BYTES),
        (DeviceRequest, BODY_MAX_BYTES),
        (KeysAnswer, BODY_MAX_BYTES),
        (FeedMessage, FEED_MAX_BYTES),
    ],
)
def test_no_message_is_longer_than_its_place(union, place_bytes):
    assert spec_tables.most_bytes(inspect.type_info(union)) <= place_bytes


def test_the_tables_of_the_specification_are_up_to_date():
    for name, tables in spec_tables.TABLES.items():
        text = (spec_tables.SPEC / name).read_text()
        assert spec_tables.rewritten(text, tables) == text, f"{name}: run scripts/spec_tables.py"


def test_a_type_without_a_bound_is_refused():
    for unbounded in (bytes, str, int, float, dict[str, int], tuple[int, ...]):
        with pytest.raises(TypeError):
            spec_tables.most_bytes(inspect.type_info(unbounded))
