"""What things of the chain are called: `proto/spec/ledger.md`. Values of another implementation: `tests/vectors/test_ledger.py`."""

from __future__ import annotations

import hashlib

from qustream.model.state import IncidentKind, Seat
from qustream.wire.chain import grant_id, incident_id, leaders_seed, next_fold, rotation_set_hash

L, H = bytes(range(16)), bytes(range(32))
SEATS = (Seat(L, H, 5, True), Seat(bytes(16), H, 5, False))


def test_names_are_digests_over_a_label_and_what_is_named():
    assert grant_id(H) == hashlib.sha256(b"\x13qustream/1/grant-id" + H).digest()
    assert next_fold(H, L) == hashlib.sha256(b"\x0fqustream/1/fold" + H + L).digest()
    assert leaders_seed(H) == hashlib.sha256(b"\x17qustream/1/leaders-seed" + H).digest()


def test_an_offence_is_one_a_licence_rotation_and_kind():
    one = incident_id(IncidentKind.DOUBLE_SIGN, L, 3)
    assert one == hashlib.sha256(b"\x13qustream/1/incident" + b"\x01" + L + (3).to_bytes(8, "big")).digest()
    others = [(IncidentKind.MISSED_PROPOSALS, L, 3), (IncidentKind.DOUBLE_SIGN, bytes(16), 3), (IncidentKind.DOUBLE_SIGN, L, 4)]
    assert len({one, *(incident_id(*each) for each in others)}) == 4


def test_a_set_is_its_number_seats_order_and_seed():
    first = rotation_set_hash(2, SEATS, H)
    others = [(3, SEATS, H), (2, SEATS[::-1], H), (2, SEATS[:1], H), (2, SEATS, bytes(32))]
    assert len({first, *(rotation_set_hash(*each) for each in others)}) == 5
    assert first == rotation_set_hash(2, list(SEATS), H)
