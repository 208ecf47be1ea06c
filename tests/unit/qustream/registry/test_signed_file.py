"""The key line and the signature line: nothing is parsed that the pinned key did not sign."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.registry.signed_file import KEY_LINE_BYTES, SIGNATURE_LINE_BYTES, open_file, seal_file

KEY = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)
TEXT = "format = 1\nlabel = 'ünïcode'\n"
SEALED = seal_file(TEXT, KEY)


def code_of(data: bytes, pinned: bytes = KEY.id) -> str:
    with pytest.raises(QuStreamError) as caught:
        open_file(data, pinned)
    assert caught.value.detail
    return caught.value.code


def test_opens_what_it_sealed():
    text = open_file(SEALED, KEY.id)
    assert text.startswith(TEXT)
    assert text.count("\n") == TEXT.count("\n") + 1
    lines = SEALED.splitlines(keepends=True)
    assert [len(lines[-2]), len(lines[-1])] == [KEY_LINE_BYTES, SIGNATURE_LINE_BYTES]
    assert all(line.startswith(b"# ") for line in lines[-2:])


def test_the_key_is_pinned():
    assert code_of(SEALED, OTHER.id) == "E-REGISTRY-SIGNATURE"
    assert code_of(seal_file(TEXT, OTHER)) == "E-REGISTRY-SIGNATURE"


def test_the_signature_is_for_network_files_only():
    signed = SEALED[:-SIGNATURE_LINE_BYTES]
    foreign = b'# signature = "' + base64.b64encode(KEY.sign("receipt", signed)) + b'"\n'
    assert code_of(signed + foreign) == "E-REGISTRY-SIGNATURE"


def test_each_half_of_the_signature_counts():
    signed = SEALED[:-SIGNATURE_LINE_BYTES]
    ours, theirs = KEY.sign("network-file", signed), OTHER.sign("network-file", signed)
    for mixed in (ours[:64] + theirs[64:], theirs[:64] + ours[64:], bytes(len(ours))):
        assert code_of(signed + b'# signature = "' + base64.b64encode(mixed) + b'"\n') == "E-REGISTRY-SIGNATURE"


def test_signed_bytes_that_are_no_text():
    signed = b"\xff\n" + SEALED[-SIGNATURE_LINE_BYTES - KEY_LINE_BYTES : -SIGNATURE_LINE_BYTES]
    line = b'# signature = "' + base64.b64encode(KEY.sign("network-file", signed)) + b'"\n'
    assert code_of(signed + line) == "E-REGISTRY-FORMAT"


@given(st.integers(0, len(SEALED) - 1))
def test_every_torn_file_is_refused(length):
    assert code_of(SEALED[:length]) == "E-REGISTRY-SIGNATURE"


@settings(deadline=None)
@given(st.integers(0, len(SEALED) - 6), st.integers(1, 255))
def test_every_changed_byte_is_refused(place, change):
    """Up to the last base64 digit of the signature, whose four low bits mean nothing."""
    changed = bytearray(SEALED)
    changed[place] ^= change
    assert code_of(bytes(changed)) == "E-REGISTRY-SIGNATURE"


@given(st.binary(max_size=8000))
def test_garbage_is_refused(data):
    assert code_of(data) == "E-REGISTRY-SIGNATURE"
    assert code_of(data + SEALED[-SIGNATURE_LINE_BYTES:]) == "E-REGISTRY-SIGNATURE"
