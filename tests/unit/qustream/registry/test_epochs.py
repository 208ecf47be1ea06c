"""Epoch numbers, boundaries and seeds."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.registry.epochs import EpochClock

CLOCK = EpochClock("qustream-test", 1_700_000_000_000, 60_000, bytes(range(32)))


@given(st.integers(CLOCK.genesis_ms, (1 << 63) - 1))
def test_every_moment_lies_in_its_epoch(now_ms):
    epoch = CLOCK.of(now_ms)
    assert epoch.boundary_ms <= now_ms < epoch.boundary_ms + epoch.length_ms
    assert CLOCK.at(epoch.number) == epoch


def test_the_seed_is_the_documented_hash():
    message = b"qustream/1/epoch-seed" + b"qustream-test" + bytes(range(32)) + (7).to_bytes(8, "big")
    assert CLOCK.at(7).seed == hashlib.sha256(message).digest()


def test_seeds_differ_by_epoch_chain_and_seed():
    clocks = [CLOCK, EpochClock("qustream-tesu", 0, 60_000, CLOCK.seed), EpochClock("qustream-test", 0, 60_000, bytes(32))]
    assert len({clock.at(number).seed for clock in clocks for number in range(5)}) == 15


@pytest.mark.parametrize("number", [-1, 1 << 63, 1 << 80])
def test_there_is_no_epoch_outside_time(number):
    with pytest.raises(QuStreamError) as caught:
        CLOCK.at(number)
    assert caught.value.code == "E-REGISTRY-UNKNOWN"


def test_there_is_no_epoch_before_genesis():
    with pytest.raises(QuStreamError) as caught:
        CLOCK.of(CLOCK.genesis_ms - 1)
    assert caught.value.code == "E-CHAIN-STALE"
