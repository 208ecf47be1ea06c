"""One batch: decisions taken together in one write transaction, in the order of `proto/spec/delivery.md` §5."""

from __future__ import annotations

from typing import Any

from qnode.core.delivery import AnswerBuilt, Ask, DueReached, Effect, Erase, Event, Forget, Mark, Persist, Refuse, step
from qnode.core.delivery_alerts import AlertNote, noted, unexpired
from qnode.store.slots import EMPTY, SlotFile
from qnode.store.tables import Tables
from qnode.store.vault import SealedAnswer
from qustream.errors import QuStreamError

__all__ = ["Batch", "FreeSlots"]


class FreeSlots:
    """The slots no stored mark points to, and two counts. Changed by the writer thread alone; others may look at the counts."""

    def __init__(self, used: set[int], room: int, marks: int) -> None:
        """`used`: slots of held blocks; `room`: how many blocks may be held; `marks`: how many indices are spent."""
        self.room = room
        self.held = len(used)
        self.marks = marks
        self._free = [slot for slot in range(room) if slot not in used]

    @property
    def is_full(self) -> bool:
        """Whether no block more may be held. With a room made smaller there may be more held than that."""
        return self.held >= self.room or not self._free

    def take(self) -> int | None:
        """A free slot, or None."""
        if self.is_full:
            return None
        self.held += 1
        return self._free.pop()

    def give_back(self, slots: set[int]) -> None:
        """These slots are free again."""
        self.held -= len(slots)
        self._free += [slot for slot in slots if slot < self.room]


class Batch:
    """Decisions on an open write transaction. Nothing counts until `seal_keys` and the commit have both succeeded."""

    def __init__(self, txn: Any, tables: Tables, slots: SlotFile, free: FreeSlots) -> None:
        self._txn, self._tables, self._slots, self._free = txn, tables, slots, free
        self._writes: dict[int, bytes] = {}
        self._taken: set[int] = set()
        self._freed: set[int] = set()
        self._marks_more = 0
        self.erased = 0
        self.corrupt = 0

    # -- what may be decided --------------------------------------------------------------------------------------------

    def answer_built(self, key: bytes, ask: Ask, sealed: SealedAnswer, *, issued_ms: int, now_ms: int, marks_max: int) -> list[Effect]:
        """Store a built answer for index `key`, unless the index is spent by now. Errors: `E-DATA-CORRUPT`."""
        mark = self._tables.mark(self._txn, key)
        if mark is None and self._free.marks + self._marks_more >= marks_max:
            return [Refuse("E-NODE-FULL", "this node remembers as many requests as it may")]
        slot = self._free.take() if mark is None else None
        if slot is not None:
            self._taken.add(slot)
        effects = step(mark, AnswerBuilt(ask, issued_ms, slot), now_ms)
        for effect in effects:
            if isinstance(effect, Persist):
                assert slot is not None
                self._writes[slot] = sealed.slot_key
                self._txn.put(key, sealed.sealed, db=self._tables.answers)
                self._tables.put_mark(self._txn, key, None, effect.mark)
                self._marks_more += 1
        return effects

    def happened(self, key: bytes, event: Event, now_ms: int) -> list[Effect]:
        """Step index `key` and carry out what is ordered of the store. Errors: `E-DATA-CORRUPT`."""
        mark = self._tables.mark(self._txn, key)
        effects = step(mark, event, now_ms)
        for effect in effects:
            if isinstance(effect, Persist):
                self._tables.put_mark(self._txn, key, mark, effect.mark)
            elif isinstance(effect, Erase):
                self._erase(key, mark, effect.mark)
            elif isinstance(effect, Forget):
                assert mark is not None
                self._tables.drop_mark(self._txn, key, mark)
                self._marks_more -= 1
        return effects

    def expire(self, now_ms: int, limit: int) -> int:
        """Let time pass for at most `limit` indices that are due; returns how many were."""
        due = self._tables.due_keys(self._txn, now_ms, limit)
        for entry, key in due:
            try:
                mark = self._tables.mark(self._txn, key)
                lost = mark is not None and mark.erased_ms is None and self._is_empty(mark.slot)
                effects = self.happened(key, DueReached(lost), now_ms)
            except QuStreamError:
                self.corrupt += 1  # its mark says nothing any more: it stays spent, and is not visited again
                effects = []
            if not effects:
                self._txn.delete(entry, db=self._tables.due)
        return len(due)

    def note(self, note: AlertNote) -> None:
        """Add an alert to a user's. Errors: `E-DATA-CORRUPT`."""
        alerts = unexpired(self._tables.notes(self._txn, note.user), note.at_ms)
        self._tables.put_notes(self._txn, note.user, noted(alerts, note))

    def drop_old_notes(self, after: bytes, now_ms: int, limit: int) -> bytes:
        """Drop the old notes of `limit` users from user `after` on; returns where to go on, empty at the end."""
        users = self._tables.users_after(self._txn, after, limit)
        for user in users:
            try:
                alerts = self._tables.notes(self._txn, user)
            except QuStreamError:
                self.corrupt += 1
                alerts = ()
            kept = unexpired(alerts, now_ms)
            if len(kept) != len(alerts) or not alerts:
                self._tables.put_notes(self._txn, user, kept)
        return users[-1] + b"\0" if len(users) == limit else b""

    # -- how it reaches the disk ----------------------------------------------------------------------------------------

    def seal_keys(self) -> None:
        """Write the slots and wait until the disk has them; to be called before the commit. Errors: `OSError`."""
        self._slots.write(self._writes)

    def committed(self) -> None:
        """The transaction is on the disk: slots no mark points to any more may be used again."""
        written = {slot for slot, key in self._writes.items() if key != EMPTY}
        self._free.give_back(self._freed | (self._taken - written))
        self._free.marks += self._marks_more

    def aborted(self) -> None:
        """Nothing was stored: what was taken goes back; what was erased still has a mark, and is not free."""
        self._free.give_back(self._taken)

    def _erase(self, key: bytes, before: Mark | None, mark: Mark) -> None:
        self._txn.delete(key, db=self._tables.answers)
        self._tables.put_mark(self._txn, key, before, mark)
        self._writes[mark.slot] = EMPTY
        self._freed.add(mark.slot)
        self.erased += 1

    def _is_empty(self, slot: int) -> bool:
        return self._writes.get(slot) is None and self._slots.read(slot) == EMPTY
