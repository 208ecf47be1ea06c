"""Runs the gossip core: hands it what is heard, performs what it orders (`proto/spec/gossip.md`).

Whatever came together is taken in one go, and what follows from it is queued to all peers before anybody else runs: a message costs no
task and no wake-up of its own. A message that goes to many is encoded once. What judges a topic answers at once, or later: then a few
tasks wait for it, and what is beyond their number waits in the order in which it came (the core bounds how much that can be).
"""

from __future__ import annotations

import math
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TypeAlias

import trio

from qnode.core.gossip import Gossip, step
from qnode.core.gossip_events import (
    Check,
    DelayMeasured,
    Effect,
    Event,
    Expel,
    Heard,
    Judged,
    LinkClosed,
    LinkOpened,
    Misled,
    Published,
    Send,
    Ticked,
    Verdict,
    Wake,
)
from qustream.wire.codec import encode
from qustream.wire.gossip import GossipAnnounce, GossipMessage, GossipPush, Topic

__all__ = ["GossipService", "Judge", "TopicCount", "Verdict"]

HEARTBEAT_S = 1.0  # proto/spec/gossip.md §2
# Judges that take their time and are waited for at once: enough to fill a worker thread's batch while another is under way.
JUDGES_MAX = 64
DRAW_BITS = 64

# (body, who brought it) -> verdict, now or later. It never raises for what the body holds.
Judge: TypeAlias = Callable[[bytes, bytes], "Verdict | Awaitable[Verdict]"]


class TopicCount:
    """Bodies of one topic, and their bytes."""

    __slots__ = ("bytes_in", "bytes_out", "messages_in", "messages_out")

    def __init__(self) -> None:
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0


class GossipService:
    """One node's gossip. `say`: queues encoded gossip for a linked peer, without waiting; False if it had to be dropped. `expel`: the link
    is to be closed, and none made before a time of `clock_ms`, which never goes back and is trio's clock by default."""

    def __init__(
        self,
        *,
        say: Callable[[bytes, bytes], bool],
        expel: Callable[[bytes, int], None],
        judges: Mapping[Topic, Judge],
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self.core = Gossip()
        self.topics = {topic: TopicCount() for topic in Topic}
        self.bad: Counter[Topic] = Counter()
        self.expelled = self.unsent = 0
        self._say, self._expel, self._judges = say, expel, dict(judges)
        self._now_ms = clock_ms or _trio_ms
        self._waiting: deque[tuple[bytes, Topic, Awaitable[Verdict]]] = deque()
        self._judging = 0
        self._nursery: trio.Nursery | None = None
        self._wake_s = math.inf
        self._alarm: trio.CancelScope | None = None

    # -- what happens -----------------------------------------------------------------------------------------------------

    def opened(self, peer: bytes, *, operator: str, ours: bool, assigned: bool) -> None:
        """A peer is linked."""
        self._step(LinkOpened(peer, operator, ours, assigned))

    def closed(self, peer: bytes) -> None:
        """The link is gone. Harmless when repeated."""
        self._step(LinkClosed(peer))

    def measured(self, peer: bytes, delay_ms: int) -> None:
        """How far a linked peer is, one way."""
        self._step(DelayMeasured(peer, delay_ms))

    def misled(self, peer: bytes) -> None:
        """A linked peer has told us elsewhere what is not true: charged as for a bad message."""
        self._step(Misled(peer))

    def heard(self, peer: bytes, messages: Sequence[GossipMessage]) -> None:
        """Take what a linked peer said."""
        now_ms, core = self._now_ms(), self.core
        for message in messages:
            if type(message) is GossipPush:
                count = self.topics[message.topic]
                count.messages_in += 1
                count.bytes_in += len(message.body)
            elif type(message) is GossipAnnounce and not all(news.topic in self._judges for news in message.entries):
                message = self._of_use(message)
                if not message.entries:
                    continue
            if effects := step(core, Heard(peer, message), now_ms):  # at once: who is expelled for it is not heard any further
                self._perform(effects, now_ms)

    def _of_use(self, message: GossipAnnounce) -> GossipAnnounce:
        """Without the news of topics that nobody here judges: their bodies would be pulled in vain, and the news passed on for nothing."""
        return GossipAnnounce(tuple(news for news in message.entries if news.topic in self._judges))

    def publish(self, topic: Topic, body: bytes) -> None:
        """Say something to all nodes. It must be good, new, and no longer than its topic allows."""
        self._step(Published(topic, body))

    # -- running ----------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep time and wait for judges, until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                try:
                    self._nursery.start_soon(self._wake)
                    for _ in self._waiting:
                        self._begin_judging()
                    task_status.started()
                    beat_s = trio.current_time()
                    while True:
                        beat_s = max(beat_s + HEARTBEAT_S, trio.current_time())
                        await trio.sleep_until(beat_s)
                        self._step(Ticked(secrets.randbits(DRAW_BITS)))
                finally:  # at once: a link that ends as well may still have heard something, and nobody judges it any more
                    self._nursery = None
        finally:
            for _, _, verdict in self._waiting:
                if isinstance(verdict, Coroutine):
                    verdict.close()

    async def _wake(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._wake_s) as self._alarm:
                await trio.sleep_forever()
            self._wake_s = math.inf
            self._step(Ticked(secrets.randbits(DRAW_BITS), is_heartbeat=False))

    def _step(self, event: Event) -> None:
        now_ms = self._now_ms()
        self._perform(step(self.core, event, now_ms), now_ms)

    def _perform(self, effects: list[Effect], now_ms: int) -> None:
        """In order; what follows from a verdict that is there at once comes behind the rest."""
        encoded: GossipMessage | None = None
        body = b""
        for effect in effects:  # which grows meanwhile
            kind = type(effect)
            if kind is Send:
                assert isinstance(effect, Send)
                if effect.message is not encoded:
                    encoded, body = effect.message, encode(effect.message)
                self._send(effect, body)
            elif kind is Check:
                assert isinstance(effect, Check)
                verdict = self._judged(effect)
                if verdict is not None:
                    effects += step(self.core, Judged(effect.id, verdict), now_ms)
            elif kind is Expel:
                assert isinstance(effect, Expel)
                self.expelled += 1
                self._expel(effect.peer, effect.until_ms)
            else:
                assert isinstance(effect, Wake)
                self._set_alarm(effect.at_ms - now_ms)

    def _send(self, effect: Send, body: bytes) -> None:
        message = effect.message
        if not self._say(effect.peer, body):
            self.unsent += 1
        elif type(message) is GossipPush:
            count = self.topics[message.topic]
            count.messages_out += 1
            count.bytes_out += len(message.body)

    def _set_alarm(self, in_ms: int) -> None:
        self._wake_s = trio.current_time() + in_ms / 1000
        if self._alarm is not None:
            self._alarm.deadline = self._wake_s

    # -- judges -----------------------------------------------------------------------------------------------------------

    def _judged(self, check: Check) -> Verdict | None:
        """What the judge says now; None if it takes its time. A topic that this version does not know is of no use to it."""
        judge = self._judges.get(check.topic)
        verdict = Verdict.USELESS if judge is None else judge(check.body, check.peer)
        if isinstance(verdict, Verdict):
            self.bad[check.topic] += verdict is Verdict.BAD
            return verdict
        self._waiting.append((check.id, check.topic, verdict))
        self._begin_judging()
        return None

    def _begin_judging(self) -> None:
        if self._nursery is not None and self._waiting and self._judging < JUDGES_MAX:
            self._judging += 1
            self._nursery.start_soon(self._judge_waiting)

    async def _judge_waiting(self) -> None:
        try:
            while self._waiting:
                name, topic, judging = self._waiting.popleft()
                verdict = await judging
                self.bad[topic] += verdict is Verdict.BAD
                self._step(Judged(name, verdict))
        finally:
            self._judging -= 1


def _trio_ms() -> int:
    return int(trio.current_time() * 1000)
