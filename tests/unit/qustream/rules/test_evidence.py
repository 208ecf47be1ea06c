"""Which two statements prove an offence. The table itself is in the vectors (`tests/vectors/test_rotation.py`)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qustream.rules.evidence import contradicts
from qustream.wire.consensus import Kind

DIGESTS = st.sampled_from([b"\x01" * 32, b"\x02" * 32])


@given(st.sampled_from(Kind), DIGESTS, st.sampled_from(Kind), DIGESTS)
def test_it_does_not_matter_which_comes_first(one: Kind, digest: bytes, other: Kind, other_digest: bytes) -> None:
    assert contradicts(one, digest, other, other_digest) == contradicts(other, other_digest, one, digest)


@given(st.sampled_from(Kind), DIGESTS)
def test_nobody_contradicts_himself_by_saying_it_twice(kind: Kind, digest: bytes) -> None:
    assert not contradicts(kind, digest, kind, digest)


@given(DIGESTS, DIGESTS)
def test_notar_and_skip_is_legal_and_so_is_proposing_one_and_voting_for_another(one: bytes, other: bytes) -> None:
    assert not contradicts(Kind.NOTAR, one, Kind.SKIP, other)
    assert not contradicts(Kind.PROPOSAL, one, Kind.NOTAR, other)
    assert contradicts(Kind.SKIP, one, Kind.FINAL, other)
