"""Every decoder of what others send or leave on a disk gives a value, or a refusal by code. A value of the wire encodes to the very bytes
it was given.

    input: which decoder (2 bytes) ‖ what it is given
"""

from __future__ import annotations

import importlib
import io
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

from support.fuzzing.choices import Choices
from support.fuzzing.vectors import vectors

import qustream.model
import qustream.wire
from qustream.envelope import read_header
from qustream.errors import CODES, QuStreamError
from qustream.identity.enrolment import check_enrolment, decode_enrolment
from qustream.leaflog.segment import read_segment
from qustream.model.base import Noun
from qustream.model.ids import IdKind, from_text, licence_from_text
from qustream.registry.parse import parse
from qustream.registry.signed_file import open_file
from qustream.rules.peering import is_address, prefix
from qustream.transport.address import parse_address
from qustream.transport.calls import read_rpc
from qustream.transport.certificate import read_certificate
from qustream.wire.codec import Message, decode, encode

__all__ = ["run", "seeds"]

MAX_BYTES = 1 << 20
WIRE_CODES = ("E-WIRE-MALFORMED", "E-WIRE-NONCANONICAL", "E-WIRE-OVERSIZE")


def _kinds() -> dict[str, type[Noun]]:
    """Every noun and message of the protocol, by name."""
    found: dict[str, type[Noun]] = {}
    names = ["qustream.identity.enrolment"]
    for package in (qustream.model, qustream.wire):
        names += [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for name in names:
        module = importlib.import_module(name)
        own = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == name]
        found |= {kind.__name__: kind for kind in own if issubclass(kind, Noun) and kind not in (Noun, Message)}
    return found


def _wire(kind: type[Noun], data: bytes) -> None:
    try:
        value = decode(data, kind, max_bytes=MAX_BYTES)
    except QuStreamError as error:
        refusal = error
    else:
        assert encode(value) == data
        return
    assert refusal.code in WIRE_CODES


def _text(call: Callable[[str], Any], data: bytes) -> None:
    call(data.decode("utf-8", "replace"))


KINDS = _kinds()
DECODERS: dict[str, Callable[[bytes], Any]] = {name: partial(_wire, kind) for name, kind in sorted(KINDS.items())}
DECODERS |= {
    "a certificate": read_certificate,
    "a leaf log's segment": read_segment,
    "a network file": lambda data: open_file(data, bytes(32)),
    "an answer": read_rpc,
    "an enrolment": lambda data: check_enrolment(decode_enrolment(data)),
    "an envelope": lambda data: read_header(io.BytesIO(data)),
    "a network file's text": partial(_text, parse),
    "an address": partial(_text, parse_address),
    "a licence": partial(_text, licence_from_text),
    "whether it is an address": partial(_text, is_address),
    "a prefix": partial(_text, lambda text: is_address(text) and prefix(text)),
} | {f"an id of a {kind.name.lower()}": partial(_text, partial(from_text, kind=kind)) for kind in IdKind}
NAMES = list(DECODERS)


def run(data: bytes) -> None:
    choices = Choices(data)
    call = DECODERS[NAMES[choices.number(2) % len(NAMES)]]
    try:
        call(choices.rest())
    except QuStreamError as error:
        refusal = error
    else:
        return
    assert refusal.code in CODES
    assert len(str(refusal)) < 2000


def _seed(name: str, data: bytes) -> bytes:
    return NAMES.index(name).to_bytes(2, "big") + data


def seeds() -> list[bytes]:
    encoding, frames, ids = vectors("encoding"), vectors("frames"), vectors("ids")
    cases = [(case["kind"], case.get("encoded") or case.get("hex", "")) for case in (*encoding["kinds"], *encoding["refusals"])]
    found = [_seed(name, bytes.fromhex(data)) for name, data in cases if name in KINDS]
    found += [_seed("an answer", bytes.fromhex(case["message"])) for case in frames["rpc"]]
    found.append(_seed("a certificate", bytes.fromhex(frames["certificate"])))
    found += [_seed(name, b"[2001:db8::1]:7400") for name in ("an address", "whether it is an address", "a prefix")]
    network = "format = 1\nchain = 'c'\nversion = 1\ngenesis_ms = 0\nepoch_length_ms = 1000\nseed = '" + "00" * 32 + "'\n"
    found += [_seed("a network file's text", network.encode()), _seed("an envelope", b"QUSTREAM" + bytes(60))]
    texts = [text for text in _texts_in(ids) if text[:2].isalpha()]
    found += [_seed(name, text.encode()) for text in texts[:20] for name in NAMES if name.startswith("an id") or name == "a licence"]
    return found


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts_in(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts_in(each)]
    return [value] if isinstance(value, str) and " " not in value else []
