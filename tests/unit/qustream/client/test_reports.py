"""What a caller is told of a block."""

from __future__ import annotations

from support.village import User, Village

from qustream.client.answers import CheckedBlock, Provenance
from qustream.client.reports import block_report
from qustream.errors import fault
from qustream.model.entropy import Attestation
from qustream.model.network import NodeClass
from qustream.wire.codec import decode


def test_a_block_tells_where_it_came_from(net: Village, alice: User) -> None:
    node = net.nodes[7]
    record = alice.registry().node(node.id)
    unit = node.take(1_000_000)
    assert unit is not None
    attestation = decode(unit.attestation.body, Attestation, max_bytes=10_000)
    origin = Provenance(net.qrng.id, "lab", attestation, unit.leaf)
    report = block_report(CheckedBlock(record, b"", b"", b"", b"", 0, origin))
    assert (report.node, report.node_class, report.operator) == (node.id, NodeClass.COMMUNITY, "operator 7")
    assert (report.server, report.server_name, report.device) == (net.qrng.id, "lab", "emulator urandom")
    assert (report.emulated, report.samples, report.attested_to_ms) == (True, 1024, 1_000_000)
    assert report.doubt == ""


def test_a_doubt_leaves_the_origin_empty(net: Village, alice: User) -> None:
    record = alice.registry().node(net.nodes[0].id)
    report = block_report(CheckedBlock(record, b"", b"", b"", b"", 0, None, fault("E-ATTESTATION", "retired")))
    assert "E-ATTESTATION: retired" in report.doubt
    assert (report.server, report.device, report.samples) == (b"", "", 0)
