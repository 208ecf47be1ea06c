"""The targets of `scripts/soak fuzz` on their seeds and on some mutations of them, drawn from a fixed seed; and that they would notice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from support.fuzzing import gossip, handshake, peers, records, transactions
from support.fuzzing.mutation import mutants
from support.fuzzing.targets import NAMES, target

from qnode.core.gossip import _HANDLERS, Gossip
from qnode.core.gossip_events import Check, Judged, Verdict
from qnode.core.ledger import signatures
from qnode.core.peers import Peers
from qnode.service import peers_records
from qustream.transport import engine

# Mutations of each, by what one run costs: some seconds in all.
COUNTS = {"decoders": 3000, "frames": 400, "gossip": 400, "handshake": 100, "pages": 60, "peers": 150, "records": 150, "transactions": 1500}


@pytest.mark.parametrize("name", NAMES)
def test_no_mutation_of_what_is_known_breaks_it(name: str) -> None:
    found = target(name)
    for data in mutants(found.seeds(), COUNTS[name], random.Random(name)):
        try:
            found.run(data)
        except BaseException as error:
            raise AssertionError(f"{name} fails on {data.hex()[:2000]}") from error


def notices(run: Callable[[bytes], None], seeds: list[bytes]) -> bool:
    for data in mutants(seeds, 300, random.Random(1)):
        try:
            run(data)
        except AssertionError:
            return True
    return False


def test_gossip_that_passes_on_what_is_bad_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(core: Gossip, event: Judged, now_ms: int) -> None:
        core.judged(Judged(event.id, Verdict.GOOD), now_ms)

    monkeypatch.setitem(_HANDLERS, Judged, judged)
    assert notices(gossip.run, gossip.seeds())


def test_gossip_that_has_everything_checked_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(core: Gossip) -> list[object]:
        out, core._out = core._out, []
        return [*out, *(effect for effect in out if isinstance(effect, Check))]

    monkeypatch.setattr(Gossip, "take_effects", take)
    assert notices(gossip.run, gossip.seeds())


def test_a_peer_that_gets_no_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peers, "_refuse", lambda *_: None)
    assert notices(peers.run, peers.seeds())


def test_places_without_a_bound_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qnode.core.peers_places.INBOUND_OPERATOR_MAX", 1000)
    monkeypatch.setattr("qnode.core.peers_limits.INBOUND_MAX", 1000)
    monkeypatch.setattr("support.fuzzing.peers.limits", type("Limits", (), {**vars(peers.limits), "INBOUND_MAX": 24}))
    assert notices(peers.run, peers.seeds())


def test_a_record_whose_signature_nobody_looks_at_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_records, "verify", lambda *_: True)
    assert notices(records.run, records.seeds())


def test_a_hello_that_nobody_verifies_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def greet(self: engine.Engine, message: engine.Hello) -> engine.Established:
        self.peer = engine.Peer(bytes(32), None, message, b"")
        self._move("greeted")
        return engine.Established(self.peer)

    monkeypatch.setattr(engine.Engine, "_greet", greet)
    assert notices(handshake.run, handshake.seeds())


def test_a_sender_whose_signature_nobody_looks_at_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "claims", lambda *given: signatures.claims(*given)[1:])
    assert notices(transactions.run, transactions.seeds())
