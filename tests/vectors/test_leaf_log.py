"""Leaf logs against the published vectors: the audit, and the server that goes on writing what it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qrngd.leaflog import LeafLog
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.leaflog.audit import AuditedLog, audit
from qustream.leaflog.segment import segment_name
from qustream.leaflog.source import DirectorySource
from qustream.model.network import QrngServerRecord

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/leaf-log.json").read_text())
KEY = SigningKey(bytes.fromhex(VECTORS["server_seed"]))
RECORD = QrngServerRecord(KEY.public, "test", emulated=False, active=False)


def written(folder: Path, log: dict[str, Any]) -> DirectorySource:
    for number, parts in enumerate(log["segments"], log["first"]):
        data = b"".join(bytes.fromhex(VECTORS["entries"].get(part, part)) for part in parts)
        (folder / segment_name(number)).write_bytes(data)
    return DirectorySource(folder)


def audited(source: DirectorySource) -> AuditedLog:
    (log,) = audit([source], chain=VECTORS["chain"], server_of={KEY.id: RECORD}.get)
    return log


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["why"])
def test_logs_that_hold(tmp_path, vector):
    log = audited(written(tmp_path, vector))
    assert {name: getattr(log, name) for name in ("entries", "leaves", "last_batch", "torn_bytes")} == {
        name: vector[name] for name in ("entries", "leaves", "last_batch", "torn_bytes")
    }
    assert log.head.hex() == vector["head"]
    assert log.server == KEY.id


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["why"])
def test_a_server_goes_on_where_such_a_log_ends(tmp_path, vector):
    written(tmp_path, vector)
    with LeafLog(tmp_path, VECTORS["chain"], KEY.id) as log:
        assert (log.cut_bytes, log.last_batch) == (vector["torn_bytes"], vector["last_batch"])
    after = audited(DirectorySource(tmp_path))
    assert (after.torn_bytes, after.head.hex()) == (0, vector["head"])


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["why"])
def test_logs_to_refuse(tmp_path, vector):
    source = written(tmp_path, vector)
    with pytest.raises(QuStreamError) as caught:
        audited(source)
    assert caught.value.code == vector["code"]
    assert caught.value.detail


def test_the_name_of_a_segment():
    assert segment_name(0) == VECTORS["segment_name"]
