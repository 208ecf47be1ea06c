"""The watched network file: what a good one answers, and that no bad one ever takes its place."""

from __future__ import annotations

import base64
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.registry_contract import (
    Expected,
    answers_every_question,
    assigns_by_the_rule,
    epochs_follow_genesis,
    refuses_unknown_names,
)

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord, QrngServerRecord
from qustream.registry import ChangeKind, NetworkFileRegistry, NetworkFileWriter, Registry
from qustream.registry.signed_file import open_file, seal_file

NETWORK_SEED = bytes(range(32))
NOW_MS = 1_700_000_500_000


def loaded(network, **options) -> NetworkFileRegistry:
    registry = NetworkFileRegistry(network.path, network.key.id, **options)
    registry.load(NOW_MS)
    return registry


def resigned(network, change) -> bytes:
    """The network's file with its text changed and signed again by the right key."""
    text = open_file(network.path.read_bytes(), network.key.id)
    body = text[: text.rindex("# network_key")]
    return seal_file(change(body), network.key)


def expected(network) -> Expected:
    contents = network.writer.contents
    clock, (server,) = contents.epochs, contents.qrng_servers.values()
    users = [contents.users[user].record for user in (network.alice, network.bob)]
    nodes = [licensed.record for licensed in contents.nodes.values()]
    return Expected(1, "qustream-test", clock.genesis_ms, clock.length_ms, nodes, server, users, list(contents.grants.values()))


def test_answers_every_question(network):
    registry: Registry = loaded(network)
    answers_every_question(registry, expected(network))
    assert registry.nodes_height == 1


def test_unknown_names_are_coded_and_named(network):
    refuses_unknown_names(loaded(network))


def test_assigns_by_the_rule(network):
    registry = loaded(network)
    (grant,) = registry.grants_of(network.alice)
    assigns_by_the_rule(registry, grant, {})


def test_nothing_is_answered_before_the_first_good_file(tmp_path, network):
    registry = NetworkFileRegistry(tmp_path / "absent.toml", network.key.id)
    assert registry.refresh(NOW_MS) is False
    assert registry.trouble is not None
    assert registry.trouble.code == "E-FILE"
    for ask in (
        lambda: registry.height,
        lambda: registry.chain,
        lambda: registry.node(bytes(32)),
        lambda: registry.nodes(NodeClass.FOUNDATION),
        lambda: registry.epoch(NOW_MS),
        lambda: registry.age_ms(NOW_MS),
        lambda: registry.changes(0),
    ):
        with pytest.raises(QuStreamError) as caught:
            ask()
        assert caught.value.code == "E-CHAIN-STALE"
        assert "E-FILE" in caught.value.detail
    with pytest.raises(QuStreamError) as caught:
        registry.load(NOW_MS)
    assert caught.value.code == "E-FILE"


def test_the_pinned_key_may_be_given_as_key_id_or_text(network):
    for pinned in (network.key.public, network.key.id, network.writer.network_key_text):
        registry = NetworkFileRegistry(network.path, pinned)
        registry.load(NOW_MS)
        assert registry.height == 1
    with pytest.raises(QuStreamError) as caught:
        NetworkFileRegistry(network.path, "qnet1nonsense")
    assert caught.value.code == "E-ID-TEXT"


def test_epochs_follow_genesis(network):
    epochs_follow_genesis(loaded(network), expected(network))


def test_age_counts_from_the_last_confirmation(network):
    registry = loaded(network)
    assert registry.age_ms(NOW_MS + 700) == 700
    assert registry.refresh(NOW_MS + 1000) is False
    assert registry.trouble is None
    assert registry.age_ms(NOW_MS + 1700) == 700
    network.path.unlink()
    assert registry.refresh(NOW_MS + 5000) is False
    assert registry.trouble.code == "E-FILE"
    assert registry.age_ms(NOW_MS + 5000) == 4000
    assert registry.age_ms(NOW_MS) == 0
    assert registry.height == 1


def test_a_newer_version_takes_over_and_is_told(network):
    registry = loaded(network)
    node = next(iter(network.writer.contents.nodes))
    network.writer.set_node_active(node, False)
    network.writer.revoke_device(network.alice, network.writer.contents.users[network.alice].record.devices[0].device)
    network.writer.write()
    assert registry.refresh(NOW_MS + 1) is True
    assert registry.height == 2
    assert registry.node(node).active is False
    assert registry.user(network.alice).devices[0].revoked is True
    kinds = [change.kind for change in registry.changes(1)]
    assert kinds == [ChangeKind.NODE_CHANGED, ChangeKind.USER_CHANGED, ChangeKind.DEVICE_REVOKED]
    assert [change.kind for change in registry.changes(0)] == [ChangeKind.EVERYTHING]


def edited(*changes: tuple[str, str]):
    """A maker of the network's file with these replacements in its text, signed again by the right key."""

    def make(network) -> bytes:
        def change(text: str) -> str:
            for old, new in changes:
                assert old in text
                text = text.replace(old, new)
            return text

        return resigned(network, change)

    return make


NEXT = ("version = 1\n", "version = 2\n")
BAD_FILES = {
    "torn": (lambda network: network.path.read_bytes()[:-700], "E-REGISTRY-SIGNATURE"),
    "torn in the text": (lambda network: network.path.read_bytes()[:2000], "E-REGISTRY-SIGNATURE"),
    "empty": (lambda network: b"", "E-REGISTRY-SIGNATURE"),
    "unsigned": (lambda network: network.path.read_bytes().rsplit(b"# network_key", 1)[0], "E-REGISTRY-SIGNATURE"),
    "edited by hand": (lambda network: network.path.read_bytes().replace(b"= 1000", b"= 9000", 1), "E-REGISTRY-SIGNATURE"),
    "text after the signature": (lambda network: network.path.read_bytes() + b"\n", "E-REGISTRY-SIGNATURE"),
    "not UTF-8": (lambda network: _sign_bytes(network, b"# \xff\n"), "E-REGISTRY-FORMAT"),
    "same version": (edited(("weight = 1000", "weight = 1")), "E-REGISTRY-VERSION"),
    "older": (edited(("version = 1\n", "version = 0\n")), "E-REGISTRY-VERSION"),
    "another chain": (edited(NEXT, ("'qustream-test'", "'qustream-main'")), "E-REGISTRY-CHAIN"),
    "another genesis": (edited(NEXT, ("genesis_ms = 17", "genesis_ms = 18")), "E-REGISTRY-FORMAT"),
    "not TOML": (lambda network: resigned(network, lambda text: text + "[[nodes\n"), "E-REGISTRY-FORMAT"),
    "nested without end": (lambda network: resigned(network, lambda text: text + "x = " + "[" * 20_000), "E-REGISTRY-FORMAT"),
    "an endless number": (edited(("version = 1\n", "version = " + "9" * 9000 + "\n")), "E-REGISTRY-FORMAT"),
}


def _sign_bytes(network, text: bytes) -> bytes:
    signed = text + seal_file("", network.key).split(b"\n", 1)[0] + b"\n"
    return signed + b'# signature = "' + base64.b64encode(network.key.sign("network-file", signed)) + b'"\n'


@pytest.mark.parametrize("name", BAD_FILES)
def test_no_bad_file_replaces_a_good_view(network, name):
    registry = loaded(network)
    good = network.path.read_bytes()
    make, code = BAD_FILES[name]
    network.path.write_bytes(make(network))
    for later_ms in (1000, 2000):  # the second time from memory, with the same words
        assert registry.refresh(NOW_MS + later_ms) is False
        assert registry.trouble is not None
        assert registry.trouble.code == code
        assert registry.trouble.detail
    assert registry.height == 1
    assert registry.age_ms(NOW_MS + 2000) == 2000
    network.path.write_bytes(good)
    assert registry.refresh(NOW_MS + 3000) is False
    assert registry.trouble is None
    assert registry.age_ms(NOW_MS + 3000) == 0


def test_a_foreign_key_is_refused(new_network):
    ours, theirs = new_network("ours.toml"), new_network("theirs.toml", key=SigningKey(b"\x05" * 32))
    registry = loaded(ours)
    theirs.writer.write()
    ours.path.write_bytes(theirs.path.read_bytes())
    assert registry.refresh(NOW_MS) is False
    assert registry.trouble.code == "E-REGISTRY-SIGNATURE"
    assert "another key" in registry.trouble.detail


def test_another_key_cannot_stand_in_under_our_key_line(network):
    """A file signed by somebody else whose key line names our key."""
    stranger = SigningKey(b"\x05" * 32)
    text = open_file(network.path.read_bytes(), network.key.id)
    network.path.write_bytes(text.encode() + b'# signature = "' + base64.b64encode(stranger.sign("network-file", text.encode())) + b'"\n')
    registry = NetworkFileRegistry(network.path, network.key.id)
    registry.refresh(NOW_MS)
    assert registry.trouble.code == "E-REGISTRY-SIGNATURE"
    assert "does not hold" in registry.trouble.detail


def test_the_expected_chain_and_least_height_hold_from_the_start(network):
    registry = NetworkFileRegistry(network.path, network.key.id, chain="qustream-main")
    registry.refresh(NOW_MS)
    assert registry.trouble.code == "E-REGISTRY-CHAIN"
    registry = NetworkFileRegistry(network.path, network.key.id, height_min=2)
    registry.refresh(NOW_MS)
    assert registry.trouble.code == "E-REGISTRY-VERSION"
    network.writer.write()
    assert registry.refresh(NOW_MS) is True


def test_an_oversized_or_irregular_file_is_not_read(network, tmp_path):
    registry = loaded(network)
    network.path.unlink()
    with network.path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    registry.refresh(NOW_MS)
    assert registry.trouble.code == "E-FILE"
    network.path.unlink()
    os.mkfifo(network.path)
    registry.refresh(NOW_MS)
    assert registry.trouble.code == "E-FILE"
    network.path.unlink()
    network.path.mkdir()
    registry.refresh(NOW_MS)
    assert registry.trouble.code == "E-FILE"
    assert registry.height == 1


def test_questions_from_other_threads_see_whole_views(network):
    """Readers run while versions come: height never falls, and a node's weight always belongs to a version that was written."""
    registry = loaded(network)
    node = next(iter(network.writer.contents.nodes))
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while not done.is_set():
            height = registry.height
            if height < last:
                wrong.append(f"height fell from {last} to {height}")
            last = height
            if not registry.node(node).addresses[0].startswith("v"):
                wrong.append("an address nobody wrote")

    network.writer.set_node_addresses(node, ("v2:1",))
    network.writer.write()
    registry.refresh(NOW_MS)
    readers = [threading.Thread(target=read) for _ in range(1)]
    for reader in readers:
        reader.start()
    for version in range(3, 6):
        network.writer.set_node_addresses(node, (f"v{version}:1",))
        network.writer.write()
        assert registry.refresh(NOW_MS + version) is True
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert registry.height == 5


class Reloading(RuleBasedStateMachine):
    """Any order of good and bad files: the view is always the newest good one that was there at a refresh."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "network.toml"
        self.key = SigningKey(NETWORK_SEED)
        self.now_ms = NOW_MS
        self.confirmed_ms = NOW_MS
        self.good: dict[int, bytes] = {}

    @initialize()
    def begin(self) -> None:
        self.writer = NetworkFileWriter.create(self.path, "sim", self.key, genesis_ms=NOW_MS, epoch_length_ms=60_000, seed=bytes(32))
        self.write_next()
        self.registry = NetworkFileRegistry(self.path, self.key.id)
        self.registry.load(self.now_ms)
        self.view = 1

    @rule()
    def write_next(self) -> None:
        if self.good:
            self.path.write_bytes(self.good[max(self.good)])
        number = self.writer.version + 1
        self.writer.add_qrng_server(QrngServerRecord(SigningKey(number.to_bytes(32, "big")).public, f"q{number}", True, True))
        self.writer.write()
        self.good[number] = self.path.read_bytes()

    @rule(data=st.data())
    def tear(self, data: st.DataObject) -> None:
        whole = self.good[max(self.good)]
        self.path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])

    @rule(data=st.data())
    def flip(self, data: st.DataObject) -> None:
        whole = bytearray(self.good[max(self.good)])
        # Not the last base64 digit, whose low bits mean nothing.
        place = data.draw(st.integers(0, len(whole) - 8))
        whole[place] ^= 1 << data.draw(st.integers(0, 6))
        self.path.write_bytes(whole)

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        self.path.write_bytes(self.good[data.draw(st.sampled_from(sorted(self.good)))])

    @rule()
    def newest_again(self) -> None:
        self.path.write_bytes(self.good[max(self.good)])

    @precondition(lambda self: self.path.exists())
    @rule()
    def remove(self) -> None:
        self.path.unlink()

    @rule(step_ms=st.integers(1, 100_000))
    def refresh(self, step_ms: int) -> None:
        self.now_ms += step_ms
        data = self.path.read_bytes() if self.path.exists() else b""
        versions = [version for version, whole in self.good.items() if whole == data]
        newer = bool(versions) and versions[0] > self.view
        same = bool(versions) and versions[0] == self.view
        assert self.registry.refresh(self.now_ms) is newer
        assert (self.registry.trouble is None) is (newer or same)
        if newer:
            self.view = versions[0]
        if newer or same:
            self.confirmed_ms = self.now_ms

    @invariant()
    def answers_the_newest_good_view(self) -> None:
        if hasattr(self, "registry"):
            assert self.registry.height == self.view
            assert self.registry.age_ms(self.now_ms) == self.now_ms - self.confirmed_ms
            for number in range(1, self.view + 1):
                assert self.registry.qrng_server(SigningKey(number.to_bytes(32, "big")).id).name == f"q{number}"

    def teardown(self) -> None:
        self.directory.cleanup()


Reloading.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestReloading = Reloading.TestCase


def test_nodes_that_join_later_displace_nobody(network):
    registry = loaded(network)
    (grant,) = registry.grants_of(network.alice)
    before = [registry.assignment(grant, j) for j in range(40)]
    late = NodeRecord(SigningKey(b"\x11" * 32).public, NodeClass.COMMUNITY, "late", b"L" * 16, ("late:1",), 1_000_000, True)
    network.writer.add_node(late, since_epoch=1)
    network.writer.write()
    assert registry.refresh(NOW_MS) is True
    assert [registry.assignment(grant, j) for j in range(40)] == before
