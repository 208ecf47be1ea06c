"""The registry of a network without a chain: a signed file, watched (`proto/spec/registry.md`, "Network file").

`refresh` reads the file again; lookups answer from the newest good view. A file that is torn, unsigned, foreign, older or
malformed never replaces a good view: that one stays, grows old (`age_ms`), and `trouble` says why.

Whoever hears of newer files elsewhere keeps them in a second place (`kept`, `follow`): then the newer of the two is in use. The first one
must still be good, if only an older one, for the view to count as confirmed; nobody but its owner ever writes it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.model.ids import IdKind, from_text
from qustream.model.keys import PublicKey
from qustream.model.network import Epoch, Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.registry.changes import ChangeLog, differences
from qustream.registry.contents import NetworkContents
from qustream.registry.interface import Change, Registry
from qustream.registry.parse import parse
from qustream.registry.signed_file import FILE_MAX_BYTES, open_file
from qustream.registry.view import NetworkView

__all__ = ["FileInUse", "NetworkFileRegistry"]

# Files known to be good and not the newest: the two places, and what was there before.
PASSED_MAX = 4


@dataclass(frozen=True, slots=True)
class _Current:
    """What questions are answered from; replaced by one assignment, so that no question sees half of it."""

    view: NetworkView
    log: ChangeLog
    confirmed_ms: int
    path: Path
    digest: bytes


@dataclass(frozen=True, slots=True)
class FileInUse:
    """Where the file of the present view was read, its SHA-256 then, and its version."""

    path: Path
    digest: bytes
    height: int


class NetworkFileRegistry(Registry):
    """`Registry` from a network file. Every method may be called from any thread, `refresh` from a thread of its own.

    Before the first good file every question raises `E-CHAIN-STALE`.
    """

    def __init__(
        self,
        path: Path,
        network_key: bytes | str | PublicKey,
        *,
        chain: str | None = None,
        height_min: int = 0,
        kept: Path | None = None,
    ) -> None:
        """`network_key`: the pinned key, its 32-byte id, or that id's text (`qnet1…`; errors: `E-ID-TEXT`).

        `chain`: the chain id the file must have, if the caller knows one; otherwise the first good file settles it.
        `height_min`: the version this caller has seen in an earlier life; nothing older is accepted.
        `kept`: where a newer file may be, that came another way.
        """
        if isinstance(network_key, str):
            network_key = from_text(network_key, IdKind.NETWORK)
        self._key = network_key.id if isinstance(network_key, PublicKey) else network_key
        self._path, self._kept = path, kept
        self._chain = chain
        self._height_min = height_min
        self._refreshing = threading.Lock()
        self._state: _Current | None = None
        self._passed: deque[bytes] = deque(maxlen=PASSED_MAX)
        self._kept_refused = b""
        self._refused: tuple[bytes, bool, QuStreamError] | None = None  # its hash, whether the kept one was in use, why
        self._trouble: QuStreamError | None = None

    @property
    def trouble(self) -> QuStreamError | None:
        """Why the newest refresh did not confirm the view; None if it did."""
        return self._trouble

    @property
    def file_in_use(self) -> FileInUse:
        """Which file the answers are from. Errors: `E-CHAIN-STALE`."""
        current = self._current
        return FileInUse(current.path, current.digest, current.view.height)

    def load(self, now_ms: int) -> None:
        """The first refresh of a program that cannot go on without. Errors: `E-FILE`, `E-REGISTRY-…`."""
        self.refresh(now_ms)
        if self._trouble is not None:
            raise self._trouble

    def refresh(self, now_ms: int) -> bool:
        """Read the file again; True if a newer view has taken over. Never raises for what the file holds: see `trouble`.

        Blocking: 15 MB of an unchanged file take some 20 ms, of a changed one some seconds.
        """
        with self._refreshing:
            before = self._accepted
            try:
                self._refresh(now_ms)
                self._trouble = None
            except QuStreamError as error:
                self._trouble = error
            return self._accepted != before

    def follow(self, data: bytes, now_ms: int, keep: Callable[[bytes], None]) -> None:
        """Take over a newer file that came another way: judge it, let `keep` put it at `kept`, use it.

        Blocking, as `refresh`. Errors: `E-REGISTRY-…`, `E-CHAIN-STALE` without any view, and those of `keep`; then nothing has changed.
        """
        with self._refreshing:
            assert self._kept is not None, "a second place is needed"
            current = self._current
            contents = self._judged(current.view, data)
            keep(data)
            self._take_over(contents, hashlib.sha256(data).digest(), self._kept, now_ms)

    def _refresh(self, now_ms: int) -> None:
        kept_is_used = self._kept_is_used(now_ms)
        data = files.read(self._path, FILE_MAX_BYTES, private=False)
        digest = hashlib.sha256(data).digest()
        if self._refused and self._refused[:2] == (digest, kept_is_used):
            raise self._refused[2]
        if self._state and (digest == self._accepted or (kept_is_used and digest in self._passed)):
            self._state = replace(self._state, confirmed_ms=now_ms)
            self._refused = None
            return
        try:
            self._judge_own(data, digest, kept_is_used, now_ms)
        except QuStreamError as error:
            self._refused = (digest, kept_is_used, error)
            raise

    def _kept_is_used(self, now_ms: int) -> bool:
        """Whether the file in the second place is the one in use, perhaps from now on. Nothing good there is nobody's trouble: it comes
        again."""
        if self._kept is None:
            return False
        try:
            data = files.read(self._kept, FILE_MAX_BYTES, private=False)
        except QuStreamError:
            return False
        digest = hashlib.sha256(data).digest()
        if digest not in (self._accepted, self._kept_refused, *self._passed):
            try:
                contents = self._judged(self._state.view if self._state else None, data)
            except QuStreamError:
                self._kept_refused = digest
            else:
                self._take_over(contents, digest, self._kept, now_ms)
        return digest == self._accepted

    def _judge_own(self, data: bytes, digest: bytes, kept_is_used: bool, now_ms: int) -> None:
        """Let the file in the first place take over, or see that it is good and older than the kept one."""
        before = self._state
        contents = self._read(before.view if before else None, data)
        if kept_is_used and before and contents.version < before.view.height:
            self._passed.append(digest)
            self._state = replace(before, confirmed_ms=now_ms)
            return
        self._check_follows(before.view if before else None, contents)
        self._take_over(contents, digest, self._path, now_ms)

    def _take_over(self, contents: NetworkContents, digest: bytes, path: Path, now_ms: int) -> None:
        before, view = self._state, NetworkView(contents)
        log = before.log.extended(view.height, differences(before.view.contents, contents)) if before else ChangeLog(view.height)
        if before:
            self._passed.append(self._accepted)
        self._state = _Current(view, log, now_ms, path, digest)
        self._refused = None

    def _judged(self, before: NetworkView | None, data: bytes) -> NetworkContents:
        """What a file's bytes say, if it may follow the present view."""
        contents = self._read(before, data)
        self._check_follows(before, contents)
        return contents

    def _read(self, before: NetworkView | None, data: bytes) -> NetworkContents:
        """What a file's bytes say, whatever its version."""
        contents = parse(open_file(data, self._key), before.users if before else None)
        chain = before.chain if before else self._chain
        if chain is not None and contents.chain != chain:
            raise fault("E-REGISTRY-CHAIN", f"the file speaks of the network {contents.chain}, not of {chain}")
        return contents

    def _check_follows(self, before: NetworkView | None, contents: NetworkContents) -> None:
        least = max(1, self._height_min)
        if contents.version < least:
            raise fault("E-REGISTRY-VERSION", f"version {contents.version}, but at least {least} is known to exist")
        if before and contents.version <= before.height:
            same = "another file of the same version" if contents.version == before.height else "an older file"
            raise fault("E-REGISTRY-VERSION", f"{same}: version {contents.version}, and {before.height} is in use")
        if before and before.epochs != contents.epochs:
            raise fault("E-REGISTRY-FORMAT", "genesis_ms, epoch_length_ms and seed of a network never change")

    @property
    def _accepted(self) -> bytes:
        return self._state.digest if self._state else b""

    @property
    def _current(self) -> _Current:
        if self._state is None:
            # The code alone: this answer may reach a stranger, and the detail names files.
            why = f": {self._trouble.code}" if self._trouble else ""
            raise fault("E-CHAIN-STALE", f"no network file has been read yet{why}")
        return self._state

    @property
    def _view(self) -> NetworkView:
        return self._current.view

    @property
    def height(self) -> int:
        return self._view.height

    @property
    def chain(self) -> str:
        return self._view.chain

    def node(self, node_id: bytes, /) -> NodeRecord:
        return self._view.node(node_id)

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        return self._view.nodes(node_class)

    def qrng_server(self, server_id: bytes, /) -> QrngServerRecord:
        return self._view.qrng_server(server_id)

    def user(self, user_id: bytes, /) -> UserRecord:
        return self._view.user(user_id)

    def grant(self, grant_id: bytes, /) -> Grant:
        return self._view.grant(grant_id)

    def grants_of(self, user_id: bytes, /) -> Sequence[Grant]:
        return self._view.grants_of(user_id)

    def assignment(self, grant: Grant, j: int) -> dict[NodeClass, list[NodeRecord]]:
        """As `Registry.assignment`. About 10 ms the first time for 4,732 nodes; the newest 4,096 are kept."""
        return self._view.assignment(grant, j)

    def epoch(self, now_ms: int) -> Epoch:
        return self._view.epochs.of(now_ms)

    def epoch_at(self, number: int) -> Epoch:
        return self._view.epochs.at(number)

    def age_ms(self, now_ms: int) -> int:
        """How long ago the file was last read and found good."""
        return max(0, now_ms - self._current.confirmed_ms)

    def changes(self, since_height: int) -> Sequence[Change]:
        return self._current.log.since(since_height)
