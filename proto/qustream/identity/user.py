"""A user's directory on one device (`proto/spec/identity.md`, "Devices").

    device.keystore   sealed: the device's seed, the user's HPKE seed, the user's rUID keys
    enrolment.bin     public: master key, HPKE statement, device certificate
    grants/           one record a grant: its nonce, and which index comes next

The words and the master seed are never here: they come in when a device is linked or its certificate renewed, and go again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from qustream.errors import PeerFault, fault
from qustream.identity import files, keystore
from qustream.identity.enrolment import (
    ENROLMENT_MAX_BYTES,
    Enrolment,
    certify_device,
    check_certificate,
    check_enrolment,
    decode_enrolment,
    open_hpke_statement,
    state_hpke_key,
)
from qustream.identity.grants import RECORD_VERSION, GrantBook, GrantOffer, GrantRecord
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SEED_BYTES, SigningKey
from qustream.identity.words import UserSecrets
from qustream.model.base import Bytes32, Noun, Signed
from qustream.model.ids import IdKind, to_text
from qustream.model.keys import DeviceCertificate
from qustream.model.network import Grant
from qustream.rules.merkle import Tree
from qustream.rules.ruid import COUNT_MAX, NONCE_BYTES, ruid, ruid_tree
from qustream.wire.codec import decode, encode

__all__ = ["Enrolment", "GrantOffer", "UserHome"]

KEYSTORE = "device.keystore"
ENROLMENT = "enrolment.bin"
GRANTS = "grants"
LOCK = "lock"
KIND = "user-device"
SECRETS_MAX_BYTES = 4096  # two seeds and 64 rUID keys are 2.3 KB
GENERATIONS_MAX = 64  # rotations of the rUID key, one a revoked device: a user who loses 63 devices starts anew
TREE_LEAVES_MAX = COUNT_MAX  # rUID trees kept in memory, 64 bytes a leaf: the largest grant, or many small ones


class _Secrets(Noun, frozen=True):
    device_seed: Bytes32
    hpke_seed: Bytes32
    ruid_keys: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=GENERATIONS_MAX)]


class UserHome:
    """One device of a user. Make it with `create`, `link` or `load`.

    `user`: the user's 32-byte id; `device`: this device's signing key; `certificate`: the master's, signed; `hpke`: opens what is sealed
    to the user; `ruid_key`: 32 bytes, the newest. Index and tree methods may be called from any thread.
    """

    def __init__(self, directory: Path, secrets: _Secrets, enrolment: Enrolment, certificate: DeviceCertificate) -> None:
        self.directory = directory
        self.device = SigningKey(secrets.device_seed)
        self.hpke = HpkeKey(secrets.hpke_seed)
        self.grants = GrantBook(directory / GRANTS)
        self._ruid_keys = secrets.ruid_keys
        self._enrolment = enrolment
        self._opened = certificate
        self._trees: OrderedDict[bytes, Tree] = OrderedDict()  # by root, least recently used first
        self._trees_lock = threading.Lock()

    @classmethod
    def create(
        cls, directory: Path, words: str, label: str, passphrase: bytes, *, stripe: int = 0, now_ms: int, ruid_generation: int = 0
    ) -> UserHome:
        """Make this machine a device of the user of `words`: fresh device key, certificate for 90 days, keystore under `passphrase`.

        `stripe`: this device's number among the user's, the first is 0. `ruid_generation`: how often the user rotated his rUID key.
        Errors: `E-PASSPHRASE-WORDS`, `E-KEYSTORE-EXISTS`, `E-CONFIG`, `E-FILE`, `E-DISK-FULL`.
        """
        if not 0 <= ruid_generation < GENERATIONS_MAX:
            raise fault("E-CONFIG", f"an rUID key is rotated at most {GENERATIONS_MAX - 1} times")
        user = UserSecrets.from_words(words)
        ruid_keys = tuple(user.ruid_key_of(generation) for generation in range(ruid_generation + 1))
        secrets = _Secrets(os.urandom(SEED_BYTES), user.hpke.seed, ruid_keys)
        device = SigningKey(secrets.device_seed).public
        certificate = certify_device(user.master, device, stripe=stripe, label=label, now_ms=now_ms)
        enrolment = Enrolment(user.master.public, state_hpke_key(user.master, user.hpke.public), certificate)
        _make_directory(directory)
        with files.locked(directory / LOCK):
            if os.path.lexists(directory / KEYSTORE) or any((directory / GRANTS).glob("*.grant")):
                raise fault("E-KEYSTORE-EXISTS", f"{directory} holds a user device already")
            # The keystore comes last: without it the directory is empty as far as anybody is concerned.
            files.replace(directory / ENROLMENT, encode(enrolment), mode=0o644)
            keystore.write(directory / KEYSTORE, KIND, encode(secrets), passphrase)
        return cls(directory, secrets, enrolment, check_enrolment(enrolment))

    @classmethod
    def link(cls, directory: Path, words: str, label: str, passphrase: bytes, *, stripe: int, now_ms: int, user: bytes) -> UserHome:
        """Like `create`, for a further device of the known user with id `user`: other words are refused (`E-PASSPHRASE-WORDS`)."""
        _user_of(words, user)
        return cls.create(directory, words, label, passphrase, stripe=stripe, now_ms=now_ms)

    @classmethod
    def load(cls, directory: Path, passphrase: bytes, *, now_ms: int | None = None) -> UserHome:
        """Open a device's directory. With `now_ms` an expired certificate is refused; without, it can still be renewed.

        Errors: `E-FILE`, `E-KEYSTORE-OPEN`, `E-KEYSTORE-MODE`, `E-DEVICE-EXPIRED`; `E-DATA-CORRUPT` if the files do not belong together.
        """
        stored = keystore.read(directory / KEYSTORE, KIND, passphrase)
        secrets = decode(stored, _Secrets, max_bytes=SECRETS_MAX_BYTES)
        public = files.read(directory / ENROLMENT, ENROLMENT_MAX_BYTES, private=False)
        try:
            enrolment = decode_enrolment(public)
            home = cls(directory, secrets, enrolment, check_enrolment(enrolment))
        except PeerFault:
            raise fault("E-DATA-CORRUPT", f"{directory / ENROLMENT} was damaged") from None
        stated = open_hpke_statement(enrolment.hpke, enrolment.master)
        if home._opened.device_key != home.device.public or stated != home.hpke.public:
            raise fault("E-DATA-CORRUPT", f"{directory}: {ENROLMENT} and {KEYSTORE} do not belong together")
        if now_ms is not None:
            home.require_valid(now_ms)
        return home

    @property
    def user(self) -> bytes:
        """The user's 32-byte id: that of the master key."""
        return self._opened.user

    @property
    def certificate(self) -> Signed:
        """This device's certificate, signed by the master."""
        return self._enrolment.certificate

    @property
    def stripe(self) -> int:
        """This device's number among the user's devices."""
        return self._opened.stripe

    @property
    def label(self) -> str:
        """What the user calls this device."""
        return self._opened.label

    @property
    def expires_ms(self) -> int:
        """When this device's certificate expires (Unix ms)."""
        return self._opened.expires_ms

    @property
    def ruid_key(self) -> bytes:
        """The newest rUID key."""
        return self._ruid_keys[-1]

    @property
    def generation(self) -> int:
        """The number of the newest rUID key: how often it was rotated."""
        return len(self._ruid_keys) - 1

    def enrolment(self) -> Enrolment:
        """What the network must be told of this device; `enrolment.bin` holds the same."""
        return self._enrolment

    def require_valid(self, now_ms: int) -> None:
        """Errors: `E-DEVICE-EXPIRED` if the certificate has expired."""
        check_certificate(self.certificate, self._enrolment.master, now_ms=now_ms)

    def renew(self, words: str, now_ms: int) -> Signed:
        """A new certificate for this device, 90 days from now; it goes along with each request. Errors: `E-PASSPHRASE-WORDS`, `E-FILE`."""
        master = _user_of(words, self.user).master
        certificate = certify_device(master, self.device.public, stripe=self.stripe, label=self.label, now_ms=now_ms)
        enrolment = Enrolment(self._enrolment.master, self._enrolment.hpke, certificate)
        files.replace(self.directory / ENROLMENT, encode(enrolment), mode=0o644)
        self._enrolment, self._opened = enrolment, check_enrolment(enrolment)
        return certificate

    def rotate_ruid_key(self, words: str, passphrase: bytes) -> int:
        """Take the next rUID key for grants to come, as after the loss of a device; grants bought before keep theirs.

        Returns the generation, which is what `create` needs on a further device. Errors: `E-PASSPHRASE-WORDS`, `E-CONFIG`, those of
        `keystore.read`.
        """
        generation = len(self._ruid_keys)
        if generation >= GENERATIONS_MAX:
            raise fault("E-CONFIG", f"an rUID key is rotated at most {GENERATIONS_MAX - 1} times")
        keys = (*self._ruid_keys, _user_of(words, self.user).ruid_key_of(generation))
        with files.locked(self.directory / LOCK):
            secrets = _Secrets(self.device.seed, self.hpke.seed, keys)
            keystore.replace(self.directory / KEYSTORE, KIND, encode(secrets), passphrase)
        self._ruid_keys = keys
        return generation

    def new_grant_offer(self, count: int, now_ms: int, *, stripes: int | None = None) -> GrantOffer:
        """An offer for `count` requests shared by `stripes` devices (default: up to this one); its nonce is on the disk already.

        Errors: `E-DEVICE-EXPIRED`, `E-CONFIG` for a count above 2^20 or more than 256 stripes, `E-FILE`, `E-DISK-FULL`.
        """
        self.require_valid(now_ms)
        shared = self.stripe + 1 if stripes is None else stripes
        if not 1 <= count <= COUNT_MAX or not 1 <= shared <= 256:
            raise fault("E-CONFIG", f"a grant has 1 to {COUNT_MAX} requests for 1 to 256 devices")
        nonce, generation = os.urandom(NONCE_BYTES), len(self._ruid_keys) - 1
        tree = ruid_tree(self.ruid_key, nonce, count)
        record = self._record(tree.root, nonce, count=count, stripes=shared, generation=generation, now_ms=now_ms)
        self.grants.add(record)
        self._keep(tree)
        return GrantOffer(tree.root, count, shared)

    def adopt_grant(self, grant: Grant, *, nonce: bytes | None = None, now_ms: int = 0) -> None:
        """Tie a grant of the network's to the nonce that was offered. `nonce`: of another device's offer, from its `grant_nonce`.

        Errors: `E-GRANT-UNKNOWN` for a grant of another user or without its nonce, `E-FILE`, `E-DISK-FULL`.
        """
        if grant.owner != self.user:
            raise fault("E-GRANT-UNKNOWN", f"{to_text(IdKind.GRANT, grant.grant)} belongs to another user")
        if nonce is not None and not self.grants.holds(grant.root):
            self.grants.add(self._record_of_another(grant, nonce, now_ms))
        self.grants.adopt(grant)

    def grant_nonce(self, grant: bytes) -> bytes:
        """The 32-byte nonce of an adopted grant, for the user's other devices. It is no secret. Errors: `E-GRANT-UNKNOWN`."""
        return self.grants.of(grant).nonce

    def next_index(self, grant: bytes) -> int:
        """Reserve this device's next unused index of `grant`, on the disk before it is returned.

        Errors: `E-GRANT-UNKNOWN`, `E-GRANT-EXHAUSTED`, `E-FILE`, `E-DISK-FULL`.
        """
        return self.grants.next_index(grant)

    def ruid(self, grant: bytes, j: int) -> tuple[bytes, tuple[bytes, ...]]:
        """The rUID of request `j` and its Merkle path to the grant's root. Errors: `E-GRANT-UNKNOWN`, `E-DATA-CORRUPT`."""
        record = self.grants.of(grant)
        if not 0 <= j < record.count:
            raise ValueError(f"index {j} of a grant of {record.count}")
        if record.generation >= len(self._ruid_keys):
            raise fault("E-GRANT-UNKNOWN", "this device does not have the rUID key of that grant; rotate it")
        return ruid(self._ruid_keys[record.generation], record.nonce, j), self._tree(record).path(j)

    def _tree(self, record: GrantRecord) -> Tree:
        with self._trees_lock:
            if record.root in self._trees:
                self._trees.move_to_end(record.root)
                return self._trees[record.root]
        tree = ruid_tree(self._ruid_keys[record.generation], record.nonce, record.count)
        if tree.root != record.root:
            raise fault("E-DATA-CORRUPT", "the nonce kept for a grant does not lead to its root")
        self._keep(tree)
        return tree

    def _keep(self, tree: Tree) -> None:
        with self._trees_lock:
            self._trees[tree.root] = tree
            while len(self._trees) > 1 and sum(kept.size for kept in self._trees.values()) > TREE_LEAVES_MAX:
                self._trees.popitem(last=False)

    def _record(self, root: bytes, nonce: bytes, *, count: int, stripes: int, generation: int, now_ms: int) -> GrantRecord:
        return GrantRecord(RECORD_VERSION, root, nonce, count, stripes, generation, self.stripe, now_ms, 0, None)

    def _record_of_another(self, grant: Grant, nonce: bytes, now_ms: int) -> GrantRecord:
        """The record of a grant that another device of this user offered, under whichever rUID key makes its root."""
        if len(nonce) == NONCE_BYTES:
            for generation, key in reversed(list(enumerate(self._ruid_keys))):
                tree = ruid_tree(key, nonce, grant.count)
                if tree.root == grant.root:
                    self._keep(tree)
                    numbers = {"count": grant.count, "stripes": grant.stripes, "generation": generation}
                    return self._record(grant.root, nonce, **numbers, now_ms=now_ms)
        raise fault("E-GRANT-UNKNOWN", f"the nonce does not lead to the root of {to_text(IdKind.GRANT, grant.grant)}")

    def __repr__(self) -> str:
        return f"<UserHome {to_text(IdKind.USER, self.user)[:14]}… device {self.stripe}>"

    def __reduce__(self) -> str:
        raise TypeError("user homes are not pickled")


def _user_of(words: str, user: bytes) -> UserSecrets:
    secrets = UserSecrets.from_words(words)
    if secrets.master.id != user:
        raise fault("E-PASSPHRASE-WORDS", "these are the words of another user")
    return secrets


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / GRANTS).mkdir(mode=0o700, exist_ok=True)
        files.sync_directory(directory)
    except OSError as error:
        raise files.file_fault(directory, error) from None
