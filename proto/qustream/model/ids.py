"""Identifiers as people read and type them (`proto/spec/identity.md`, "Identifiers").

Ids are bech32m (BIP-350) over the raw bytes, always lower case. A licence id, which an operator types in at installation, is
grouped base32 with a checksum and forgives case, spaces and the letters one confuses with digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum

from qustream.errors import fault

__all__ = [
    "ACCOUNT_BYTES",
    "LICENCE_BYTES",
    "IdKind",
    "account_id",
    "bech32m_decode",
    "bech32m_encode",
    "from_text",
    "licence_from_text",
    "licence_text",
    "to_text",
]

ID_BYTES = 32  # BLAKE2b-256
ACCOUNT_BYTES = 20  # 160 bits are enough where nobody gains from two keys with one account, and shorter to copy
LICENCE_BYTES = 16  # random, 2^64 licences before two are likely to be equal
BECH32_MAX_CHARACTERS = 90  # BIP-173: up to here the checksum finds any four wrong characters
BECH32_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32M_CONSTANT = 0x2BC830A3
CHECKSUM_CHARACTERS = 6
GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
# Base32 without the letters I, L, O and U, which are read as digits or as words.
LICENCE_CHARACTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LICENCE_CONFUSED = str.maketrans("ILO", "110")
LICENCE_LETTERS = 30  # 128 bits of id and 22 of checksum, in six groups of five
LICENCE_TEXT_MAX = 64  # thirty letters, and room for the separators people put in
LICENCE_CHECK_BITS = 22


class IdKind(StrEnum):
    """What an id names: the human-readable part of its text."""

    NODE = "qn"
    USER = "qu"
    QRNG = "qr"
    DEVICE = "qd"
    GRANT = "qg"
    ACCOUNT = "qst"
    NETWORK = "qnet"
    CHECKPOINT = "qcp"


NAMES = {
    IdKind.NODE: "node",
    IdKind.USER: "user",
    IdKind.QRNG: "QRNG server",
    IdKind.DEVICE: "user device",
    IdKind.GRANT: "grant",
    IdKind.ACCOUNT: "account",
    IdKind.NETWORK: "network key",
    IdKind.CHECKPOINT: "checkpoint",
}


def _raw_bytes(kind: IdKind) -> int:
    return ACCOUNT_BYTES if kind is IdKind.ACCOUNT else ID_BYTES


def account_id(key_id: bytes) -> bytes:
    """The 20-byte account of the key with this 32-byte id: its first 20 bytes."""
    return key_id[:ACCOUNT_BYTES]


def to_text(kind: IdKind, raw: bytes) -> str:
    """The text of an id of 32 raw bytes (an account: 20), for example `qn1…`."""
    if len(raw) != _raw_bytes(kind):
        raise ValueError(f"the id of a {NAMES[kind]} is {_raw_bytes(kind)} bytes, not {len(raw)}")
    return bech32m_encode(kind.value, _regroup(raw, 8, 5))


def from_text(text: str, kind: IdKind) -> bytes:
    """The raw bytes of an id of `kind`. `text` may be hostile. Errors: `E-ID-TEXT`, which says what is wrong."""
    wanted = f"the id of a {NAMES[kind]} ({kind.value}1…)"
    if text != text.lower():
        raise fault("E-ID-TEXT", f"{wanted} is written in lower case")
    prefix, values = bech32m_decode(text)
    if prefix != kind.value:
        raise fault("E-ID-TEXT", f"this begins with {prefix}1, but {wanted} is wanted")
    bits = len(values) * 5
    raw = bytes(_regroup(values, 5, 8))
    if len(raw) != _raw_bytes(kind) or bits - len(raw) * 8 > 4 or _regroup(raw, 8, 5) != values:
        raise fault("E-ID-TEXT", f"{wanted} has {_raw_bytes(kind)} bytes; this has another length")
    return raw


def _regroup(values: Iterable[int], from_bits: int, to_bits: int) -> list[int]:
    """Cut the same bits into other pieces. To 5 bits the last piece is filled with zeros; to 8 an incomplete one is dropped."""
    held, bits, out = 0, 0, []
    for value in values:
        held = held << from_bits | value
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            out.append(held >> bits & (1 << to_bits) - 1)
        held &= (1 << bits) - 1
    if bits and to_bits < from_bits:
        out.append(held << to_bits - bits)
    return out


def _folded(top: int) -> int:
    """What the five bits that leave the register fold back into it."""
    folded = 0
    for i, generator in enumerate(GENERATORS):
        if top >> i & 1:
            folded ^= generator
    return folded


# Pages of the chain write thousands of ids: one look-up a character in place of five tests.
_FOLDED = tuple(_folded(top) for top in range(32))


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        check = (check & 0x1FFFFFF) << 5 ^ value ^ _FOLDED[check >> 25]
    return check


def _expanded(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def bech32m_encode(prefix: str, values: list[int]) -> str:
    """The lower-case bech32m text of 5-bit `values` (BIP-350). `prefix`: lower-case ASCII, ours or a test vector's."""
    check = _polymod([*_expanded(prefix), *values, *[0] * CHECKSUM_CHARACTERS]) ^ BECH32M_CONSTANT
    tail = [check >> 5 * (CHECKSUM_CHARACTERS - 1 - i) & 31 for i in range(CHECKSUM_CHARACTERS)]
    return prefix + "1" + "".join(BECH32_CHARACTERS[v] for v in values + tail)


def bech32m_decode(text: str) -> tuple[str, list[int]]:
    """The lower-case prefix and the 5-bit values of any bech32m text, hostile or not. Errors: `E-ID-TEXT`."""
    if len(text) > BECH32_MAX_CHARACTERS:
        raise fault("E-ID-TEXT", f"longer than {BECH32_MAX_CHARACTERS} characters")
    if any(not "!" <= c <= "~" for c in text):
        raise fault("E-ID-TEXT", "a space or another character that stands in no identifier")
    if text.lower() != text and text.upper() != text:
        raise fault("E-ID-TEXT", "upper and lower case mixed")
    prefix, separator, rest = text.lower().rpartition("1")
    if not separator or not prefix or len(rest) < CHECKSUM_CHARACTERS:
        raise fault("E-ID-TEXT", "no prefix, or no checksum; is this the whole identifier?")
    values = [BECH32_CHARACTERS.find(c) for c in rest]
    if -1 in values:
        raise fault("E-ID-TEXT", f"character {len(prefix) + 2 + values.index(-1)} stands in no identifier")
    if _polymod(_expanded(prefix) + values) != BECH32M_CONSTANT:
        raise fault("E-ID-TEXT", "the checksum does not match: a character is wrong or missing")
    return prefix, values[:-CHECKSUM_CHARACTERS]


def _licence_check(raw: bytes) -> int:
    digest = hashlib.blake2b(b"qustream/1/licence" + raw, digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 32 - LICENCE_CHECK_BITS


def licence_text(raw: bytes) -> str:
    """The text of a 16-byte licence id: thirty base32 letters in groups of five, the last 22 bits a checksum."""
    if len(raw) != LICENCE_BYTES:
        raise ValueError(f"a licence id is {LICENCE_BYTES} bytes, not {len(raw)}")
    number = int.from_bytes(raw, "big") << LICENCE_CHECK_BITS | _licence_check(raw)
    letters = "".join(LICENCE_CHARACTERS[number >> 5 * i & 31] for i in reversed(range(LICENCE_LETTERS)))
    return "-".join(letters[at : at + 5] for at in range(0, LICENCE_LETTERS, 5))


def licence_from_text(text: str) -> bytes:
    """The 16 bytes of a licence id as somebody typed it: any case, groups and spaces as he likes; I and L count as 1, O as 0.

    Errors: `E-ID-TEXT`."""
    if len(text) > LICENCE_TEXT_MAX or not text.isascii():
        raise fault("E-ID-TEXT", f"a licence id is {LICENCE_LETTERS} letters and digits")
    letters = text.upper().replace("-", "").replace(" ", "").translate(LICENCE_CONFUSED)
    if len(letters) != LICENCE_LETTERS:
        raise fault("E-ID-TEXT", f"a licence id is {LICENCE_LETTERS} letters and digits; these are {len(letters)}")
    number = 0
    for place, letter in enumerate(letters, 1):
        value = LICENCE_CHARACTERS.find(letter)
        if value < 0:
            raise fault("E-ID-TEXT", f"character {place} stands in no licence id")
        number = number << 5 | value
    raw = (number >> LICENCE_CHECK_BITS).to_bytes(LICENCE_BYTES, "big")
    if number & (1 << LICENCE_CHECK_BITS) - 1 != _licence_check(raw):
        raise fault("E-ID-TEXT", "the checksum of the licence id does not match: a letter is wrong or two are swapped")
    return raw
