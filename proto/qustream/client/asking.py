"""Operations over several nodes, without input or output (`proto/spec/client.md`, "Asking").

An operation says which nodes to ask (`start`), is told each result as it comes (`completed`) and when nothing has come for a while
(`waited`), and may then want to ask others. The blocking client drives it with threads, the trio client with tasks; whom to ask, what
counts as an answer and when to give up is decided here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from qustream.errors import PeerFault, QuStreamError, fault
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass, NodeRecord
from qustream.transport.greeting import Peer

__all__ = ["HEDGE_MS", "Ask", "Gather", "Operation", "Quorum", "Result", "Suspect", "Tell"]

_T = TypeVar("_T")
Result = bytes | QuStreamError

# An honest node answers in milliseconds, one beyond a satellite within a second: after two, the next rank is asked as well.
HEDGE_MS = 2_000
# Refusals that speak of the asker, not of the node: when all that fail in a class say the same one, it is the answer.
ABOUT_THE_ASKER = frozenset(
    {
        "E-DEVICE-EXPIRED",
        "E-DEVICE-REVOKED",
        "E-DEVICE-UNKNOWN",
        "E-GRANT-EXPIRED",
        "E-GRANT-RUID",
        "E-GRANT-SPENT",
        "E-GRANT-UNKNOWN",
        "E-LIFETIME",
        "E-NOT-HELD",
        "E-NOT-RECIPIENT",
        "E-REGISTRY-UNKNOWN",
        "E-REQUEST-EXPIRED",
        "E-REQUEST-INVALID",
    }
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to one node. `request` makes its bytes for the channel it will travel on: they are bound to it."""

    node: NodeRecord
    request: Callable[[Peer], bytes] = field(repr=False)
    max_answer_bytes: int

    @property
    def id(self) -> bytes:
        """The node's id."""
        return self.node.key.id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it is reached. A path is no address: nobody proves who he is there, and what stands here is what a licensee has said."""
        return tuple(address for address in self.node.addresses if not address.startswith("unix:"))


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node that did not answer as it should, and why. `is_fault`: its answer broke the protocol, which an honest node's never does."""

    node: bytes
    code: str
    detail: str
    is_fault: bool

    def __str__(self) -> str:
        return f"{to_text(IdKind.NODE, self.node)[:14]}… {self.code} ({self.detail})"


def _suspect(ask: Ask, result: Result, error: QuStreamError) -> Suspect:
    """A refusal is a node's right, a broken connection may be nobody's fault; an answer that does not check is the node's."""
    is_fault = isinstance(result, bytes) and isinstance(error, PeerFault)
    return Suspect(ask.id, error.code, error.detail or error.row.meaning, is_fault)


class Operation(ABC):
    """What a driver runs. `patience_ms`: after so long without a result the driver calls `waited`, again and again; None: never."""

    patience_ms: int | None = None

    @abstractmethod
    def start(self) -> list[Ask]:
        """The nodes to ask first."""

    @abstractmethod
    def completed(self, ask: Ask, result: Result) -> list[Ask]:
        """Take the answer, refusal or failure of one ask; returns further nodes to ask."""

    def waited(self) -> list[Ask]:
        """Nothing has come for `patience_ms`; returns further nodes to ask, or makes the operation be over."""
        return []

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether results still under way no longer matter."""


@dataclass
class Quorum(Generic[_T]):
    """The nodes of one class, in the order in which to ask them, of which `need` must answer well. `hedges`: nodes asked beyond
    what is needed, because others took long; `late`: answers that came when there were enough."""

    node_class: NodeClass
    candidates: Sequence[NodeRecord]
    need: int
    answers: dict[bytes, _T] = field(default_factory=dict)
    failed: dict[bytes, Suspect] = field(default_factory=dict)
    asked: int = 0
    hedges: int = 0
    late: int = 0

    @property
    def is_met(self) -> bool:
        return len(self.answers) >= self.need

    @property
    def is_lost(self) -> bool:
        """Whether not even good answers of all who may still answer would do."""
        return len(self.candidates) - len(self.failed) < self.need

    @property
    def under_way(self) -> int:
        return self.asked - len(self.answers) - len(self.failed) - self.late

    def more(self) -> Sequence[NodeRecord]:
        """The next nodes to ask, so that as many are under way as are still needed."""
        missing = self.need + self.hedges - len(self.answers) - self.under_way
        chosen = self.candidates[self.asked : self.asked + max(0, missing)]
        self.asked += len(chosen)
        return chosen

    def hedge(self) -> Sequence[NodeRecord]:
        """One node beyond what is needed, if the class still waits and has one."""
        if not self.is_met and self.asked < len(self.candidates):
            self.hedges += 1
        return self.more()

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """Nodes that failed, and those that had not answered yet."""
        asked = [node.key.id for node in self.candidates[: self.asked]]
        silent = [node for node in asked if node not in self.answers and node not in self.failed]
        return (*self.failed.values(), *(Suspect(node, "E-DEADLINE", "no answer yet when this was decided", False) for node in silent))

    def short(self) -> QuStreamError:
        """Why the class cannot serve, with each node's own reason; in one word where all who failed say the same of the asker."""
        name = NodeClass(self.node_class).name.lower()
        have = f"{len(self.answers)} of the {self.need} {name} nodes needed"
        said = {(suspect.code, suspect.is_fault) for suspect in self.failed.values()}
        code, is_fault = said.pop() if len(said) == 1 else ("", False)
        if code in ABOUT_THE_ASKER and not is_fault:
            details = dict.fromkeys(suspect.detail for suspect in self.failed.values())
            return fault(code, f"{have} gave a block, the others refuse: {'; '.join(details)}")
        reasons = "; ".join(map(str, self.suspects)) or f"the registry has {len(self.candidates)} of different operators to be asked"
        return fault("E-CLASS-SHORT", f"{have} have answered: {reasons}")


class Gather(Operation, Generic[_T]):
    """Get `need` good answers from each class, asking the next rank for every node that fails or is slow.

    `check` turns a node's bytes into an answer or raises; what it raises makes the node a suspect."""

    patience_ms = HEDGE_MS

    def __init__(
        self, quorums: Iterable[Quorum[_T]], *, ask: Callable[[NodeRecord], Ask], check: Callable[[NodeRecord, bytes], _T]
    ) -> None:
        self.quorums = {quorum.node_class: quorum for quorum in quorums}
        self._ask = ask
        self._check = check
        self._left = False

    def start(self) -> list[Ask]:
        return [] if self.is_over else [self._ask(node) for quorum in self.quorums.values() for node in quorum.more()]

    def completed(self, ask: Ask, result: Result) -> list[Ask]:
        quorum = self.quorums[ask.node.node_class]
        if quorum.is_met:
            quorum.late += 1  # of two that were asked at once, the slower
            return []
        try:
            if isinstance(result, QuStreamError):
                raise result
            quorum.answers[ask.id] = self._check(ask.node, result)
        except QuStreamError as error:
            quorum.failed[ask.id] = _suspect(ask, result, error)
        return [] if self._is_lost else [self._ask(node) for node in quorum.more()]

    def waited(self) -> list[Ask]:
        if self._is_lost:
            self._left = True
            return []
        return [self._ask(node) for quorum in self.quorums.values() for node in quorum.hedge()]

    @property
    def _is_lost(self) -> bool:
        return any(quorum.is_lost for quorum in self.quorums.values())

    @property
    def is_over(self) -> bool:
        """When every class has enough; or one cannot get enough any more, and all that were asked have answered or had time to. So
        every node's reason is known, and whoever gives a block after all can be told that it is not needed."""
        quorums = self.quorums.values()
        if self._is_lost:
            return self._left or not any(quorum.under_way for quorum in quorums)
        return all(quorum.is_met for quorum in quorums)

    @property
    def answers(self) -> dict[bytes, _T]:
        return {node: answer for quorum in self.quorums.values() for node, answer in quorum.answers.items()}

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        return tuple(suspect for quorum in self.quorums.values() for suspect in quorum.suspects)

    def require(self) -> dict[bytes, _T]:
        """The answers. Errors: `E-CLASS-SHORT` naming each short class and its nodes' reasons, or what all of them say of the asker."""
        unmet = [quorum for quorum in self.quorums.values() if not quorum.is_met]
        if not unmet:
            return self.answers
        errors = [quorum.short() for quorum in [quorum for quorum in unmet if quorum.is_lost] or unmet]
        same = [error for error in errors if error.code == errors[0].code]
        raise fault(same[0].code, "; ".join(error.detail for error in same))


class Tell(Operation, Generic[_T]):
    """Ask each of these nodes once and keep what each says; with `patience_ms`, until nothing has come for so long."""

    def __init__(
        self,
        nodes: Sequence[NodeRecord],
        *,
        ask: Callable[[NodeRecord], Ask],
        check: Callable[[NodeRecord, bytes], _T],
        patience_ms: int | None = None,
    ) -> None:
        self._nodes = nodes
        self._ask = ask
        self._check = check
        self._left = False
        self.patience_ms = patience_ms
        self.answers: dict[bytes, _T] = {}
        self.errors: dict[bytes, QuStreamError] = {}
        self._suspects: list[Suspect] = []

    def start(self) -> list[Ask]:
        return [self._ask(node) for node in self._nodes]

    def completed(self, ask: Ask, result: Result) -> list[Ask]:
        try:
            if isinstance(result, QuStreamError):
                raise result
            self.answers[ask.id] = self._check(ask.node, result)
        except QuStreamError as error:
            self.errors[ask.id] = error
            self._suspects.append(_suspect(ask, result, error))
        return []

    def waited(self) -> list[Ask]:
        self._left = True
        for node in self._nodes:
            if node.key.id not in self.answers:
                self.errors.setdefault(node.key.id, fault("E-DEADLINE", f"no answer within {self.patience_ms} ms"))
        return []

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """Nodes that answered badly, and those that did not answer."""
        named = {suspect.node for suspect in self._suspects}
        silent = (Suspect(node, e.code, e.detail or e.row.meaning, False) for node, e in self.errors.items() if node not in named)
        return (*self._suspects, *silent)

    @property
    def is_over(self) -> bool:
        return self._left or len(self.answers) + len(self.errors) == len(self._nodes)
