"""Which certificates stay, and which go."""

import msgspec
import pytest
from support.stored_chain import StoredChain, certificate, proposal_of

from qnode.core.consensus_events import Final
from qnode.store.chain import votes
from qustream.wire.consensus import NO_DIGEST, Kind, header_digest


@pytest.fixture
def chain(tmp_path, monkeypatch):
    monkeypatch.setattr(votes, "KEPT_EVERY_BLOCKS", 4)
    monkeypatch.setattr(votes, "KEPT_VIEWS", 6)
    chain = StoredChain(tmp_path / "chain")
    yield chain
    chain.store.close()


def test_one_finalisation_in_so_many_is_kept_and_the_newest(chain):
    for _ in range(23):
        chain.block()
    # The first, then those of 4, 8, …, 20, and the newest.
    found = {height: chain.store.finalisation_at(height)[0] for height in range(1, 24)}
    assert found == {height: 1 if height == 1 else min(23, -(-height // 4) * 4) for height in range(1, 24)}
    for height, kept in found.items():
        assert chain.store.finalisation(height).digest == chain.store.block_at(kept).digest
    assert chain.store.finalisation(24) is None


def test_a_batch_that_passes_a_multiple_is_kept(chain):
    chain.block()
    blocks, before = [], chain.store.final
    for _ in range(8):
        header = msgspec.structs.replace(
            chain.blocks[-1].header, height=before.height + 1, parent=before.digest, view=before.height + 1, executed=0,
            executed_root=chain.store.root(0),
        )  # fmt: skip
        blocks.append(Final(header_digest(header), header, ()))
        before = msgspec.structs.replace(before, height=header.height, digest=blocks[-1].digest, header=header)
    chain.finalise(*blocks)
    assert [chain.store.finalisation_at(height)[0] for height in (1, 2, 9)] == [1, 9, 9]


def test_proposals_and_certificates_go_some_views_later(chain):
    for _ in range(20):
        block = chain.next_block([])
        for kind in (Kind.NOTAR, Kind.SKIP):
            chain.store.keep(certificate(block.header, kind, NO_DIGEST if kind is Kind.SKIP else None)).result()
        chain.block()
    assert min(message.header.view for message in chain.store.kept(1) if hasattr(message, "header")) == 14
    assert {message.view for message in chain.store.kept(1) if hasattr(message, "view")} == set(range(14, 21))
    for block in chain.blocks:
        assert (chain.store.proposal(block.digest) is not None) == (block.header.view >= 14)
    assert chain.store.certificate(1, 3, Kind.NOTAR, NO_DIGEST) is None
    assert chain.store.finalisation_at(1)[0] == 1  # a copy of its own


def ended(chain):
    """A rotation that is over, and what ended it."""
    for _ in range(9):
        chain.block()
    chain.block(after_ms=3_600_000)
    assert chain.store.executed.over
    return chain.store.finalisation(10)


def test_how_a_rotation_ended_is_known_at_once_and_for_ever(chain):
    assert chain.store.end_of(1) is None
    end = ended(chain)
    assert chain.store.end_of(1) == end
    assert chain.store.tail_of(1) == ()
    for _ in range(20):
        chain.block()
        chain.reopen()
        assert chain.store.end_of(1) == end
        assert chain.store.end_of(2) is None
    assert chain.store.kept(1) == []


def test_the_last_views_of_a_rotation_outlast_its_end(chain):
    """Who is still in it asks for them."""
    ended(chain)
    for _ in range(3):
        chain.block()
    assert {message.header.view for message in chain.store.kept(1) if hasattr(message, "header")} == set(range(4, 11))


def test_what_stands_between_a_boundary_block_and_its_finalisation_is_kept(chain):
    for _ in range(3):
        chain.block()
    boundary = chain.next_block([], after_ms=3_600_000)
    chain.store.keep(proposal_of(boundary)).result()
    between, parent = [], boundary
    for _ in range(2):
        header = msgspec.structs.replace(
            parent.header,
            parent=parent.digest,
            parent_view=parent.header.view,
            view=parent.header.view + 1,
            time_ms=parent.header.time_ms + 9,
        )
        parent = Final(header_digest(header), header, ())
        between.append(header)
        chain.store.keep(proposal_of(parent)).result()
    chain.store.finalise([boundary], certificate(between[-1])).result()
    chain.blocks.append(boundary)
    assert (chain.store.final.height, chain.store.final.digest) == (4, boundary.digest)
    assert chain.store.end_of(1) == certificate(between[-1])
    assert chain.store.tail_of(1) == tuple(between)
    chain.execute(boundary)
    for _ in range(12):
        chain.block()
    assert chain.store.end_of(1) == certificate(between[-1])
    assert chain.store.tail_of(1) == tuple(between)
