"""What came in the second half of a probe's time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qnode.core.bulk_meter import ARRIVALS_MAX, Meter


def test_a_slow_start_is_left_out() -> None:
    meter = Meter(0)
    for second in range(1, 5):  # a byte a second, then a hundred
        meter.took(1 if second <= 2 else 100, second * 1_000_000)
    assert meter.size == 202
    assert meter.late() == (200, 2_000_000)


def test_nothing_and_a_single_message_measure_nothing() -> None:
    meter = Meter(5)
    assert meter.late() == (0, 0)
    meter.took(10, 6)
    assert meter.late() == (0, 0)


@given(st.lists(st.tuples(st.integers(1, 1 << 18), st.integers(0, 10_000)), max_size=50), st.integers(0, 1 << 40))
def test_the_second_half_is_a_part_of_the_whole(messages: list[tuple[int, int]], began_us: int) -> None:
    meter, now_us = Meter(began_us), began_us
    for size, pause_us in messages:
        now_us += pause_us
        meter.took(size, now_us)
    size, time_us = meter.late()
    assert 0 <= size <= meter.size == sum(size for size, _ in messages)
    assert 0 <= time_us <= now_us - began_us
    if len(messages) > 1:
        assert 2 * time_us >= now_us - began_us


def test_tiny_messages_do_not_grow_it() -> None:
    meter = Meter(0)
    for number in range(ARRIVALS_MAX + 1000):
        meter.took(1, number)
    assert len(meter._times) == ARRIVALS_MAX
    assert meter.size == ARRIVALS_MAX + 1000
