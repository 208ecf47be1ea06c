"""Every type that is decoded has a maximum, and no message is longer than the place it travels in."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from msgspec import inspect

from qustream.wire.feed import FEED_MAX_BYTES, FeedMessage
from qustream.wire.hello import HELLO_MAX_BYTES, Goodbye, Hello, Ping, Pong
from qustream.wire.keys import REQUEST_MAX_BYTES, DeviceRequest, KeysAnswer, RequestBody
from qustream.wire.rpc import BODY_MAX_BYTES

ROOT = Path(__file__).parents[4]
spec = importlib.util.spec_from_file_location("spec_tables", ROOT / "scripts/spec_tables.py")
spec_tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spec_tables)

KINDS = [
    *spec_tables.kinds(spec_tables.MESSAGE_MODULES, tagged=True),
    *spec_tables.kinds(spec_tables.NOUN_MODULES, tagged=False),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_bounded_and_of_a_type_the_encoding_knows(kind):
    """`most_bytes` and `shape` know neither floats, maps, dates nor anything without a maximum, and refuse them."""
    described = spec_tables.struct_of(kind)
    assert described.array_like
    assert described.forbid_unknown_fields
    assert all(field.required for field in described.fields)
    assert spec_tables.most_bytes(described) > 0
    assert all(spec_tables.shape(field.type) for field in described.fields)


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
