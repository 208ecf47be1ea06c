"""`qustream log verify` and `qustream verify --log`: real processes over the log of the QRNG server behind real blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.leaf_logs import unit
from support.lies import LETTER
from support.pages import pages
from support.typed import Typed
from support.village import CHAIN, User, Village

from qrngd.leaflog import LeafLog
from qustream.entropy import build_batch, leaf_data_of_hash
from qustream.leaflog.segment import segment_name
from qustream.model.entropy import Attestation
from qustream.model.ids import IdKind, to_text
from qustream.wire.codec import decode


@pytest.fixture
def envelope(net: Village, alice: User, bob: User, tmp_path: Path) -> Path:
    net.published.clear()
    a = Typed(alice, tmp_path / "alice")
    (a.folder / "letter.txt").write_bytes(LETTER)
    a("encrypt", "letter.txt", "--to", bob.text)
    return a.folder / "letter.txt.qs"


@pytest.fixture
def b(bob: User, tmp_path: Path) -> Typed:
    return Typed(bob, tmp_path / "bob")


def written(net: Village, folder: Path, *, leave_out: int = 0, until: int = 1 << 40) -> Path:
    with LeafLog(folder, CHAIN, net.qrng.id) as log:
        for batch, signed, leaf in sorted(net.published):
            if batch != leave_out and batch < until:
                log.append(signed, [leaf])
    return folder


def test_the_leaves_of_an_envelope_stand_in_the_log(net: Village, envelope: Path, b: Typed, tmp_path: Path) -> None:
    whole, server = written(net, tmp_path / "whole"), to_text(IdKind.QRNG, net.qrng.id)
    out, _ = b("verify", envelope, "--blocks", "--log", whole)
    assert out.count(f"stands in the log of {server}, batch ") == 6
    assert out.count("no maker's certificate → device 1 → server qr1") == 6
    done = json.loads(b("verify", envelope, "--blocks", "--log", whole, "--json")[0])
    assert [leaf["holds"] for leaf in done["leaves"]] == [True] * 6
    assert {leaf["server"] for leaf in done["leaves"]} == {server}
    batches = sorted(block["batch"] for block in done["report"]["blocks"])

    out, _ = b("verify", envelope, "--blocks", "--log", written(net, tmp_path / "gap", leave_out=batches[0]), code=1)
    assert out.count("stands in the log of") == 5
    assert f"attested in batch {batches[0]}, and not published" in out
    out, _ = b("verify", envelope, "--blocks", "--log", written(net, tmp_path / "early", until=batches[-1]), code=1)
    assert f"which ends before batch {batches[-1]}" in out
    assert "--blocks" in b("verify", envelope, "--log", whole, code=2)[1]
    assert "E-FILE" in b("verify", envelope, "--blocks", "--log", tmp_path / "none", code=78)[1]


def test_an_audit_says_what_it_saw(net: Village, envelope: Path, b: Typed, tmp_path: Path) -> None:
    folder, server = written(net, tmp_path / "whole"), to_text(IdKind.QRNG, net.qrng.id)
    out, _ = b("log", "verify", folder)
    assert f"{folder}: leaf log of {server} (qrng), as published and signed" in out
    assert f"{len(net.published)} leaves in {len(net.published)} batches" in out
    assert "No material stands twice" in out
    (facts,) = json.loads(b("log", "verify", folder, "--json")[0])
    assert (facts["server"], facts["leaves"], facts["torn_bytes"]) == (server, len(net.published), 0)
    file = folder / segment_name(0)
    file.write_bytes(file.read_bytes() + bytes(50))
    assert "the last 50 bytes are no whole entry" in b("log", "verify", folder)[0]
    file.write_bytes(file.read_bytes() + b"\x01")
    assert "E-LEAF-LOG" in b("log", "verify", folder, code=1)[1]


def test_an_audit_needs_no_user(net: Village, envelope: Path, b: Typed, tmp_path: Path) -> None:
    folder = written(net, tmp_path / "whole")
    b.environment["QUSTREAM_HOME"] = str(tmp_path / "nobody")
    assert "E-HOME" in b("log", "verify", folder, code=78)[1]
    assert "go together" in b("log", "verify", folder, "--network", net.path, code=2)[1]
    out, _ = b("log", "verify", folder, "--network", net.path, "--network-key", net.network_key)
    assert "No material stands twice" in out


def test_one_material_twice_is_shown_with_both_entries(net: Village, envelope: Path, b: Typed, tmp_path: Path) -> None:
    stated = decode(net.published[0][1].body, Attestation, max_bytes=10_000)
    units = [unit("the same", 1 << 50), unit("the same", (1 << 50) + 1, node=4)]
    folder = tmp_path / "twice"
    with LeafLog(folder, CHAIN, net.qrng.id) as log:
        for number, each in enumerate(units, 1):
            signed = net.qrng.sign_noun("attestation", replace(stated, batch=number, root=build_batch([each])[0]))
            log.append(signed, [leaf_data_of_hash(*each)])
    _, err = b("log", "verify", folder, code=1)
    assert "E-MATERIAL-REPEATED" in err
    assert "batch 1, leaf 0" in err
    assert "batch 2, leaf 0" in err
    assert to_text(IdKind.NODE, units[1][0]) in err


def test_fetching_needs_an_address_and_says_what_came(b: Typed, tmp_path: Path) -> None:
    assert "http" in b("log", "fetch", "leaves", "copy", code=2)[1]
    assert "E-PEER-UNREACHABLE" in b("log", "fetch", "http://127.0.0.1:9", "copy", code=75)[1]
    index = {"chain": CHAIN, "server": "qr1", "first": 3, "last": 3, "bytes": 0}
    with pages({"/v1/log": (200, json.dumps(index).encode())}) as address:
        assert b("log", "fetch", f"http://{address}/", "copy")[0] == "copy: nothing new; segment 3 is still open\n"
