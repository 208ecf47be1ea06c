"""What there is to be heard by everybody, and what must never be among it (`sim.explore`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qustream.wire.consensus import NO_DIGEST, Kind, Proposal, header_digest
from sim.explore_model import BASE, COUNT, EVIL, QUORUM, Coming, Local, Model, Said, header, must

__all__ = ["Board", "Boards"]

# Votes that decide together with the evil one's.
ENOUGH = QUORUM - 1


@dataclass(frozen=True)
class Board:
    """`numbers`: for each node, of what there is for it; `blocks`: all that can be heard of; `decided`: what has votes enough; `notarised`:
    blocks that have; `votes`: who of those who obey has said what, and `evil` what else, if votes come one by one."""

    numbers: tuple[int, ...]
    blocks: tuple[bytes, ...]
    decided: frozenset[Said]
    notarised: frozenset[bytes]
    votes: tuple[tuple[Said, int], ...]
    evil: tuple[Said, ...]

    def number(self, local: Local) -> int:
        """Of what there is for this node."""
        return self.numbers[local.core.begun.me or 0]

    def comings(self, local: Local) -> Iterator[Coming]:
        """What can come to this node."""
        for digest in self.blocks:
            yield ("block", digest)
        if self.evil:
            yield ("evil", self.evil)
            yield from (("vote", said, voter) for said, voter in self.votes if voter != local.core.begun.me)
        else:
            yield from (("votes", said, said in local.said) for said in sorted(self.decided))


class Boards:
    """All there have been, each looked at once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[tuple[object, ...], Board] = {}
        self._blocks: dict[frozenset[bytes], tuple[bytes, ...]] = {}
        self._numbers: dict[tuple[object, ...], int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Board]:
        return iter(self._known.values())

    def of(self, nodes: Sequence[Local]) -> Board:
        """With what these have said."""
        counts: dict[Said, int] = {}
        for node in nodes:
            for said in node.said:
                counts[said] = counts.get(said, 0) + 1
        decided = frozenset(said for said, count in counts.items() if count >= ENOUGH and said[1] is not Kind.PROPOSAL)
        built = frozenset(digest for _, kind, digest in counts if kind is Kind.PROPOSAL)
        votes: tuple[tuple[Said, int], ...] = ()
        if self._model.setting.single:
            votes = tuple(sorted((said, node.core.begun.me or 0) for node in nodes for said in node.said if said[1] is not Kind.PROPOSAL))
        key = (decided, built, votes)
        board = self._known.get(key)
        if board is None:
            board = self._known[key] = self._made(decided, built, votes)
        return board

    def _made(self, decided: frozenset[Said], built: frozenset[bytes], votes: tuple[tuple[Said, int], ...]) -> Board:
        blocks = self._blocks.get(built)
        if blocks is None:
            blocks = self._blocks[built] = (*sorted(built), *self._invented(built))
        notarised = frozenset(digest for _, kind, digest in decided if kind is not Kind.SKIP)
        self._look_at(decided, notarised)
        evil = tuple(self._evil_votes(blocks)) if self._model.setting.single else ()
        heard = [tuple(each for each in votes if each[1] != node) for node in range(COUNT)]
        numbers = tuple(self._numbers.setdefault((built, decided if not evil else (), each), len(self._numbers)) for each in heard)
        return Board(numbers, blocks, decided, notarised, votes, evil)

    def _invented(self, built: frozenset[bytes]) -> Iterator[bytes]:
        """The evil one's: on each block there is, in each view that it leads."""
        model, setting = self._model, self._model.setting
        parents = [(BASE.digest, 0, BASE.height)]
        parents += [(each, made.view, made.height) for each in sorted(built) for made in [model.blocks[each].header]]
        for view, leader in enumerate(setting.leads[: setting.views], 1):
            for parent, parent_view, height in list(parents):
                for variant in range(setting.variants if leader == EVIL and parent_view < view else 0):
                    made = header(view, parent, parent_view, height + 1, variant, EVIL)
                    digest = header_digest(made)
                    model.blocks[digest] = Proposal(made, (), b"0")
                    parents.append((digest, view, height + 1))
                    yield digest

    def _evil_votes(self, blocks: Sequence[bytes]) -> Iterator[Said]:
        for view in range(1, self._model.setting.views + 1):
            yield view, Kind.SKIP, NO_DIGEST
        for digest in sorted(blocks):
            view = self._model.blocks[digest].header.view
            yield from ((view, Kind.NOTAR, digest), (view, Kind.FINAL, digest))

    # --- what must never be

    def _look_at(self, decided: frozenset[Said], notarised: frozenset[bytes]) -> None:
        for digest in notarised:
            parent = self._model.blocks[digest].header.parent
            must(parent == BASE.digest or parent in notarised, "a block is notarised, and its parent is not")
        for view in range(1, self._model.setting.views + 1):
            ours = {digest for at, kind, digest in decided if at == view and kind is Kind.NOTAR}
            final = {digest for at, kind, digest in decided if at == view and kind is Kind.FINAL}
            must(len(ours) <= 1, f"two blocks of view {view} are notarised")
            must(len(final) <= 1 and final <= ours, f"what is final in view {view} is not what is notarised")
            must(not (final and (view, Kind.SKIP, NO_DIGEST) in decided), f"view {view} is final and skipped")
            later = [digest for at, kind, digest in decided if at > view and kind is Kind.NOTAR]
            for digest in final:
                stand = all(self._stands_on(other, digest, view) for other in later)
                must(stand, f"what is notarised leaves out what is final in {view}")
        if any(kind is Kind.SKIP for _, kind, _ in decided):
            self._model.reached.add("skipped")

    def _stands_on(self, digest: bytes, below: bytes, view: int) -> bool:
        blocks = self._model.blocks
        while (block := blocks.get(digest)) is not None and block.header.view > view:
            digest = block.header.parent
        return digest == below
