"""The handshake under hypothesis: flights that somebody on the path has changed, words that are no TLS or are said under it."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzzing import handshake
from support.fuzzing.vectors import vectors

# A handshake is a dozen operations with lattices; a hundred of them a second.
DEAR = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
FRAMES = [bytes.fromhex(case["frame"]) for case in (*vectors("frames")["control"], *vectors("frames")["rpc"])]
CHANGE = st.tuples(st.sampled_from(range(len(handshake.CHANGES))), st.binary(min_size=1, max_size=12))


@DEAR
@given(st.lists(st.one_of(st.none(), CHANGE), min_size=1, max_size=4))
def test_flights_changed_on_the_path(changes):
    ways = (b"\0" if change is None else bytes([1 + 2 * change[0]]) + change[1] for change in changes)
    handshake.run(bytes([handshake.FLIGHTS]) + b"".join(ways))


@DEAR
@given(
    st.sampled_from([handshake.WORDS, handshake.GREETED_WORDS]),
    st.booleans(),
    st.integers(0, 65_535),
    st.lists(st.one_of(st.sampled_from(FRAMES), st.binary(max_size=40)), max_size=5),
)
def test_words_of_a_peer_that_has_shaken_hands(what, is_client, piece, words):
    handshake.run(bytes([what + 4 * is_client]) + piece.to_bytes(2, "big") + b"".join(words))


@DEAR
@given(
    st.booleans(), st.integers(0, 65_535), st.one_of(st.binary(max_size=300), st.builds(lambda rest: b"\x16\x03\x01" + rest, st.binary()))
)
def test_bytes_that_are_no_tls(is_client, piece, words):
    handshake.run(bytes([handshake.BYTES + 4 * is_client]) + piece.to_bytes(2, "big") + words)
