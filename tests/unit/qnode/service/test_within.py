"""Which addresses may lead into a local network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from qnode.service.within import Within, is_local_number

PEER, OTHER = b"p" * 32, b"o" * 32
HOME = "192.168.1.7:7400"


def linked(*remotes: str, ours: bool = True) -> Any:
    """A hub with links to these."""
    return SimpleNamespace(links=[SimpleNamespace(ours=ours, connection=SimpleNamespace(remote=remote)) for remote in remotes])


def registry(own: tuple[str, ...] | None = None) -> Any:
    """That knows one peer; and this node, with these addresses."""
    listed = {PEER: SimpleNamespace(addresses=(HOME,))}
    return SimpleNamespace(get=listed.get, own=None if own is None else SimpleNamespace(addresses=own))


KNOWN = registry()


def test_a_network_file_vouches_for_what_it_says() -> None:
    assert Within(linked(), KNOWN, (), None).local(PEER) is None
    assert Within(linked("9.9.9.9:7400"), KNOWN, (), None).local(PEER) == (HOME,)
    assert Within(linked("9.9.9.9:7400"), KNOWN, (), None).local(OTHER) == ()
    assert Within(linked("9.9.9.9:7400", HOME), KNOWN, (), None).local(OTHER) is None


def test_on_a_chain_genesis_and_the_configuration_alone_do_even_before_there_is_a_link() -> None:
    vouched = {OTHER: (HOME,)}
    for hub in (linked(), linked("9.9.9.9:7400"), linked(HOME, ours=False), linked("")):
        within = Within(hub, KNOWN, (), vouched)
        assert (within.local(PEER), within.local(OTHER), within.is_sure) == ((), (HOME,), False)


@pytest.mark.parametrize(("hub", "told"), [(linked(HOME), ()), (linked(), ("node.example:7400", "10.0.0.9:7400"))])
def test_a_node_in_a_local_network_reaches_whoever_is_there(hub: Any, told: tuple[str, ...]) -> None:
    within = Within(hub, KNOWN, told, {})
    assert (within.local(PEER), within.is_sure) == (None, True)


def test_what_is_registered_of_a_node_is_its_own_word() -> None:
    """Or those who have moved within a local network, and only heard from others since, would never reach each other."""
    within = Within(linked(HOME, ours=False), registry(("10.0.0.9:7400",)), (), {})
    assert (within.local(PEER), within.is_sure) == (None, True)
    within = Within(linked(HOME, ours=False), registry(("9.9.9.9:7400", "node.example:7400")), (), {})
    assert (within.local(PEER), within.is_sure) == ((), False)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1:1", True), ("10.1.2.3:7400", True), ("[fd00::1]:7400", True), ("[::ffff:192.168.0.1]:7400", True),
        ("9.9.9.9:7400", False), ("[2600::1]:7400", False), ("localhost:7400", False), ("node.example:7400", False),
        ("unix:/run/x", False), ("rubbish", False), ("", False),
    ],
)  # fmt: skip
def test_a_name_is_no_number(address: str, is_local: bool) -> None:
    assert is_local_number(address) is is_local
