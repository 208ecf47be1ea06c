"""The messages a node knows of, and the bodies it keeps for those who pull (`proto/spec/gossip.md`, §4 and §5). Bounded in number, bytes
and age; the oldest go first."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from qnode.core.gossip_limits import KEEP_BYTES, KEEP_MS, SEEN_MAX, SMALL_MAX_BYTES
from qnode.core.gossip_seats import HEARD_ALL
from qustream.wire.gossip import Topic

__all__ = ["Item", "ItemState", "Items", "Pull"]


class ItemState(IntEnum):
    """Where a message stands; see `qnode.core.gossip`."""

    PULLING = 1
    CHECKING = 2
    GOOD = 3
    DEAD = 4


class Pull(NamedTuple):
    """A pull under way. `best_ms`: when the answer can be here at the earliest; `due_ms`: when we stop waiting for it."""

    peer: bytes
    held: bool
    best_ms: int
    due_ms: int


_SETTLED = (ItemState.GOOD, ItemState.DEAD)


class Item:
    """One message. `marks`: what is remembered of peers, at their seats (`gossip_seats`); `pulls`: under way; `tellers`: who may be asked
    next, and whether they hold it; `waiting`: who pulled it from us before we had it; `owing`: whom we asked and who need not answer any
    more; `sender`: who brought it."""

    __slots__ = (
        "body",
        "born_ms",
        "id",
        "is_small",
        "marks",
        "owing",
        "pulls",
        "sender",
        "size",
        "state",
        "tellers",
        "topic",
        "waiting",
    )

    def __init__(self, name: bytes, topic: Topic, size: int, now_ms: int) -> None:
        self.id, self.topic, self.born_ms = name, topic, now_ms
        self.resize(size)
        self.state = ItemState.PULLING
        self.body: bytes | None = None
        self.marks = 0
        self.sender = b""
        self.pulls: Sequence[Pull] = ()
        self.tellers: Sequence[tuple[bytes, bool]] = ()
        self.waiting: Sequence[bytes] = ()
        self.owing: Sequence[bytes] = ()

    def resize(self, size: int) -> None:
        self.size, self.is_small = size, size <= SMALL_MAX_BYTES

    @property
    def voices(self) -> int:
        """How many have told us of it."""
        return (self.marks & HEARD_ALL).bit_count()


class Items:
    """All of them, by id."""

    def __init__(self) -> None:
        self.kept_bytes = 0
        self._items: OrderedDict[bytes, Item] = OrderedDict()  # oldest first
        self.get: Callable[[bytes], Item | None] = self._items.get  # asked for every word of every peer
        self._kept: deque[Item] = deque()  # GOOD with a body, oldest first

    def __len__(self) -> int:
        return len(self._items)

    def new(self, name: bytes, topic: Topic, size: int, now_ms: int) -> Item:
        """The first word of a message. If there are too many, the oldest that is settled is forgotten."""
        if len(self._items) >= SEEN_MAX:
            oldest = next((item for item in self._items.values() if item.state in _SETTLED), None)
            if oldest is not None:
                self.forget(oldest)
        item = self._items[name] = Item(name, topic, size, now_ms)
        return item

    def keep(self, item: Item, now_ms: int) -> None:
        """It is good; its body can be pulled as long as there is room."""
        assert item.body is not None, "only what is here is kept"
        item.state, item.born_ms = ItemState.GOOD, now_ms
        self._items.move_to_end(item.id)
        self._kept.append(item)
        self.kept_bytes += len(item.body)
        self._make_room(now_ms)

    def recent(self, since_ms: int) -> Iterator[Item]:
        """What has become good since then and is still here, newest first."""
        for item in reversed(self._kept):
            if item.born_ms < since_ms:
                return
            yield item

    def expire(self, now_ms: int) -> None:
        """Let go of what is too old."""
        self._make_room(now_ms)
        while self._items:
            item = next(iter(self._items.values()))
            if now_ms - item.born_ms <= KEEP_MS or item.state not in _SETTLED:
                return
            self.forget(item)

    def forget(self, item: Item) -> None:
        """As if it had never been heard of."""
        if item.state is ItemState.GOOD and item.body is not None:
            self._kept.remove(item)
            self._drop_body(item)
        self._items.pop(item.id, None)

    def wipe(self, marks: int) -> None:
        """Nobody remembers these marks any more: their seat is another's."""
        for item in self._items.values():
            item.marks &= ~marks

    def _make_room(self, now_ms: int) -> None:
        while self._kept and (self.kept_bytes > KEEP_BYTES or now_ms - self._kept[0].born_ms > KEEP_MS):
            self._drop_body(self._kept.popleft())

    def _drop_body(self, item: Item) -> None:
        if item.body is not None:
            self.kept_bytes -= len(item.body)
            item.body = None
