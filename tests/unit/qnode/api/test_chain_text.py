"""Ids, actions and events as text."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from support.every_action import ACCOUNT, ACTIONS, LICENCE, NODE, OTHER, USER
from support.ledger_world import voter

from qnode.api.chain_text import action_name, event_line, fields_of, hex_or_empty
from qnode.core.ledger.actions import RULES
from qustream.model.ids import IdKind, licence_text, to_text
from qustream.model.receipt import LedgerEvent
from qustream.wire.chain_entries import amount


def test_every_action_has_a_name_and_fields_without_proofs() -> None:
    assert {type(action) for action in ACTIONS} == set(RULES)
    for action in ACTIONS:
        shown = json.loads(msgspec.json.encode(fields_of(action)))
        assert not {name for name in shown if "proof" in name or "consent" in name or "signature" in name}
        assert len(json.dumps(shown)) < 1000, type(action)
    assert [action_name(action) for action in ACTIONS[:3]] == ["transfer", "activate", "retire"]
    assert len({action_name(action) for action in ACTIONS}) == 24


def test_ids_in_actions_say_what_they_are_of() -> None:
    shown = {action_name(action): fields_of(action) for action in ACTIONS}
    assert shown["transfer"] == {"to": to_text(IdKind.ACCOUNT, ACCOUNT), "amount": amount(5)}
    assert shown["activate"]["node"] == to_text(IdKind.NODE, NODE.id)
    assert shown["register-validator"]["vote_key"] == hashlib.sha256(voter(1).public).hexdigest()
    assert (shown["buy-grant"]["user"], shown["buy-grant"]["pinned"]) == (to_text(IdKind.USER, USER.master.id), licence_text(LICENCE))
    assert shown["register-user"]["devices"] == [to_text(IdKind.DEVICE, bytes(32))]
    assert shown["merge-users"] == {"master": to_text(IdKind.USER, USER.master.id), "into": to_text(IdKind.USER, OTHER.master.id)}
    assert shown["undelegate"]["shares"] == "7"
    assert shown["double-sign"]["first"]["kind"] == "notar"


@pytest.mark.parametrize(
    ("event", "subject", "other"),
    [
        (LedgerEvent("transferred", ACCOUNT, bytes(20), 5), to_text(IdKind.ACCOUNT, ACCOUNT), to_text(IdKind.ACCOUNT, bytes(20))),
        (LedgerEvent("licence-activated", LICENCE, NODE.id, 0), licence_text(LICENCE), to_text(IdKind.NODE, NODE.id)),
        (LedgerEvent("grant-sold", bytes(32), USER.master.id, 5), to_text(IdKind.GRANT, bytes(32)), to_text(IdKind.USER, USER.master.id)),
        (LedgerEvent("nobody-knows", bytes(32), b"\x01", 0), "00" * 32, "01"),
        (LedgerEvent("burned", b"", b"", 5), "", ""),
    ],
)
def test_events_say_whom_they_are_about(event: LedgerEvent, subject: str, other: str) -> None:
    line = event_line(event)
    assert (line.subject, line.other, line.amount, line.number) == (subject, other, amount(event.amount), None)


def test_a_time_is_no_money() -> None:
    line = event_line(LedgerEvent("validator-suspended", LICENCE, bytes(32), 1_700_000_000_000))
    assert (line.amount, line.number) == (None, 1_700_000_000_000)


def test_zeros_stand_for_nothing() -> None:
    assert (hex_or_empty(bytes(32)), hex_or_empty(b"\x00\x01")) == ("", "0001")
