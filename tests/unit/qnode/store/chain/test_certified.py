"""Which states are held, and for how long."""

import msgspec
import pytest
from support.stored_chain import StoredChain, certificate

from qnode.core.consensus_events import Final
from qnode.store.chain import certified
from qustream.errors import fault
from qustream.wire.consensus import header_digest


@pytest.fixture
def chain(tmp_path):
    chain = StoredChain(tmp_path / "chain")
    yield chain
    chain.store.close()


def readings(chain) -> int:
    return len(chain.store._environment._readings)


def test_no_more_states_are_held_than_wait_to_be_named(chain):
    for _ in range(12):
        chain.block()
    # Heights 9 (certified), 10, 11, 12: a header names what is three below.
    assert chain.store.certified().height == 9
    assert readings(chain) == 4


def test_a_block_is_executed_though_nobody_more_can_look_at_the_chain(chain, monkeypatch):
    def full():
        raise fault("E-PEER-LIMIT", "too many look at the chain just now")

    for _ in range(5):
        chain.block()
    with monkeypatch.context() as patched:
        patched.setattr(chain.store._environment, "read", full)
        chain.block()
    assert chain.store.executed.height == 6
    for _ in range(6):
        chain.block()
    assert chain.store.certified().height == 9
    chain.audit()


def test_a_view_outlasts_the_state_s_time(chain):
    for _ in range(4):
        chain.block()
    view = chain.store.certified()
    for _ in range(6):
        chain.block()
    assert view.height == 1
    assert view.get(b"\x02") is not None
    held = readings(chain)
    view.close()
    view.close()
    assert readings(chain) == held - 1


def test_after_a_start_there_is_none_until_one_is_named(chain):
    for _ in range(6):
        chain.block()
    chain.reopen()
    heights = []
    for _ in range(4):
        heights.append(getattr(chain.store.certified(), "height", None))
        chain.block()
    assert heights == [None, None, None, 6]


def test_a_state_that_was_named_before_it_was_executed(chain):
    """As when a node catches up: the header that names it is here first."""
    for _ in range(4):
        chain.block()
    other = StoredChain(chain.directory.parent / "other", chain.world.__class__())
    other.finalise(*chain.blocks)
    for block in chain.blocks:
        other.raws |= chain.raws
        changes, progress, done = other.changes(block)
        other.store.execute(changes, progress, done.receipts)
        named = max(each.header.executed for each in chain.blocks)
        assert getattr(other.store.certified(), "height", None) == (None if progress.height < 0 else min(progress.height, named))
    other.store.close()


def test_a_chain_whose_headers_lag_holds_a_bounded_number(chain, monkeypatch):
    monkeypatch.setattr(certified, "PENDING_MAX", 5)
    for _ in range(3):
        chain.block()
    lagging = chain.store.final.header.executed
    for _ in range(20):
        block = chain.next_block([])
        header = msgspec.structs.replace(block.header, executed=lagging, executed_root=chain.store.root(lagging))
        block = Final(header_digest(header), header, ())
        chain.store.finalise([block], certificate(header)).result()
        chain.blocks.append(block)
        chain.execute(block)
    assert readings(chain) <= 6
    for _ in range(4):
        chain.block()
    assert chain.store.certified() is not None
    assert chain.store.certified().height > lagging
