"""Operations over several nodes, without input or output (`proto/spec/client.md`).

An operation says which nodes to ask (`start`), is told each result as it comes (`completed`), and may then want to ask others. The
blocking client drives it with threads, the trio client with tasks; what is asked, what counts as an answer and when to give up is
decided here, once.
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

__all__ = ["Ask", "Gather", "Operation", "Quorum", "Suspect", "Tell"]

_T = TypeVar("_T")


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


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node that did not answer as it should, and why. `is_fault`: its answer broke the protocol, which an honest node's never does."""

    node: bytes
    code: str
    detail: str
    is_fault: bool

    def __str__(self) -> str:
        return f"{to_text(IdKind.NODE, self.node)[:16]}… {self.code} ({self.detail})"


class Operation(ABC):
    """What a driver runs."""

    @abstractmethod
    def start(self) -> list[Ask]:
        """The nodes to ask first."""

    @abstractmethod
    def completed(self, ask: Ask, result: bytes | QuStreamError) -> list[Ask]:
        """Take the answer, refusal or failure of one ask; returns further nodes to ask."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether results still under way no longer matter."""


@dataclass
class Quorum(Generic[_T]):
    """The nodes of one class, in the order in which to ask them, of which `need` must answer well."""

    node_class: NodeClass
    candidates: Sequence[NodeRecord]
    need: int
    answers: dict[bytes, _T] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    asked: int = 0

    @property
    def is_met(self) -> bool:
        return len(self.answers) >= self.need

    @property
    def is_lost(self) -> bool:
        return not self.is_met and self.asked == len(self.candidates) and self.under_way == 0

    @property
    def under_way(self) -> int:
        return self.asked - len(self.answers) - len(self.suspects)

    def more(self) -> Sequence[NodeRecord]:
        """The next nodes to ask, so that as many are under way as are still needed."""
        missing = self.need - len(self.answers) - self.under_way
        chosen = self.candidates[self.asked : self.asked + max(0, missing)]
        self.asked += len(chosen)
        return chosen

    def short(self) -> QuStreamError:
        """Why the class cannot serve, with each node's own reason."""
        name = NodeClass(self.node_class).name.lower()
        reasons = "; ".join(map(str, self.suspects)) or "no node of this class is assigned"
        return fault("E-CLASS-SHORT", f"{len(self.answers)} of the {self.need} {name} nodes needed have answered: {reasons}")


class Gather(Operation, Generic[_T]):
    """Get `need` good answers from each class, asking the next rank for every node that fails.

    `check` turns a node's bytes into an answer or raises; what it raises makes the node a suspect."""

    def __init__(
        self, quorums: Iterable[Quorum[_T]], *, ask: Callable[[NodeRecord], Ask], check: Callable[[NodeRecord, bytes], _T]
    ) -> None:
        self.quorums = {quorum.node_class: quorum for quorum in quorums}
        self._ask = ask
        self._check = check

    def start(self) -> list[Ask]:
        return [self._ask(node) for quorum in self.quorums.values() for node in quorum.more()]

    def completed(self, ask: Ask, result: bytes | QuStreamError) -> list[Ask]:
        quorum = self.quorums[ask.node.node_class]
        error = result if isinstance(result, QuStreamError) else None
        if isinstance(result, bytes):
            try:
                quorum.answers[ask.id] = self._check(ask.node, result)
            except QuStreamError as bad:
                error = bad
        if error is not None:
            # A refusal is the node's right; only an answer that does not check is a fault of the node.
            is_fault = isinstance(result, bytes) and isinstance(error, PeerFault)
            quorum.suspects.append(Suspect(ask.id, error.code, error.detail or error.row.meaning, is_fault))
        return [] if self.is_over else [self._ask(node) for node in quorum.more()]

    def ask_more(self, node_class: NodeClass) -> list[Ask]:
        """Ask one node more of a class than was needed so far; nothing when none is left."""
        quorum = self.quorums[node_class]
        if quorum.asked < len(quorum.candidates):
            quorum.need += 1
        return [self._ask(node) for node in quorum.more()]

    @property
    def is_over(self) -> bool:
        quorums = self.quorums.values()
        return all(q.is_met for q in quorums) or any(q.is_lost for q in quorums)

    @property
    def answers(self) -> dict[bytes, _T]:
        return {node: answer for quorum in self.quorums.values() for node, answer in quorum.answers.items()}

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        return tuple(suspect for quorum in self.quorums.values() for suspect in quorum.suspects)

    def require(self) -> dict[bytes, _T]:
        """The answers. Errors: `E-CLASS-SHORT` naming the class and each of its nodes' reasons."""
        for quorum in self.quorums.values():
            if not quorum.is_met:
                raise quorum.short()
        return self.answers


class Tell(Operation, Generic[_T]):
    """Ask each of these nodes once and keep what each says."""

    def __init__(self, nodes: Sequence[NodeRecord], *, ask: Callable[[NodeRecord], Ask], check: Callable[[NodeRecord, bytes], _T]) -> None:
        self._nodes = nodes
        self._ask = ask
        self._check = check
        self.answers: dict[bytes, _T] = {}
        self.errors: dict[bytes, QuStreamError] = {}

    def start(self) -> list[Ask]:
        return [self._ask(node) for node in self._nodes]

    def completed(self, ask: Ask, result: bytes | QuStreamError) -> list[Ask]:
        try:
            if isinstance(result, QuStreamError):
                raise result
            self.answers[ask.id] = self._check(ask.node, result)
        except QuStreamError as error:
            self.errors[ask.id] = error
        return []

    @property
    def is_over(self) -> bool:
        return len(self.answers) + len(self.errors) == len(self._nodes)
