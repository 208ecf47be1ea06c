"""Every decoder on garbage and on mutated valid bytes gives a value or a coded error, and nothing else.

Where a decoder answers with a value, that value must encode to the very bytes it was given.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect
from support.maker import Maker

from qustream import block
from qustream.entropy import check_attestation, check_leaf
from qustream.envelope import read_header
from qustream.errors import CODES, QuStreamError
from qustream.identity.device_evidence import check_evidence
from qustream.identity.enrolment import certify_device, check_enrolment, decode_enrolment, state_hpke_key
from qustream.identity.hpke import HpkeKey, hpke_seal
from qustream.identity.sealing import seal, unseal
from qustream.identity.signing import SigningKey, open_signed
from qustream.identity.words import UserSecrets, new_words
from qustream.leaflog.segment import read_segment, record
from qustream.model.base import Noun, Signed
from qustream.model.entropy import (
    MATERIAL_BYTES,
    Attestation,
    Conditioning,
    DeviceDescriptor,
    DeviceEvidence,
    HealthReport,
    LeafLogEntry,
    LeafLogHeader,
    LeafProof,
)
from qustream.model.ids import IdKind, from_text, licence_from_text, licence_text, to_text
from qustream.model.keys import DeviceCertificate
from qustream.model.network import QrngServerRecord
from qustream.registry.parse import parse
from qustream.registry.signed_file import open_file, seal_file
from qustream.transport.address import parse_address
from qustream.transport.calls import read_rpc
from qustream.transport.certificate import make_certificate, read_certificate
from qustream.transport.engine import PlainEngine
from qustream.transport.frames import FrameReader, frames_of
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.codec import Message, decode, encode
from qustream.wire.feed import FeedMessage
from qustream.wire.gossip import GossipMessage
from qustream.wire.hello import Role
from qustream.wire.keys import KeysAnswer, RequestBody
from qustream.wire.rpc import Refusal, RpcMessage, refusal_error
from qustream.wire.transactions import Action, AnyAction

MODULES = (
    "model.base",
    "model.keys",
    "model.network",
    "model.entropy",
    "wire.hello",
    "wire.rpc",
    "wire.keys",
    "wire.feed",
    "wire.gossip",
    "wire.peers",
    "wire.bulk",
    "wire.consensus",
    "wire.transactions",
    "model.state",
    "model.genesis",
    "model.receipt",
    "wire.bundle",
    "wire.mempool",
    "wire.sync",
    "wire.light",
    "rules.radix",
    "rules.radix_plan",
    "wire.snapshot",
    "identity.enrolment",
)
KEY, MAKER = SigningKey(bytes(range(32))), Maker()
MAX_BYTES = 1 << 20
FUZZ = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
LIGHT = settings(FUZZ, max_examples=12)


def kinds() -> list[type[Noun]]:
    found = []
    for name in MODULES:
        module = importlib.import_module(f"qustream.{name}")
        own = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
        found += [value for value in own if issubclass(value, Noun) and value not in (Noun, Message, Action)]
    return found


KINDS = kinds()


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Any value a field of this type may hold; long byte strings are runs, which costs little and finds the same."""
    match kind:
        case inspect.BytesType(min_length=low, max_length=high):
            sizes = st.integers(low or 0, min(high, (low or 0) + 300))
            return st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), sizes)
        case inspect.StrType(max_length=high):
            return st.text(max_size=min(high, 40))
        case inspect.IntType(ge=low, le=high):
            return st.one_of(st.integers(low, high), st.sampled_from([low, high]))
        case inspect.BoolType():
            return st.booleans()
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            return st.lists(values(item), min_size=low or 0, max_size=min(high, 4)).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(values, items))
        case inspect.UnionType(types=types):
            return st.one_of(*[st.none() if isinstance(each, inspect.NoneType) else values(each) for each in types])
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, *[values(field.type) for field in fields])
    raise TypeError(f"no values for {kind}")


def nouns(kind: type[Noun]) -> st.SearchStrategy[Noun]:
    return values(inspect.type_info(kind))


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """`valid` with one to three changes of the kinds that networks, disks and attackers make."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["flip", "set", "insert", "delete", "cut", "repeat"]))
        if change == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif change == "set" and place < len(data):
            data[place] = draw(st.sampled_from([0x00, 0x7F, 0x80, 0x90, 0x9F, 0xC0, 0xC1, 0xC4, 0xC6, 0xCB, 0xCF, 0xDD, 0xDF, 0xFF]))
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=12))
        elif change == "delete":
            del data[place : place + draw(st.integers(1, 40))]
        elif change == "cut":
            del data[place:]
        elif change == "repeat":
            data[place:place] = data[max(0, place - draw(st.integers(1, 40))) : place]
    return bytes(data)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.text(max_size=8), st.binary(max_size=40)
)
TREES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=2)), max_leaves=8
)


@st.composite
def rebuilt(draw: st.DrawFn, valid: bytes) -> bytes:
    """Well-formed MessagePack of nearly the right shape: one field dropped, doubled, or replaced by something else."""
    tree = msgpack.unpackb(valid)
    here = tree
    while draw(st.booleans()) and any(isinstance(item, list) and item for item in here):
        here = draw(st.sampled_from([item for item in here if isinstance(item, list) and item]))
    place = draw(st.integers(0, len(here) - 1)) if here else 0
    change = draw(st.sampled_from(["drop", "double", "replace", "append"]))
    if change == "drop" and here:
        del here[place]
    elif change == "double" and here:
        here.insert(place, here[place])
    elif change == "replace" and here:
        here[place] = draw(TREES)
    else:
        here.append(draw(TREES))
    return msgpack.packb(tree)


def code_or_value(call: Callable[[], Any]) -> tuple[str, Any]:
    """The code of a refusal, or 'value' and the value. Any other exception fails the test."""
    try:
        return "value", call()
    except QuStreamError as error:
        refusal = error
    assert refusal.code in CODES
    assert len(str(refusal)) < 2000
    return refusal.code, None


def check_wire(data: bytes, kind: Any) -> None:
    code, value = code_or_value(lambda: decode(data, kind, max_bytes=MAX_BYTES))
    assert code in ("value", "E-WIRE-MALFORMED", "E-WIRE-NONCANONICAL", "E-WIRE-OVERSIZE")
    if code == "value":
        assert encode(value) == data


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@LIGHT
@given(data=st.data())
def test_every_kind_comes_back_and_bends_to_nothing_else(kind, data):
    noun = data.draw(nouns(kind))
    encoded = encode(noun)
    assert decode(encoded, kind, max_bytes=len(encoded)) == noun
    array = msgpack.unpackb(encoded)
    assert msgpack.packb(array) == encoded
    check_wire(data.draw(mutated(encoded)), kind)
    check_wire(data.draw(rebuilt(encoded)), kind)


UNIONS = {
    "rpc": RpcMessage, "feed": FeedMessage, "requests": RequestBody, "answers": KeysAnswer, "gossip": GossipMessage,
    "actions": AnyAction,
}  # fmt: skip


@pytest.mark.parametrize("name", UNIONS)
@FUZZ
@given(data=st.data())
def test_unions_on_garbage_and_on_other_messages(name, data):
    check_wire(data.draw(st.binary(max_size=200)), UNIONS[name])
    check_wire(msgpack.packb(data.draw(TREES)), UNIONS[name])
    other = data.draw(st.sampled_from([kind for kind in KINDS if issubclass(kind, Message)]).flatmap(nouns))
    check_wire(encode(other), UNIONS[name])


@FUZZ
@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_garbage_is_no_message(garbage, kind):
    check_wire(garbage, kind)


@FUZZ
@given(st.text(max_size=100), st.sampled_from(list(IdKind)), st.data())
def test_texts_of_identifiers(garbage, kind, data):
    raw = data.draw(st.binary(min_size=20, max_size=20) if kind is IdKind.ACCOUNT else st.binary(min_size=32, max_size=32))
    good = to_text(kind, raw)
    bent = data.draw(mutated(good.encode())).decode("utf-8", "replace")
    for text in (garbage, bent):
        code, value = code_or_value(lambda text=text: from_text(text, kind))
        assert code == "E-ID-TEXT" or to_text(kind, value) == text
    licence = licence_text(raw[:16])
    bent = data.draw(mutated(licence.encode())).decode("utf-8", "replace")
    for text in (garbage, bent):
        assert code_or_value(lambda text=text: licence_from_text(text))[0] in ("value", "E-ID-TEXT")


@FUZZ
@given(st.one_of(st.text(max_size=300), st.from_regex(r"(unix:/|\[|[a-z.]{0,5}:)[0-9:\]]{0,9}")))
def test_addresses(text):
    code, address = code_or_value(lambda: parse_address(text))
    assert code in ("value", "E-PEER-UNREACHABLE")
    if code == "value":
        assert parse_address(str(address)) == address


@FUZZ
@given(nouns(Refusal))
def test_refusals_of_a_hostile_peer(refusal):
    error = refusal_error(refusal)
    assert error.code in CODES
    assert error.detail.isprintable()


DEVICE = DeviceDescriptor("k", "", "", 8, 8000, 0, False, False, "")
HEALTH, CONDITIONING = HealthReport(9, 9, 0, 6, 30, 512, (40, 60)), Conditioning("x", 32, 16, 1000)
ATTESTATION = Attestation("c", KEY.id, 0, DEVICE, HEALTH, CONDITIONING, 0, 1, 2, bytes(32), 3)
SIGNED = KEY.sign_noun("attestation", ATTESTATION)


@FUZZ
@given(st.data())
def test_signed_nouns(data):
    body = data.draw(st.one_of(st.just(SIGNED.body), mutated(SIGNED.body)))
    signature = data.draw(st.one_of(st.binary(max_size=64), mutated(SIGNED.signature)))
    code, value = code_or_value(lambda: open_signed(Signed(body, signature), Attestation, KEY.public, "attestation"))
    if (body, signature) == (SIGNED.body, SIGNED.signature):
        assert value == ATTESTATION
    else:
        assert code == "E-SIGNATURE"


@FUZZ
@given(nouns(Attestation), st.integers(0, (1 << 63) - 1), st.booleans())
def test_attestations_of_a_hostile_server(attestation, at_ms, known):
    server = QrngServerRecord(KEY.public, "", True, True) if known else None
    hers = msgspec.structs.replace(attestation, server=KEY.id, chain="c")
    for each in (attestation, hers):
        code, _ = code_or_value(lambda each=each: check_attestation(each, chain="c", server=server, at_ms=at_ms))
        assert code in ("value", "E-ATTESTATION", "E-ATTESTATION-STALE", "E-ATTESTATION-DEVICE")
        assert known or code != "value"


EVIDENCE = MAKER.device(7).descriptor()


@FUZZ
@given(st.data())
def test_evidence_of_a_hostile_device(data):
    """Whatever is changed about it, it holds no more; what was made up never did."""
    field = data.draw(st.sampled_from(["authority", "key", "certificate", "sample", "signature"]))
    changed = data.draw(mutated(getattr(EVIDENCE.evidence, field)))
    lying = msgspec.structs.replace(EVIDENCE, evidence=msgspec.structs.replace(EVIDENCE.evidence, **{field: changed}))
    made_up = msgspec.structs.replace(EVIDENCE, evidence=data.draw(nouns(DeviceEvidence)))
    assert code_or_value(lambda: check_evidence(EVIDENCE, [MAKER.public]))[0] == "value"
    for device in [made_up] if lying == EVIDENCE else [lying, made_up]:
        assert code_or_value(lambda device=device: check_evidence(device, []))[0] == "E-ATTESTATION-EVIDENCE"


LOGGED = [record(LeafLogEntry(SIGNED, bytes([number]) * 72)) for number in range(3)]
SEGMENT = record(LeafLogHeader("c", KEY.id, 0, bytes(32))) + b"".join(LOGGED)


@FUZZ
@given(mutated(SEGMENT))
def test_log_segments(data):
    """What is read of a changed segment is what stood there, from the first entry on."""
    code, contents = code_or_value(lambda: read_segment(data))
    assert code in ("value", "E-LEAF-LOG")
    if code == "value":
        assert [record(entry) for entry in contents.entries] == LOGGED[: len(contents.entries)]


@FUZZ
@given(nouns(LeafProof), nouns(Attestation), st.booleans())
def test_leaf_proofs_of_a_hostile_node(proof, attestation, whole):
    material = bytes(MATERIAL_BYTES if whole else 100)
    assert code_or_value(lambda: check_leaf(attestation, KEY.id, material, proof))[0] == "E-PROOF"


ENROLMENT = b"\x93" + b"".join(
    [encode(KEY.public), encode(state_hpke_key(KEY, bytes(1216))), encode(certify_device(KEY, KEY.public, stripe=0, label="d", now_ms=0))]
)


@FUZZ
@given(mutated(ENROLMENT))
def test_enrolments(data):
    code, value = code_or_value(lambda: check_enrolment(decode_enrolment(data)))
    if data == ENROLMENT:
        assert isinstance(value, DeviceCertificate)
    else:
        assert code in ("E-SIGNATURE", "E-WIRE-MALFORMED", "E-WIRE-NONCANONICAL", "E-WIRE-OVERSIZE")


SEALED = seal(bytes(32), b"secret", b"place")
HPKE = HpkeKey(bytes(32))
HPKE_SEALED = hpke_seal(HPKE.public, b"secret", b"info")


@FUZZ
@given(st.one_of(st.binary(max_size=100), mutated(SEALED)), st.one_of(st.binary(max_size=1300), mutated(HPKE_SEALED)))
def test_sealed_values(sealed, hpke_sealed):
    code, value = code_or_value(lambda: unseal(bytes(32), sealed, b"place"))
    assert (code, value) == ("value", b"secret") if sealed == SEALED else code == "E-DATA-CORRUPT"
    code, value = code_or_value(lambda: HPKE.open(hpke_sealed, b"info"))
    assert value == b"secret" if hpke_sealed == HPKE_SEALED else code != "value"


WORDS = new_words()


@LIGHT
@given(st.one_of(st.text(max_size=200), mutated(WORDS.encode()).map(lambda data: data.decode("utf-8", "replace"))))
def test_passphrases(words):
    assert code_or_value(lambda: UserSecrets.from_words(words))[0] in ("value", "E-PASSPHRASE-WORDS")


CERTIFICATE = make_certificate(KEY).public_bytes(Encoding.DER)


@FUZZ
@given(st.one_of(st.binary(max_size=200), mutated(CERTIFICATE)))
def test_certificates(der):
    code, value = code_or_value(lambda: read_certificate(der))
    assert value == KEY.public if der == CERTIFICATE else code == "E-TLS-CERTIFICATE"


FRAMES = frames_of(Channel.CONTROL, b"hello") + frames_of(Channel.REQUEST, bytes(70_000)) + frames_of(Channel.BULK, b"x")


def nothing_barred(channel: Channel) -> None:
    """Every channel is open: the reader itself is under test."""


@FUZZ
@given(st.one_of(st.binary(max_size=200), mutated(FRAMES)), st.integers(1, 5000))
def test_frames_in_any_pieces(data, piece):
    def read(step: int) -> list[tuple[Channel, bytes]]:
        reader, messages = FrameReader(nothing_barred), []
        for at in range(0, len(data), step):
            messages += reader.feed(data[at : at + step])
        return messages

    whole, cut = code_or_value(lambda: read(len(data) or 1)), code_or_value(lambda: read(piece))
    assert whole == cut
    assert whole[0] in ("value", "E-WIRE-MALFORMED", "E-WIRE-OVERSIZE")


@FUZZ
@given(st.one_of(st.binary(max_size=200), mutated(FRAMES)))
def test_a_connection_fed_garbage_closes_with_a_code(data):
    engine = PlainEngine("server", hello=LocalHello("chain", (Role.NODE,)))
    engine.start()
    for event in engine.receive(data):
        error = getattr(event, "error", None)
        assert error is None or error.code in CODES
    engine.receive_eof()
    assert engine.is_closed


@FUZZ
@given(st.one_of(st.binary(max_size=200), mutated(encode(Refusal(1, "E-PROOF", "why", 0)))))
def test_rpc_bodies(data):
    assert code_or_value(lambda: read_rpc(data))[0] in ("value", "E-WIRE-MALFORMED", "E-WIRE-NONCANONICAL", "E-WIRE-OVERSIZE")


NETWORK_TEXT = "format = 1\nchain = 'c'\nversion = 1\ngenesis_ms = 0\nepoch_length_ms = 1000\nseed = '" + "00" * 32 + "'\n"
NETWORK_FILE = seal_file(NETWORK_TEXT, KEY)


@FUZZ
@given(st.one_of(st.binary(max_size=200), mutated(NETWORK_FILE)))
def test_network_files(data):
    code, _ = code_or_value(lambda: open_file(data, KEY.id))
    # The last base64 digit of the signature has four bits that mean nothing.
    assert code == "E-REGISTRY-SIGNATURE" or data[:-8] == NETWORK_FILE[:-8]


@FUZZ
@given(st.one_of(st.text(max_size=200), mutated(NETWORK_TEXT.encode()).map(lambda data: data.decode("utf-8", "replace"))))
def test_texts_of_network_files(text):
    assert code_or_value(lambda: parse(text))[0] in ("value", "E-REGISTRY-FORMAT")


BLOCK_SEED = bytes(range(126))
BLOCK = block.build(hashlib.shake_256(b"material").digest(262_270), hashlib.shake_256(b"scatter").digest(128), BLOCK_SEED)


@LIGHT
@given(st.one_of(st.binary(max_size=200), mutated(BLOCK)), st.booleans())
def test_blocks(data, right_seed):
    code, value = code_or_value(lambda: block.open(data, BLOCK_SEED if right_seed else bytes(126)))
    assert code in ("value", "E-BLOCK-SIZE", "E-BLOCK-OPEN", "E-BLOCK-AMBIGUOUS")
    if code == "value":
        assert len(value) == MATERIAL_BYTES


@FUZZ
@given(st.one_of(st.binary(max_size=300), st.builds(lambda rest: b"QUSTREAM" + rest, st.binary(max_size=300))))
def test_envelope_headers(data):
    assert code_or_value(lambda: read_header(io.BytesIO(data)))[0] in ("E-ENVELOPE-FORMAT", "E-ENVELOPE-TRUNCATED")
