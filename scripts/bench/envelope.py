"""Bench `envelope`: encrypting and opening a file against libsodium's secretstream alone, file to file, same chunks, same file.

Our side does all an envelope takes but asking the nodes: keys out of six blocks, sealing to a recipient, the sender's signatures, the
hash the trailer signs; and opening verifies all of them. In "encrypt" and "open" both sides write over files that are there, so that the
file system's taking and freeing of space is not measured with them; in "open to a path" both make a new file, sync it and rename it, ours
when the trailer has verified. The hash runs in a second thread: where no second processor is free it costs its time.

    scripts/bench/envelope.py [--quick] [--directory D]     1 GiB, or 256 MiB; files go to D (default: the system's temporary directory)

With `--home DIRECTORY`, a user of a running network (`scripts/testnet.py up`, `enrol`, `grant`), two more rows include the network part: a
client encrypts to that user itself and opens, six nodes asked and told each time, new connections each time; both sides make a new file,
sync it and rename it. `--to qu1…` names another recipient; then nothing is opened. One request of the grant is used a round.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import nacl.bindings as sodium
from report import MIN_ROUNDS, Row, compare, emit, measure

from qustream.client.client import Client
from qustream.client.settings import CREDENTIAL
from qustream.envelope import (
    ContentKey,
    Header,
    HeldBlock,
    content_key,
    decrypt_stream,
    encrypt_stream,
    make_header,
    open_to_path,
    read_header,
    unseal,
    verify_sender,
)
from qustream.identity import keystore
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.model.keys import DeviceCertificate
from qustream.model.network import NodeClass

FULL_BYTES, QUICK_BYTES = 1 << 30, 1 << 28
CHUNK_BYTES = 65_536
SEALED_BYTES = CHUNK_BYTES + sodium.crypto_secretstream_xchacha20poly1305_ABYTES
START_BYTES = sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES
FINAL = sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL
NOW_MS = 1_800_000_000_000
AT_LEAST = 0.8  # of the other side's rate


def overwrite(path: Path) -> BinaryIO:
    """The file, made if need be, to be written over from its beginning."""
    path.touch()
    return open(path, "r+b", buffering=0)


class Bare:
    """libsodium's secretstream and nothing else."""

    def __init__(self, directory: Path, plain: Path) -> None:
        self.key, self.plain = os.urandom(32), plain
        self.sealed, self.opened = directory / "bare.sealed", directory / "bare.opened"

    def encrypt(self) -> None:
        with overwrite(self.sealed) as sink:
            self._encrypt(sink)

    def _encrypt(self, sink: BinaryIO) -> None:
        state = sodium.crypto_secretstream_xchacha20poly1305_state()
        with open(self.plain, "rb", buffering=0) as source:
            sink.write(sodium.crypto_secretstream_xchacha20poly1305_init_push(state, self.key))
            piece = source.read(CHUNK_BYTES)
            while piece:
                following = source.read(CHUNK_BYTES)
                sink.write(sodium.crypto_secretstream_xchacha20poly1305_push(state, piece, None, 0 if following else FINAL))
                piece = following

    def open(self) -> None:
        with overwrite(self.opened) as sink:
            self._open(sink)

    def open_to_path(self) -> None:
        self._to_path(self.opened, self._open)

    def encrypt_to_path(self) -> None:
        self._to_path(self.sealed, self._encrypt)

    @staticmethod
    def _to_path(path: Path, work: Callable[[BinaryIO], None]) -> None:
        made = path.with_suffix(".part")
        with open(made, "wb", buffering=0) as sink:
            work(sink)
            os.fsync(sink.fileno())
        made.rename(path)

    def _open(self, sink: BinaryIO) -> None:
        state = sodium.crypto_secretstream_xchacha20poly1305_state()
        with open(self.sealed, "rb", buffering=0) as source:
            sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, source.read(START_BYTES), self.key)
            while piece := source.read(SEALED_BYTES):
                sink.write(sodium.crypto_secretstream_xchacha20poly1305_pull(state, piece)[0])


class Envelope:
    """Ours, with random material in the place of what nodes would have sent."""

    def __init__(self, directory: Path, plain: Path) -> None:
        self.plain, self.sealed, self.opened = plain, directory / "envelope", directory / "opened"
        self.master, self.device, self.hpke = SigningKey(os.urandom(32)), SigningKey(os.urandom(32)), HpkeKey(os.urandom(32))
        certificate = DeviceCertificate(self.master.id, self.device.public, 0, "bench", NOW_MS - 1, NOW_MS + 1)
        self.sender = (self.master.id, self.device, self.master.sign_noun("device-certificate", certificate))
        self.material = os.urandom(262_270)
        self.nodes = [os.urandom(32) for _ in range(6)]

    def blocks(self) -> list[HeldBlock]:
        classes = [NodeClass.FOUNDATION] * 3 + [NodeClass.COMMUNITY] * 3
        same = {"material": self.material, "salt": bytes(32), "block_hash": bytes(32), "seed": bytes(126), "grant": bytes(32), "index": 0}
        return [HeldBlock(node=node, node_class=each, **same) for node, each in zip(self.nodes, classes, strict=True)]

    def encrypt(self) -> None:
        times = {"created_ms": NOW_MS, "expires_ms": NOW_MS + 1}
        recipients = [(self.master.id, self.hpke.public)]
        header, key = make_header(self.blocks(), sender=self.sender, recipients=recipients, chain="bench", **times)
        with open(self.plain, "rb", buffering=0) as source, overwrite(self.sealed) as sink:
            encrypt_stream(source, sink, header, key, self.device)

    def unlock(self, header: Header) -> ContentKey:
        verify_sender(header, self.master.public, NOW_MS)
        secrets = unseal(header, self.master.id, self.hpke)
        return content_key(header, secrets.client_secret, {node: (self.material, bytes(32)) for node in self.nodes})

    def open(self) -> None:
        with open(self.sealed, "rb", buffering=0) as source, overwrite(self.opened) as sink:
            header = read_header(source)
            decrypt_stream(source, sink, header, self.unlock(header))

    def open_to_path(self) -> None:
        with open(self.sealed, "rb", buffering=0) as source:
            header = read_header(source)
            open_to_path(source, self.opened, header, self.unlock(header), replace=True)


def write_plain(path: Path, size_bytes: int) -> None:
    with open(path, "wb") as file:
        for _ in range(size_bytes >> 20):
            file.write(os.urandom(1 << 20))


def digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def row(name: str, ours: Callable[[], object], theirs: Callable[[], object], *, size_bytes: int, rounds: int) -> Row:
    """One row. A side is any callable that handles the whole file once: a client with its nodes fits as well."""
    times = measure(ours, theirs, rounds)
    rates = times.ours_rate(size_bytes / 1e6), times.theirs_rate(size_bytes / 1e6)
    return compare(name, *rates, unit="MB/s", against="libsodium secretstream, same file", at_least=AT_LEAST, cpu_s=times.cpu_s)


class Network:
    """Ours with everything: a user of a running network, as one who types the commands, but for starting Python."""

    def __init__(self, directory: Path, plain: Path, home: Path, to: str | None) -> None:
        self.home, self.plain, self.sealed, self.opened = home, plain, directory / "networked.qs", directory / "networked"
        self.passphrase = keystore.find_passphrase(CREDENTIAL, file=None, prompt=True)
        self.to = to or to_text(IdKind.USER, Client.from_home(home, passphrase=self.passphrase).home.user)
        self.opens = to is None

    def encrypt(self) -> float:
        """Seconds a fresh client takes."""
        with Client.from_home(self.home, passphrase=self.passphrase) as client:
            return timed(lambda: client.encrypt(self.plain, self.sealed, to=[self.to], replace=True))

    def open(self) -> float:
        """Seconds a fresh client takes; the envelope opens once."""
        with Client.from_home(self.home, passphrase=self.passphrase) as client:
            return timed(lambda: client.open(self.sealed, self.opened, replace=True))

    def rows(self, bare: Bare, rounds: int, size_bytes: int) -> list[Row]:
        """Encrypting and opening in turn with the other side, which goes first every other round."""
        sides = {"encrypt": (self.encrypt, lambda: timed(bare.encrypt_to_path)), "open": (self.open, lambda: timed(bare.open_to_path))}
        rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in sides if self.opens or name == "encrypt"}
        for number in range(rounds + 1):
            for name, (ours, theirs) in rates.items():
                for side, call in sorted(enumerate(sides[name]), reverse=bool(number % 2)):
                    seconds = call()
                    if number:  # the first round warms up
                        (ours, theirs)[side].append(size_bytes / 1e6 / seconds)
        against = "libsodium secretstream, same file"
        return [
            compare(f"{name}, network part included", *both, unit="MB/s", against=against, at_least=AT_LEAST)
            for name, both in rates.items()
        ]


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 MiB instead of 1 GiB")
    parser.add_argument("--directory", type=Path, help="where the files go")
    parser.add_argument("--home", type=Path, help="a user of a running network: adds the rows with the network part")
    parser.add_argument("--to", help="the recipient (qu1…) instead of that user; adds no row for opening")
    options = parser.parse_args()
    size_bytes, rounds = (QUICK_BYTES, MIN_ROUNDS) if options.quick else (FULL_BYTES, 7)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        plain = directory / "plain"
        write_plain(plain, size_bytes)
        ours, bare = Envelope(directory, plain), Bare(directory, plain)
        sides = [
            ("encrypt", ours.encrypt, bare.encrypt),
            ("open", ours.open, bare.open),
            ("open to a path, synced", ours.open_to_path, bare.open_to_path),
        ]
        rows = [row(name, *pair, size_bytes=size_bytes, rounds=rounds) for name, *pair in sides]
        assert digest(ours.opened) == digest(bare.opened) == digest(plain)
        if options.home:
            network = Network(directory, plain, options.home, options.to)
            rows += network.rows(bare, rounds, size_bytes)
            assert not network.opens or digest(network.opened) == digest(plain)
    emit("envelope", rows, rounds)


if __name__ == "__main__":
    main()
