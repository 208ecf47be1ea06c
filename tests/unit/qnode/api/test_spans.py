"""Spans of time in words."""

from __future__ import annotations

import pytest

from qnode.api.spans import span_text


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [
        (-5_000, "0 s"), (0, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (3_599_999, "59 min"), (3_600_000, "1 h 0 min"),
        (9_000_000, "2 h 30 min"), (172_799_999, "47 h 59 min"), (172_800_000, "2 days"), (10**12, "11574 days"),
    ],
)  # fmt: skip
def test_a_span_is_told_in_what_still_tells_something(span_ms: int, text: str) -> None:
    assert span_text(span_ms) == text
