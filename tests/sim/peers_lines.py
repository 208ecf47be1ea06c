"""Connections between nodes under virtual time: a dial takes round trips and fails where a line is cut, nobody listens or somebody else
does; a side that goes is noticed by the other at once, or, if nothing can be heard of it, after a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from qustream.rules.peering import prefix
from sim.clockwork import Clockwork
from sim.wires import one_way_ms

__all__ = ["ANSWER_MS", "DEAD_MS", "Conn", "Ends", "Lines"]

ADDRESS_MS, DIAL_MS, ANSWER_MS = 5_000, 10_000, 5_000
# Two heartbeats and an answer that did not come.
DEAD_MS = 20_000
LOOK_MS = 2_000


@dataclass(eq=False)
class Conn:
    """A connection that `opener` made. Of each end: whether it is admitted as a link there, whether it is gone there, since when nothing is
    heard, and in which life of the node it was made."""

    number: int
    opener: int
    target: int
    lives: dict[int, int]
    place: str  # prefix of the address reached
    is_answered: bool = False
    admitted: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    silent_ms: dict[int, int] = field(default_factory=dict)

    def other(self, end: int) -> int:
        return self.target if end == self.opener else self.opener


class Ends(Protocol):
    """What the nodes at the ends of lines are to them."""

    def life(self, number: int) -> int: ...
    def is_up(self, number: int) -> bool: ...
    def is_expected(self, number: int, peer: bytes) -> bool: ...
    def asked(self, conn: Conn) -> None: ...
    def lost(self, conn: Conn, end: int) -> None: ...


@dataclass
class _Dial:
    opener: int
    life: int
    peer: bytes
    addresses: tuple[str, ...]
    began_ms: int
    made: Callable[[Conn], None]
    failed: Callable[[str, int], None]
    is_feeler: bool


class Lines:
    """`where`: who listens at an address. `cut`: whether nothing comes from one node to another."""

    def __init__(self, clock: Clockwork, regions: list[int], ends: Ends) -> None:
        self.where: dict[str, int] = {}
        self.cut: Callable[[int, int], bool] = lambda _a, _b: False
        self.standing: set[Conn] = set()
        self._clock, self._regions, self._ends = clock, regions, ends
        self.made = 0
        self._waiting: dict[int, _Dial] = {}  # by connection: a link that was asked for and not answered
        clock.plan(0, self._look)

    def is_cut(self, a: int, b: int) -> bool:
        return self.cut(a, b) or self.cut(b, a)

    def after(self, delay_ms: int, act: Callable[..., None], *arguments: object) -> None:
        self._clock.plan(self._clock.now_us + 1000 * delay_ms, act, *arguments)

    def one_way_ms(self, a: int, b: int) -> int:
        return one_way_ms(self._regions[a], self._regions[b])

    # --- opening

    def dial(
        self, opener: int, peer: bytes, addresses: tuple[str, ...], made: Callable[[Conn], None], failed: Callable[[str, int], None],
        *, is_feeler: bool = False,
    ) -> None:  # fmt: skip
        """Ends in `made` or `failed`, once, unless the opener dies."""
        dial = _Dial(opener, self._ends.life(opener), peer, addresses, self._clock.now_ms, made, failed, is_feeler)
        self._try(dial, 0, "E-PEER-UNREACHABLE")

    def _is_dead(self, dial: _Dial) -> bool:
        return self._ends.life(dial.opener) != dial.life

    def _try(self, dial: _Dial, index: int, code: str) -> None:
        left_ms = dial.began_ms + DIAL_MS - self._clock.now_ms
        if self._is_dead(dial):
            return
        if index >= len(dial.addresses) or left_ms <= 0:
            self.after(1, self._fail, dial, code, 0)
            return
        target = self.where.get(dial.addresses[index])
        if target is None or self.is_cut(dial.opener, target):
            self.after(min(ADDRESS_MS, left_ms), self._try, dial, index + 1, "E-PEER-UNREACHABLE")
        elif not self._ends.is_up(target):
            self.after(2 * self.one_way_ms(dial.opener, target), self._try, dial, index + 1, "E-PEER-UNREACHABLE")
        elif not self._ends.is_expected(target, dial.peer):
            self.after(4 * self.one_way_ms(dial.opener, target), self._try, dial, index + 1, "E-PEER-IDENTITY")
        else:
            self.after(4 * self.one_way_ms(dial.opener, target), self._connected, dial, index, target)

    def _fail(self, dial: _Dial, code: str, retry_after_ms: int) -> None:
        if not self._is_dead(dial):
            dial.failed(code, retry_after_ms)

    def _connected(self, dial: _Dial, index: int, target: int) -> None:
        if self._is_dead(dial):
            return
        if self.is_cut(dial.opener, target) or not self._ends.is_up(target):
            self._try(dial, index + 1, "E-PEER-CLOSED")
            return
        self.made += 1
        lives = {end: self._ends.life(end) for end in (dial.opener, target)}
        conn = Conn(self.made, dial.opener, target, lives, prefix(dial.addresses[index]))
        self.standing.add(conn)
        if dial.is_feeler:
            conn.is_answered = True
            dial.made(conn)
            return
        self._waiting[conn.number] = dial
        self._send(conn, target, self._ends.asked, conn)
        self.after(ANSWER_MS, self._overdue, conn)

    def _send(self, conn: Conn, end: int, act: Callable[..., None], *arguments: object) -> None:
        """To one end from the other, if the line carries it and the end is still there when it comes."""
        source = conn.other(end)
        if not self.cut(source, end):
            self.after(self.one_way_ms(source, end), self._arrive, conn, end, act, arguments)

    def _arrive(self, conn: Conn, end: int, act: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if end not in conn.gone and self._ends.life(end) == conn.lives[end]:
            act(*arguments)

    def answer(self, conn: Conn, code: str = "", retry_after_ms: int = 0) -> None:
        """The target's word on the link that was asked for: nothing but a code is a refusal."""
        self._send(conn, conn.opener, self._answered, conn, code, retry_after_ms)

    def _answered(self, conn: Conn, code: str, retry_after_ms: int) -> None:
        dial = self._waiting.pop(conn.number, None)
        if dial is None:
            return
        conn.is_answered = True
        if code:
            self.close(conn, conn.opener)
            dial.failed(code, retry_after_ms)
        else:
            dial.made(conn)

    def _overdue(self, conn: Conn) -> None:
        dial = self._waiting.pop(conn.number, None)
        if dial is not None and not self._is_dead(dial):
            self.close(conn, conn.opener)
            dial.failed("E-DEADLINE", 0)

    # --- ending

    def close(self, conn: Conn, end: int) -> None:
        """`end` is done with it."""
        if end in conn.gone:
            return
        conn.gone.add(end)
        conn.admitted.discard(end)
        self._send(conn, conn.other(end), self._ended, conn, conn.other(end))
        self._drop_if_over(conn)

    def _ended(self, conn: Conn, end: int) -> None:
        """Nothing comes from the other end any more."""
        if end in conn.gone:
            return
        conn.gone.add(end)
        self._drop_if_over(conn)
        dial = self._waiting.pop(conn.number, None) if end == conn.opener else None
        if end in conn.admitted:
            conn.admitted.discard(end)
            self._ends.lost(conn, end)
        elif dial is not None:
            dial.failed("E-PEER-CLOSED", 0)

    def _drop_if_over(self, conn: Conn) -> None:
        if len(conn.gone) == 2:
            self.standing.discard(conn)

    def crashed(self, number: int, *, silently: bool) -> None:
        """A node is gone with all its ends; its system tells the others, or nobody does."""
        for conn in [conn for conn in self.standing if number in (conn.opener, conn.target) and number not in conn.gone]:
            if silently:
                conn.gone.add(number)
                conn.admitted.discard(number)
                self._drop_if_over(conn)
            else:
                self.close(conn, number)
            if conn.opener == number:
                self._waiting.pop(conn.number, None)

    def _look(self) -> None:
        """Ends that hear nothing for long give up."""
        now_ms = self._clock.now_ms
        for conn in sorted(self.standing, key=lambda conn: conn.number):
            for end in (conn.opener, conn.target):
                other = conn.other(end)
                if end in conn.gone:
                    continue
                if other not in conn.gone and not self.is_cut(conn.opener, conn.target):
                    conn.silent_ms.pop(end, None)
                elif now_ms - conn.silent_ms.setdefault(end, now_ms) >= DEAD_MS:
                    self._ended(conn, end)
        self.after(LOOK_MS, self._look)
