"""Reports as JSON."""

from __future__ import annotations

import json

import pytest

from qustream.cli.machine import as_json, print_json
from qustream.client.asking import Suspect
from qustream.client.reports import BlockReport, Encrypted, ErasureReport, Opened, Report, Revoked
from qustream.errors import fault
from qustream.model.network import NodeClass

BLOCK = BlockReport(
    node=bytes(32),
    node_class=NodeClass.FOUNDATION,
    operator="o",
    server=b"s" * 32,
    server_name="lab",
    device="d",
    emulated=True,
    attested_from_ms=1,
    attested_to_ms=2,
    samples=3,
    maker="60fed4ba255a9d31" * 8,
    maker_pinned=True,
    device_serial="QC0000000007",
    batch=9,
    leaf="4c" * 32,
    doubt="",
)
SUSPECT = Suspect(bytes(32), "E-PROOF", "why", True)


def test_ids_are_text_and_absent_ones_are_null() -> None:
    done = Encrypted(
        size_bytes=1,
        grant=bytes(32),
        index=2,
        expires_ms=3,
        blocks=(BLOCK,),
        suspects=(SUSPECT,),
        unacknowledged=(bytes(32),),
        keys_took_ms=4,
        content_took_ms=5,
    )
    shown = as_json(done)
    assert isinstance(shown, dict)
    assert shown["grant"].startswith("qg1")
    assert shown["unacknowledged"][0].startswith("qn1")
    assert shown["blocks"][0]["node_class"] == "foundation"
    assert shown["blocks"][0]["server"].startswith("qr1")
    assert shown["suspects"] == [{"node": shown["blocks"][0]["node"], "code": "E-PROOF", "detail": "why", "is_fault": True}]


def test_every_report_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    of = {"sender": bytes(32), "sender_device": bytes(32), "sender_device_label": "l", "sender_device_revoked": False, "created_ms": 1}
    some = {"blocks": (BLOCK,), "suspects": (SUSPECT,)}
    took = {"size_bytes": 1, "unacknowledged": (), "keys_took_ms": 1, "content_took_ms": 1}
    refused = ErasureReport(bytes(32), NodeClass.COMMUNITY, None, fault("E-NODE-READONLY", "full"), was_before=False)
    for report in (Report(**of, **some, expires_ms=2), Opened(**of, **some, **took, inconsistent=(bytes(32),)), Revoked((refused,), False)):
        print_json(report)
        assert isinstance(json.loads(capsys.readouterr().out), dict)
    assert json.loads(json.dumps(as_json(refused)))["error"] == {"code": "E-NODE-READONLY", "detail": "full"}
    print_json(refused, err=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "qn1" in captured.err
