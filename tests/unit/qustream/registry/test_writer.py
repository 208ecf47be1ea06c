"""Making and amending a network file."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.maker import Maker

from qustream.errors import QuStreamError
from qustream.identity.enrolment import Enrolment, certify_device, state_hpke_key
from qustream.identity.grants import GrantOffer
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.network import NodeClass, NodeRecord, QrngServerRecord
from qustream.registry import NetworkFileRegistry, NetworkFileWriter
from qustream.registry.writer import grant_id

NOW_MS = 1_700_000_500_000
MASTER = SigningKey(b"\x21" * 32)
OTHER = SigningKey(b"\x22" * 32)


def enrolment(master=MASTER, signer=None, *, device=b"\x31" * 32, hpke=b"h" * 1216, owner=None) -> Enrolment:
    signer = signer or master
    certificate = certify_device(owner or signer, SigningKey(device).public, stripe=0, label="d", now_ms=NOW_MS)
    return Enrolment(master.public, state_hpke_key(signer, hpke), certificate)


def code_of(call, *args, **options) -> str:
    with pytest.raises(QuStreamError) as caught:
        call(*args, **options)
    assert caught.value.detail
    return caught.value.code


def test_a_written_file_is_read_back_whole(network):
    again = NetworkFileWriter.load(network.path, network.key)
    assert again.contents == network.writer.contents
    assert again.version == 1
    assert network.path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in network.path.parent.iterdir()] == ["network.toml"]


def test_the_same_contents_give_the_same_text(network):
    def body(data: bytes) -> bytes:
        return data.rsplit(b"# signature", 1)[0]

    first = network.path.read_bytes()
    again = NetworkFileWriter.load(network.path, network.key)
    again.write()
    assert body(network.path.read_bytes()) == body(first).replace(b"version = 1\n", b"version = 2\n")


def test_create_never_overwrites_and_load_wants_the_right_key(network):
    options = {"genesis_ms": 0, "epoch_length_ms": 1000, "seed": bytes(32)}
    assert code_of(NetworkFileWriter.create, network.path, "x", network.key, **options) == "E-FILE"
    assert code_of(NetworkFileWriter.load, network.path, OTHER) == "E-REGISTRY-SIGNATURE"
    assert code_of(NetworkFileWriter.load, network.path.with_name("absent"), network.key) == "E-FILE"


@pytest.mark.parametrize(
    ("chain", "options"),
    [
        ("", {}),
        ("with space", {}),
        ("x" * 65, {}),
        ("x", {"epoch_length_ms": 999}),
        ("x", {"seed": bytes(31)}),
        ("x", {"genesis_ms": -1}),
        ("x", {"genesis_ms": 1 << 63}),
    ],
)
def test_create_checks_the_network_itself(tmp_path, chain, options):
    given = {"genesis_ms": 0, "epoch_length_ms": 1000, "seed": bytes(32)} | options
    assert code_of(NetworkFileWriter.create, tmp_path / "n.toml", chain, OTHER, **given) == "E-REGISTRY-FORMAT"


def test_two_writers_do_not_overwrite_each_other(network):
    other = NetworkFileWriter.load(network.path, network.key)
    other.write()
    assert code_of(network.writer.write) == "E-REGISTRY-VERSION"
    assert network.writer.version == 1
    assert NetworkFileWriter.load(network.path, network.key).version == 2
    network.path.unlink()
    assert code_of(other.write) == "E-REGISTRY-VERSION"


def test_a_file_that_appears_after_create_is_not_overwritten(network, tmp_path):
    path = tmp_path / "late.toml"
    writer = NetworkFileWriter.create(path, "late", network.key, genesis_ms=0, epoch_length_ms=1000, seed=bytes(32))
    path.write_text("something else")
    assert code_of(writer.write) == "E-REGISTRY-VERSION"
    assert path.read_text() == "something else"


def test_a_directory_that_is_not_there_is_named(network, tmp_path):
    path = tmp_path / "absent" / "n.toml"
    writer = NetworkFileWriter.create(path, "late", network.key, genesis_ms=0, epoch_length_ms=1000, seed=bytes(32))
    assert code_of(writer.write) == "E-FILE"
    assert writer.version == 0


def node(**changes) -> NodeRecord:
    record = NodeRecord(MASTER.public, NodeClass.COMMUNITY, "somebody", b"l" * 16, ("host:1",), 5, True)
    return replace(record, **changes)


def test_nodes_are_added_once_and_checked(network):
    writer = network.writer
    before = dict(writer.contents.nodes)
    (taken, *_) = before.values()
    for wrong in (
        node(operator=""),
        node(operator="esc \x1b[31m"),
        node(operator="o" * 65),
        node(weight=0),
        node(weight=1_000_001),
        node(licence=b"short"),
        node(licence=taken.record.licence),
        node(addresses=("no-port",)),
        node(addresses=("host:0",)),
        node(addresses=("host:65536",)),
        node(addresses=("two words:1",)),
        node(addresses=("host:1",) * 9),
        node(key=taken.record.key),
        node(key=replace(MASTER.public, mldsa=b"short")),
    ):
        assert code_of(writer.add_node, wrong) == "E-REGISTRY-FORMAT"
    assert writer.contents.nodes == before
    ours = writer.add_node(node(addresses=("[::1]:7400", "127.0.0.1:1", "a.example:65535")))
    assert ours == MASTER.id
    writer.set_node_addresses(ours, ("elsewhere:9",))
    assert code_of(writer.set_node_addresses, ours, ("nowhere",)) == "E-REGISTRY-FORMAT"
    writer.set_node_active(ours, False)
    writer.write()
    kept = NetworkFileWriter.load(network.path, network.key).contents.nodes[ours].record
    assert kept == node(addresses=("elsewhere:9",), active=False)
    assert code_of(writer.set_node_active, bytes(32), False) == "E-REGISTRY-UNKNOWN"
    assert code_of(writer.set_node_addresses, bytes(32), ()) == "E-REGISTRY-UNKNOWN"


def test_qrng_servers_are_added_once_and_taken_out(network):
    record = QrngServerRecord(MASTER.public, "second", False, True)
    server = network.writer.add_qrng_server(record)
    assert code_of(network.writer.add_qrng_server, record) == "E-REGISTRY-FORMAT"
    assert code_of(network.writer.add_qrng_server, replace(record, key=OTHER.public, name="\n")) == "E-REGISTRY-FORMAT"
    network.writer.set_qrng_server_active(server, False)
    network.writer.write()
    registry = NetworkFileRegistry(network.path, network.key.id)
    registry.load(NOW_MS)
    assert registry.qrng_server(server) == replace(record, active=False)
    assert code_of(network.writer.set_qrng_server_active, bytes(32), True) == "E-REGISTRY-UNKNOWN"


def test_makers_of_a_servers_devices(network):
    writer, makers = network.writer, tuple(Maker(name).public for name in "abcde")
    server = writer.add_qrng_server(QrngServerRecord(MASTER.public, "second", False, True, makers[:1]))
    text = network.writer._text(2)
    assert text.count("device_authorities") == 1, "left out where there are none"
    for wrong in (makers, makers[:1] * 2, (b"\0" * 64,), (makers[0][:63],)):
        assert code_of(writer.set_device_authorities, server, wrong) == "E-REGISTRY-FORMAT"
        other = QrngServerRecord(OTHER.public, "third", False, True, wrong)
        assert code_of(writer.add_qrng_server, other) == "E-REGISTRY-FORMAT"
    for right in (makers[:4], ()):
        writer.set_device_authorities(server, right)
        writer.write()
        registry = NetworkFileRegistry(network.path, network.key.id)
        registry.load(NOW_MS)
        assert registry.qrng_server(server).device_authorities == right
    assert code_of(writer.set_device_authorities, bytes(32), ()) == "E-REGISTRY-UNKNOWN"


def test_enrolment_needs_the_masters_signature_on_both_statements(network):
    before = dict(network.writer.contents.users)
    genuine = enrolment()
    for forged in (
        Enrolment(genuine.master, enrolment(OTHER).hpke, genuine.certificate),
        Enrolment(genuine.master, genuine.hpke, enrolment(OTHER).certificate),
        Enrolment(genuine.master, Signed(genuine.hpke.body, genuine.certificate.signature), genuine.certificate),
        Enrolment(genuine.master, Signed(genuine.hpke.body[:-1], genuine.hpke.signature), genuine.certificate),
    ):
        assert code_of(network.writer.enrol, forged, "mallory") == "E-SIGNATURE"
    assert network.writer.contents.users == before


def test_a_user_may_bring_more_devices_but_not_a_revoked_one(network):
    writer = network.writer
    user = writer.enrol(enrolment(), "carol")
    assert user == MASTER.id
    assert writer.find_user("carol") == user
    assert code_of(writer.find_user, "") == "E-REGISTRY-UNKNOWN"
    second = enrolment(device=b"\x32" * 32)
    assert writer.enrol(second, "ignored") == user
    assert code_of(writer.enrol, second) == "E-REGISTRY-FORMAT"
    assert code_of(writer.enrol, enrolment(device=b"\x33" * 32, hpke=b"i" * 1216)) == "E-REGISTRY-FORMAT"
    assert code_of(writer.enrol, enrolment(OTHER), "carol") == "E-REGISTRY-FORMAT"
    lost = SigningKey(b"\x32" * 32).id
    writer.revoke_device(user, lost)
    writer.revoke_device(user, lost)
    assert code_of(writer.enrol, second) == "E-REGISTRY-FORMAT"
    assert code_of(writer.revoke_device, user, bytes(32)) == "E-REGISTRY-UNKNOWN"
    assert code_of(writer.revoke_device, bytes(32), lost) == "E-REGISTRY-UNKNOWN"
    writer.write()
    devices = NetworkFileWriter.load(network.path, network.key).contents.users[user].record.devices
    assert [(entry.device, entry.revoked) for entry in devices] == [(SigningKey(b"\x31" * 32).id, False), (lost, True)]


def test_grants_are_of_enrolled_users_over_fresh_identifiers(network):
    writer = network.writer
    offer = GrantOffer(b"\x41" * 32, 64, 4)
    licence = next(iter(writer.contents.nodes.values())).record.licence
    grant = writer.grant(offer, network.bob, lifetime_max_ms=5, epoch=3, pinned=licence)
    assert grant.grant == grant_id("qustream-test", network.bob, offer.root, 3)
    assert (grant.owner, grant.root, grant.count, grant.stripes) == (network.bob, offer.root, 64, 4)
    assert code_of(writer.grant, offer, network.bob, lifetime_max_ms=5, epoch=3) == "E-REGISTRY-FORMAT"
    assert code_of(writer.grant, offer, network.alice, lifetime_max_ms=5, epoch=4) == "E-REGISTRY-FORMAT"
    assert code_of(writer.grant, offer, bytes(32), lifetime_max_ms=5, epoch=3) == "E-REGISTRY-UNKNOWN"
    fresh = GrantOffer(b"\x42" * 32, 64, 4)
    assert code_of(writer.grant, fresh, network.bob, lifetime_max_ms=5, epoch=3, pinned=bytes(16)) == "E-REGISTRY-UNKNOWN"
    assert code_of(writer.grant, replace(fresh, count=0), network.bob, lifetime_max_ms=5, epoch=3) == "E-REGISTRY-FORMAT"
    assert code_of(writer.grant, fresh, network.bob, lifetime_max_ms=-5, epoch=3) == "E-REGISTRY-FORMAT"
    writer.write()
    assert NetworkFileWriter.load(network.path, network.key).contents.grants[grant.grant] == grant


def test_ended_grants_may_be_left_out(network):
    writer = network.writer
    kept = writer.grant(GrantOffer(b"\x41" * 32, 64, 4), network.bob, lifetime_max_ms=5, epoch=3)
    assert writer.drop_grants(3) == 1
    assert list(writer.contents.grants) == [kept.grant]
    assert writer.drop_grants(3) == 0
    writer.write()
    assert list(NetworkFileWriter.load(network.path, network.key).contents.grants) == [kept.grant]
