"""Hash chains: every link is found, whatever was asked before."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.identity.reveals import LINKS_MAX, HashChain
from qustream.rules.rotation import anchor_of

SEED = bytes(range(32))


def links_of(chain: HashChain) -> list[bytes]:
    """The whole chain, the anchor first."""
    found = [chain.anchor]
    while (reveal := chain.reveal(found[-1])) is not None:
        assert anchor_of(reveal) == found[-1]
        found.append(reveal)
    return found


@pytest.mark.parametrize("links", [*range(1, 27), 100, 101, 1024])
def test_every_length_reveals_as_often_as_it_says(links: int) -> None:
    chain = HashChain(SEED, links)
    found = links_of(chain)
    assert len(found) == links + 1
    assert [chain.left(link) for link in found] == list(range(links, -1, -1))


@given(st.integers(1, 60), st.lists(st.integers(0, 60), max_size=12))
def test_links_are_found_in_any_order(links: int, asked: list[int]) -> None:
    found = links_of(HashChain(SEED, links))
    chain = HashChain(SEED, links)
    for number in asked:
        place = min(number, links)
        assert chain.reveal(found[place]) == (found[place + 1] if place < links else None)


def test_what_is_no_link_has_no_preimage() -> None:
    chain = HashChain(SEED, 50)
    for stranger in (bytes(32), HashChain(bytes(32), 50).anchor, anchor_of(chain.anchor), b""):
        assert chain.reveal(stranger) is None
        assert chain.left(stranger) is None
    chain.reveal(chain.anchor)
    assert chain.left(anchor_of(chain.anchor)) is None


def test_it_keeps_the_root_of_its_length() -> None:
    chain = HashChain(SEED, 10_000)
    links_of(chain)
    assert len(chain._kept) + len(chain._stretch) <= 2 * 100 + 2


def test_what_is_no_chain() -> None:
    for seed, links in ((b"short", 5), (SEED, 0), (SEED, LINKS_MAX + 1)):
        with pytest.raises(ValueError, match="hash chain"):
            HashChain(seed, links)


def test_it_tells_nobody_its_secret() -> None:
    chain = HashChain(SEED, 5)
    assert repr(chain) == f"<HashChain {chain.anchor.hex()[:12]}>"
    with pytest.raises(TypeError):
        pickle.dumps(chain)
