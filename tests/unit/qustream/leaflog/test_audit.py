"""The audit over directories of segments: what no vector covers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.leaf_logs import CHAIN, Unit, Writer, unit
from support.maker import Maker

from qrngd.leaflog import LeafLog
from qustream.entropy import leaf_data_of_hash
from qustream.errors import QuStreamError
from qustream.leaflog.audit import AuditedLog, audit
from qustream.leaflog.segment import record, segment_name
from qustream.leaflog.source import DirectorySource
from qustream.model.entropy import LeafLogEntry
from qustream.model.ids import IdKind, to_text
from qustream.rules.merkle import leaf_hash

ONE, OTHER = Writer(b"\x01" * 32), Writer(b"\x02" * 32)
REGISTERED = {writer.key.id: writer.record for writer in (ONE, OTHER)}


def log_of(folder: Path, writer: Writer, *batches: list[Unit]) -> DirectorySource:
    with LeafLog(folder, CHAIN, writer.key.id) as log:
        for number, units in enumerate(batches, 1):
            log.append(*writer.batch(number, units))
    return DirectorySource(folder)


def audited(*sources: DirectorySource, **options: object) -> list[AuditedLog]:
    return audit(sources, chain=CHAIN, server_of=REGISTERED.get, **options)  # type: ignore[arg-type]


def refused(*sources: DirectorySource) -> QuStreamError:
    with pytest.raises(QuStreamError) as caught:
        audited(*sources)
    return caught.value


def test_two_servers_with_one_material_are_both_named(tmp_path: Path) -> None:
    first = log_of(tmp_path / "1", ONE, [unit("a", 1)], [unit("b", 2), unit("shared", 3)])
    second = log_of(tmp_path / "2", OTHER, [unit("shared", 1, node=9)])
    assert [log.leaves for log in (*audited(first), *audited(second))] == [3, 1]
    error = refused(first, second)
    assert error.code == "E-MATERIAL-REPEATED"
    assert hashlib.sha256(b"shared").hexdigest() in error.detail
    node = to_text(IdKind.NODE, (9).to_bytes(32, "big"))
    assert f"batch 2, leaf 1 of {to_text(IdKind.QRNG, ONE.key.id)}, for" in error.detail
    assert f"batch 1, leaf 0 of {to_text(IdKind.QRNG, OTHER.key.id)}, for {node} under 1" in error.detail


def test_numbers_of_two_servers_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    logs = audited(log_of(tmp_path / "1", ONE, [unit("a", 1)]), log_of(tmp_path / "2", OTHER, [unit("b", 1)]))
    assert [(log.first_batch, log.last_batch, log.leaves) for log in logs] == [(1, 1, 1)] * 2


def test_one_log_given_twice_is_not_taken_for_a_repetition(tmp_path: Path) -> None:
    source = log_of(tmp_path / "1", ONE, [unit("a", 1)])
    error = refused(source, source)
    assert (error.code, "given already" in error.detail) == ("E-LEAF-LOG", True)


def test_leaves_are_looked_up_in_their_own_servers_batch(tmp_path: Path) -> None:
    units = [unit("a", 1), unit("b", 2), unit("c", 3)]
    sources = log_of(tmp_path / "1", ONE, units[:2], units[2:]), log_of(tmp_path / "2", OTHER, [unit("d", 1)])
    hashes = [leaf_hash(leaf_data_of_hash(*each)) for each in units]
    wanted = {(ONE.key.id, 1): {hashes[0], hashes[2]}, (ONE.key.id, 2): {hashes[1]}, (OTHER.key.id, 1): set(hashes)}
    assert [log.found for log in audited(*sources, wanted=wanted)] == [{hashes[0]}, set()]


def test_a_place_is_named(tmp_path: Path) -> None:
    log_of(tmp_path, ONE, [unit("a", 1)])
    file = tmp_path / segment_name(0)
    file.write_bytes(file.read_bytes() + Writer(b"\x03" * 32).entry(2))
    error = refused(DirectorySource(tmp_path))
    assert error.code == "E-SIGNATURE"
    assert f"{tmp_path}, segment 0: " in error.detail


def test_a_signed_body_that_is_no_attestation(tmp_path: Path) -> None:
    log_of(tmp_path, ONE, [unit("a", 1)])
    signed, [leaf] = ONE.batch(2)
    body = signed.body + b"\x00"
    wrong = replace(signed, body=body, signature=ONE.key.sign("attestation", body))
    file = tmp_path / segment_name(0)
    file.write_bytes(file.read_bytes() + record(LeafLogEntry(wrong, leaf)))
    assert refused(DirectorySource(tmp_path)).code == "E-LEAF-LOG"


def test_evidence_in_a_log_must_hold(tmp_path: Path) -> None:
    device = Maker().device().descriptor()
    with LeafLog(tmp_path, CHAIN, ONE.key.id) as log:
        log.append(*ONE.batch(1, device=device))
    assert audited(DirectorySource(tmp_path))[0].entries == 1
    with LeafLog(tmp_path, CHAIN, ONE.key.id) as log:
        log.append(*ONE.batch(2, device=replace(device, serial="QC0000000001")))
    assert refused(DirectorySource(tmp_path)).code == "E-ATTESTATION-EVIDENCE"


def test_a_registered_key_must_be_the_one_of_the_id(tmp_path: Path) -> None:
    source = log_of(tmp_path, ONE, [unit("a", 1)])
    with pytest.raises(QuStreamError) as caught:
        audit([source], chain=CHAIN, server_of=lambda _: OTHER.record)
    assert caught.value.code == "E-LEAF-LOG"
