"""Assignment: the shortcut equals the definition, operators are distinct, leaving disturbs nobody else."""

import random
from collections import Counter
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.model.keys import PublicKey
from qustream.model.network import Grant, NodeClass, NodeRecord
from qustream.rules.assignment import PER_CLASS, RANKS, draw, is_assigned, ranked
from qustream.rules.rendezvous import minus_log2

SEED = bytes(range(32))
GRANT = Grant(bytes([7] * 32), bytes(32), bytes(32), 4096, 1, 3, 0, None)
COMMUNITY, FOUNDATION = NodeClass.COMMUNITY, NodeClass.FOUNDATION


def node(number, *, operator=None, node_class=COMMUNITY, weight=1, active=True):
    key = PublicKey(number.to_bytes(32, "big"), bytes(1952))
    return NodeRecord(key, node_class, operator or f"operator {number}", number.to_bytes(16, "big"), (), weight, active)


def defined(nodes, grant, j, node_class, epoch_seed):
    """The words of the specification, without shortcuts."""
    able = [n for n in nodes if n.active and n.node_class is node_class]

    def place(n):
        spent = Fraction(minus_log2(draw(grant, j, node_class, epoch_seed, n.key.id)), n.weight)
        return (n.licence != grant.pinned, spent, n.key.id)

    chosen, operators = [], set()
    for n in sorted(able, key=place):
        if n.operator not in operators:
            operators.add(n.operator)
            chosen.append(n)
    return chosen[:RANKS]


NODES = st.lists(
    st.builds(
        lambda number, operator, community, weight, active: node(
            number,
            operator=f"operator {operator}",
            node_class=COMMUNITY if community else FOUNDATION,
            weight=weight,
            active=active,
        ),
        st.integers(0, 2**40),
        st.integers(0, 12),
        st.booleans(),
        st.one_of(st.just(1), st.integers(1, 1_000_000)),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=40,
    unique_by=lambda n: n.licence,
)


@given(NODES, st.integers(0, 2**20), st.binary(min_size=32, max_size=32), st.randoms(use_true_random=False), st.data())
@settings(max_examples=150, deadline=None)
def test_the_shortcut_equals_the_definition_in_any_order(nodes, j, seed, chance, data):
    pinned = data.draw(st.sampled_from([None, *[n.licence for n in nodes]]))
    grant = msgspec.structs.replace(GRANT, pinned=pinned)
    for node_class in NodeClass:
        wanted = defined(nodes, grant, j, node_class, seed)
        chance.shuffle(nodes)
        assert ranked(iter(nodes), grant, j, node_class, seed) == wanted
        for n in nodes:
            if n.node_class is node_class:
                assert is_assigned(nodes, grant, j, n.key.id, seed) == (n in wanted)


@given(NODES, st.integers(0, 2**20))
@settings(max_examples=100, deadline=None)
def test_a_leaving_node_disturbs_nobody_else(nodes, j):
    before = ranked(nodes, GRANT, j, COMMUNITY, SEED)
    for leaving in nodes:
        after = ranked([n for n in nodes if n is not leaving], GRANT, j, COMMUNITY, SEED)
        if leaving not in before:
            assert after == before
            continue
        # Who stays keeps its order; at most one comes in, and another node of the leaver's operator may step up.
        others = [n for n in before if n is not leaving and n.operator != leaving.operator]
        assert [n for n in after if n in others] == others[: len([n for n in after if n in others])]
        assert len([n for n in after if n not in before]) <= 1
        if len(others) + 1 <= RANKS:
            assert set(others) <= set(after)


def test_a_different_request_class_grant_or_seed_draws_anew():
    n = node(1).key.id
    other_grant = msgspec.structs.replace(GRANT, grant=bytes(32))
    draws = {
        draw(GRANT, 0, COMMUNITY, SEED, n),
        draw(GRANT, 1, COMMUNITY, SEED, n),
        draw(GRANT, 0, FOUNDATION, SEED, n),
        draw(other_grant, 0, COMMUNITY, SEED, n),
        draw(GRANT, 0, COMMUNITY, bytes(32), n),
        draw(GRANT, 0, COMMUNITY, SEED, node(2).key.id),
    }
    assert len(draws) == 6


def test_weights_are_respected():
    nodes = [node(1, weight=1), node(2, weight=2), node(3, weight=4), node(4, weight=1)]
    rounds = 4000
    wins = Counter(ranked(nodes, GRANT, j, COMMUNITY, SEED)[0].weight for j in range(rounds))
    # Eight weights in all. The draws are fixed by the seed; the tolerance is five standard deviations.
    for weight, share in ((1, 2 / 8), (2, 2 / 8), (4, 4 / 8)):
        assert abs(wins[weight] - rounds * share) < 5 * (rounds * share * (1 - share)) ** 0.5


def test_every_node_of_a_large_network_gets_its_share():
    chance = random.Random(1)
    nodes = [node(chance.getrandbits(60)) for _ in range(60)]
    served = Counter(n.licence for j in range(1200) for n in ranked(nodes, GRANT, j, COMMUNITY, SEED)[:PER_CLASS])
    assert len(served) == 60
    assert max(served.values()) < 60 + 5 * 60**0.5
    assert min(served.values()) > 60 - 5 * 60**0.5


def test_a_pinned_licence_is_rank_one_of_its_class_alone():
    nodes = [node(i) for i in range(20)] + [node(i, node_class=FOUNDATION) for i in range(20, 40)]
    plain = ranked(nodes, GRANT, 5, COMMUNITY, SEED)
    last = next(n for n in nodes if n.node_class is COMMUNITY and n not in plain)
    grant = msgspec.structs.replace(GRANT, pinned=last.licence)
    assert ranked(nodes, grant, 5, COMMUNITY, SEED) == [last, *plain[: RANKS - 1]]
    assert ranked(nodes, grant, 5, FOUNDATION, SEED) == ranked(nodes, GRANT, 5, FOUNDATION, SEED)
    asleep = [msgspec.structs.replace(n, active=False) if n is last else n for n in nodes]
    assert ranked(asleep, grant, 5, COMMUNITY, SEED) == plain


def test_a_pinned_licence_takes_the_place_of_its_operator():
    nodes = [node(i, operator="one" if i < 3 else None) for i in range(12)]
    for pinned in nodes[:3]:
        grant = msgspec.structs.replace(GRANT, pinned=pinned.licence)
        winners = ranked(nodes, grant, 9, COMMUNITY, SEED)
        assert winners[0] == pinned
        assert [n.operator for n in winners].count("one") == 1


@pytest.mark.parametrize("count", range(8))
def test_few_operators_give_few_ranks(count):
    nodes = [node(i, operator=f"operator {i % count}") for i in range(3 * count)]
    assert len(ranked(nodes, GRANT, 0, COMMUNITY, SEED)) == min(count, RANKS)


def test_who_is_not_known_or_not_active_is_not_assigned():
    nodes = [node(1), node(2, active=False)]
    assert is_assigned(nodes, GRANT, 0, node(1).key.id, SEED)
    assert not is_assigned(nodes, GRANT, 0, node(2).key.id, SEED)
    assert not is_assigned(nodes, GRANT, 0, node(3).key.id, SEED)


def test_an_epoch_seed_is_32_bytes():
    with pytest.raises(ValueError, match="32 bytes"):
        ranked([node(1)], GRANT, 0, COMMUNITY, b"short")
