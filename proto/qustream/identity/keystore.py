"""Secrets at rest under a passphrase (`proto/spec/identity.md`, "Keystores").

Argon2id makes a key of the passphrase, XChaCha20-Poly1305 seals the secret with it; the header, which says how, is
authenticated too.
"""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path
from typing import Annotated

import nacl.exceptions
import nacl.pwhash.argon2id
from msgspec import Meta
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as _decrypt
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as _encrypt

from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.model.base import Bytes16, Label, Noun
from qustream.wire.codec import decode, encode

__all__ = ["MEMORY_KIB", "OPERATIONS", "find_passphrase", "read", "replace", "write"]

VERSION = 1
MAGIC = "qustream-keystore"
# libsodium's INTERACTIVE: 64 MiB and two passes, ~0.1 s, so that a host with dozens of nodes starts in seconds. A daemon's
# passphrase is a random credential, where stretching adds nothing; a person who wants more says so when the keystore is written.
MEMORY_KIB = 64 * 1024
OPERATIONS = 2
# What a file may ask of us when it is read: a foreign file must not eat the machine.
MEMORY_MAX_KIB = 1024 * 1024
OPERATIONS_MAX = 16
KEY_BYTES = 32
SECRET_MAX_BYTES = 8192  # a handful of seeds; the largest is a user's home with its rotated rUID keys, ~1 KiB
FILE_MAX_BYTES = SECRET_MAX_BYTES + 1024
PASSPHRASE_MAX_BYTES = 4096


class _Header(Noun, frozen=True):
    magic: Label
    version: Annotated[int, Meta(ge=1, le=0xFFFF)]
    kind: Label
    memory_kib: Annotated[int, Meta(ge=8, le=MEMORY_MAX_KIB)]
    operations: Annotated[int, Meta(ge=1, le=OPERATIONS_MAX)]
    salt: Bytes16
    nonce: Annotated[bytes, Meta(min_length=24, max_length=24)]


class _File(Noun, frozen=True):
    header: Annotated[bytes, Meta(max_length=512)]
    sealed: Annotated[bytes, Meta(max_length=FILE_MAX_BYTES)]


def _key(passphrase: bytes, header: _Header) -> bytes:
    memory_bytes = header.memory_kib * 1024
    return nacl.pwhash.argon2id.kdf(KEY_BYTES, passphrase, header.salt, opslimit=header.operations, memlimit=memory_bytes)


def _sealed(kind: str, secret: bytes, passphrase: bytes, memory_kib: int, operations: int) -> bytes:
    if not passphrase or len(secret) > SECRET_MAX_BYTES:
        raise ValueError("an empty passphrase, or a secret too large for a keystore")
    header = _Header(MAGIC, VERSION, kind, memory_kib, operations, os.urandom(16), os.urandom(24))
    head = encode(header)
    return encode(_File(head, _encrypt(secret, head, header.nonce, _key(passphrase, header))))


def write(
    path: Path,
    kind: str,
    secret: bytes,
    passphrase: bytes,
    *,
    memory_kib: int | None = None,
    operations: int | None = None,
) -> None:
    """Seal `secret` (at most 8,192 bytes) into a new file of mode 0600 at `path`. `kind`: what it is, for example `node`;
    `memory_kib` and `operations`: of Argon2id, `MEMORY_KIB` and `OPERATIONS` unless they are given.

    Errors: `E-KEYSTORE-EXISTS` (nothing is ever overwritten), `E-FILE`, `E-DISK-FULL`.
    """
    if os.path.lexists(path):
        raise fault("E-KEYSTORE-EXISTS", f"{path} exists")
    memory_kib = MEMORY_KIB if memory_kib is None else memory_kib
    operations = OPERATIONS if operations is None else operations
    try:
        files.create(path, _sealed(kind, secret, passphrase, memory_kib, operations))
    except FileExistsError:
        raise fault("E-KEYSTORE-EXISTS", f"{path} exists") from None


def replace(path: Path, kind: str, secret: bytes, passphrase: bytes) -> None:
    """Seal `secret` in place of a keystore that `passphrase` opens; a crash leaves the old file or the new.

    Errors: those of `read`; `E-DISK-FULL`.
    """
    read(path, kind, passphrase)
    files.replace(path, _sealed(kind, secret, passphrase, MEMORY_KIB, OPERATIONS))


def read(path: Path, kind: str, passphrase: bytes) -> bytes:
    """The secret of the keystore at `path`.

    Errors: `E-FILE`; `E-KEYSTORE-MODE` if others may read the file; `E-KEYSTORE-OPEN` for a wrong passphrase, another kind, or
    any changed bit.
    """
    data = files.read(path, FILE_MAX_BYTES, private=True)
    try:
        file = decode(data, _File, max_bytes=FILE_MAX_BYTES)
        header = decode(file.header, _Header, max_bytes=FILE_MAX_BYTES)
    except QuStreamError:
        raise fault("E-KEYSTORE-OPEN", f"{path} is not a keystore, or was damaged") from None
    if header.magic != MAGIC or header.version != VERSION:
        raise fault("E-KEYSTORE-OPEN", f"{path} is not a keystore of version {VERSION}")
    if header.kind != kind:
        raise fault("E-KEYSTORE-OPEN", f"{path} is a keystore of another kind; a {kind} keystore is needed")
    try:
        return _decrypt(file.sealed, file.header, header.nonce, _key(passphrase, header))
    except (nacl.exceptions.CryptoError, ValueError):
        raise fault("E-KEYSTORE-OPEN", f"the passphrase does not open {path}, or the file was damaged") from None


def find_passphrase(name: str, *, file: Path | None, prompt: bool) -> bytes:
    """The passphrase for the keystore `name`, from the first place that has one.

    1. the systemd credential `name` (`$CREDENTIALS_DIRECTORY/<name>`); 2. `file`, mode 0600; 3. the terminal, if `prompt`. One
    newline at the end of a file is not part of it. Errors: `E-SECRET-MISSING`, `E-KEYSTORE-MODE`, `E-FILE`.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise ValueError("not the name of a credential")
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / name).exists():
        # systemd guards these itself, by an access list whose mask shows as group bits.
        return _passphrase_in(Path(credentials) / name, private=False)
    if file is not None:
        return _passphrase_in(file, private=True)
    if prompt and os.isatty(0):
        typed = getpass.getpass(f"Passphrase for {name}: ").encode()
        if 0 < len(typed) <= PASSPHRASE_MAX_BYTES:
            return typed
    raise fault("E-SECRET-MISSING", f"no credential {name}, no passphrase file, and nobody to ask")


def _passphrase_in(path: Path, *, private: bool) -> bytes:
    passphrase = files.read(path, PASSPHRASE_MAX_BYTES, private=private).removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise fault("E-SECRET-MISSING", f"{path} is empty")
    return passphrase
