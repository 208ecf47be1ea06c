"""What differs between two views, and a bounded memory of it (`proto/spec/registry.md`, "Changes")."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qustream.model.network import UserRecord
from qustream.registry.contents import NetworkContents
from qustream.registry.interface import Change, ChangeKind

__all__ = [
    "CHANGES_KEPT",
    "GRANT_KINDS",
    "NODE_KINDS",
    "QRNG_KINDS",
    "USER_KINDS",
    "ChangeLog",
    "compared",
    "device_changes",
    "differences",
]

# Whoever asks does so at every refresh, seconds apart; who was away longer asks again for everything. About 1 MB.
CHANGES_KEPT = 4096

Kinds = tuple[ChangeKind, ChangeKind, ChangeKind]
NODE_KINDS: Kinds = (ChangeKind.NODE_ADDED, ChangeKind.NODE_CHANGED, ChangeKind.NODE_REMOVED)
QRNG_KINDS: Kinds = (ChangeKind.QRNG_SERVER_ADDED, ChangeKind.QRNG_SERVER_CHANGED, ChangeKind.QRNG_SERVER_REMOVED)
USER_KINDS: Kinds = (ChangeKind.USER_ADDED, ChangeKind.USER_CHANGED, ChangeKind.USER_REMOVED)
GRANT_KINDS: Kinds = (ChangeKind.GRANT_ADDED, ChangeKind.GRANT_CHANGED, ChangeKind.GRANT_REMOVED)


def differences(old: NetworkContents, new: NetworkContents) -> Iterator[Change]:
    """What came, changed and went from `old` to `new`, always in the same order."""
    height = new.version
    yield from compared(height, NODE_KINDS, old.nodes, new.nodes)
    yield from compared(height, QRNG_KINDS, old.qrng_servers, new.qrng_servers)
    yield from compared(height, USER_KINDS, old.users, new.users)
    for user in sorted(new.users):
        before = old.users.get(user)
        yield from device_changes(height, user, before.record if before else None, new.users[user].record)
    yield from compared(height, GRANT_KINDS, old.grants, new.grants)


def compared(height: int, kinds: Kinds, old: Mapping[bytes, object], new: Mapping[bytes, object]) -> Iterator[Change]:
    """What came, changed and went from `old` to `new`, in order of the ids."""
    added, changed, removed = kinds
    for each in sorted(old.keys() | new.keys()):
        if each not in old:
            yield Change(height, added, each)
        elif each not in new:
            yield Change(height, removed, each)
        elif old[each] != new[each]:
            yield Change(height, changed, each)


def device_changes(height: int, user: bytes, old: UserRecord | None, new: UserRecord) -> Iterator[Change]:
    """Which devices of a user came, and which are good no more."""
    before, after = _valid_devices(old), _valid_devices(new)
    for device in sorted(before ^ after):
        # A device that is listed no more serves no more: to whoever asks, it is revoked.
        kind = ChangeKind.DEVICE_REVOKED if device in before else ChangeKind.DEVICE_ADDED
        yield Change(height, kind, device, user)


def _valid_devices(user: UserRecord | None) -> set[bytes]:
    return {entry.device for entry in user.devices if not entry.revoked} if user else set()


class ChangeLog:
    """The newest changes above `floor`, at most `CHANGES_KEPT` of them. Never changed: `extended` makes the next one."""

    def __init__(self, floor: int, height: int | None = None, kept: tuple[Change, ...] = ()) -> None:
        self._floor = floor
        self._height = floor if height is None else height
        self._kept = kept

    def extended(self, height: int, changes: Iterable[Change]) -> ChangeLog:
        """This log and what came with `height`; whole heights are forgotten, the oldest first, when it gets too much."""
        kept, floor = deque((*self._kept, *changes)), self._floor
        while len(kept) > CHANGES_KEPT:
            floor = kept[0].height
            while kept and kept[0].height == floor:
                kept.popleft()
        return ChangeLog(floor, height, tuple(kept))

    def since(self, height: int) -> Sequence[Change]:
        """The changes above `height`, oldest first; one `EVERYTHING` if they are no longer known."""
        if height < self._floor:
            return (Change(self._height, ChangeKind.EVERYTHING),)
        return tuple(change for change in self._kept if change.height > height)
