"""Spans of time for people."""

from __future__ import annotations

__all__ = ["span_text"]


def span_text(span_ms: int) -> str:
    """A span in the largest unit that still tells something; nothing is negative."""
    minutes = max(0, span_ms) // 60_000
    if minutes < 1:
        return f"{max(0, span_ms) // 1000} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440} days"
