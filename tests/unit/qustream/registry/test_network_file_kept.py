"""A network file in two places: the operator's, and one that came another way. The newer good one is in use, and only a good one of the
operator's lets the view count as confirmed."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qustream.errors import QuStreamError
from qustream.identity import files
from qustream.identity.signing import SigningKey
from qustream.model.network import QrngServerRecord
from qustream.registry import NetworkFileRegistry, NetworkFileWriter
from qustream.registry.network_file import FileInUse
from qustream.registry.signed_file import open_file, seal_file

NOW_MS = 1_700_000_500_000


class Place:
    """The network's files of versions 1, 2, 3, and a registry with two places."""

    def __init__(self, network, folder: Path) -> None:
        self.network = network
        self.own, self.kept = folder / "own.toml", folder / "kept.toml"
        self.versions = {1: network.path.read_bytes()}
        for version in (2, 3):
            network.writer.write()
            self.versions[version] = network.path.read_bytes()
        self.own.write_bytes(self.versions[1])

    def registry(self, height_min: int = 0) -> NetworkFileRegistry:
        return NetworkFileRegistry(self.own, self.network.key.id, kept=self.kept, height_min=height_min)

    def keep(self, data: bytes) -> None:
        files.replace(self.kept, data)

    def loaded(self) -> NetworkFileRegistry:
        registry = self.registry()
        registry.load(NOW_MS)
        return registry


@pytest.fixture
def place(network, tmp_path) -> Place:
    return Place(network, tmp_path)


def test_a_newer_file_that_came_another_way_is_kept_and_used(place):
    registry = place.loaded()
    registry.follow(place.versions[3], NOW_MS + 5, place.keep)
    assert (registry.height, registry.age_ms(NOW_MS + 5)) == (3, 0)
    assert registry.file_in_use == FileInUse(place.kept, hashlib.sha256(place.versions[3]).digest(), 3)
    assert place.kept.read_bytes() == place.versions[3]
    assert place.own.read_bytes() == place.versions[1]
    assert registry.refresh(NOW_MS + 100) is False
    assert (registry.trouble, registry.age_ms(NOW_MS + 100)) == (None, 0)


def test_after_a_restart_the_kept_one_is_used_at_once(place):
    place.loaded().follow(place.versions[3], NOW_MS, place.keep)
    again = place.registry(height_min=3)
    again.load(NOW_MS)
    assert (again.height, again.trouble) == (3, None)


def test_without_the_kept_one_the_memory_refuses_the_old_one(place):
    place.loaded().follow(place.versions[3], NOW_MS, place.keep)
    place.kept.unlink()
    with pytest.raises(QuStreamError, match="E-REGISTRY-VERSION"):
        place.registry(height_min=3).load(NOW_MS)


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_not_newer_does_not_take_over(place, version):
    place.own.write_bytes(place.versions[2])
    registry = place.loaded()
    with pytest.raises(QuStreamError, match="E-REGISTRY-VERSION"):
        registry.follow(place.versions[version], NOW_MS, place.keep)
    assert registry.height == 2
    assert not place.kept.exists()


def test_what_is_forged_does_not_take_over(place, new_network):
    registry = place.loaded()
    forged = place.versions[3].replace(b"community", b"foundation", 1)
    other = new_network("other.toml", key=SigningKey(b"o" * 32))
    foreign = new_network("foreign.toml", chain="another")
    for data in (forged, b"", other.path.read_bytes(), place.versions[3][:-1]):
        with pytest.raises(QuStreamError, match="E-REGISTRY-SIGNATURE"):
            registry.follow(data, NOW_MS, place.keep)
    foreign.writer.write()
    with pytest.raises(QuStreamError, match="E-REGISTRY-CHAIN"):
        registry.follow(foreign.path.read_bytes(), NOW_MS, place.keep)
    assert (registry.height, place.kept.exists()) == (1, False)


def test_a_full_disk_changes_nothing(place):
    registry = place.loaded()

    def full(_data: bytes) -> None:
        raise QuStreamError("E-DISK-FULL")

    with pytest.raises(QuStreamError, match="E-DISK-FULL"):
        registry.follow(place.versions[3], NOW_MS, full)
    assert registry.height == 1
    registry.follow(place.versions[3], NOW_MS, place.keep)
    assert registry.height == 3


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None], ids=["empty", "rubbish", "missing"])
def test_a_broken_file_of_the_operator_lets_the_view_grow_old_whatever_is_kept(place, damage):
    registry = place.loaded()
    registry.follow(place.versions[2], NOW_MS, place.keep)
    place.own.unlink() if damage is None else place.own.write_bytes(damage)
    assert registry.refresh(NOW_MS + 50) is False
    assert registry.trouble is not None
    assert (registry.height, registry.age_ms(NOW_MS + 50)) == (2, 50)
    files.replace(place.kept, place.versions[3])
    assert registry.refresh(NOW_MS + 60) is True  # what is newer serves, for as long as it is fresh
    assert registry.trouble is not None
    assert registry.refresh(NOW_MS + 70) is False
    assert (registry.height, registry.age_ms(NOW_MS + 70)) == (3, 10)
    place.own.write_bytes(place.versions[1])
    registry.refresh(NOW_MS + 80)
    assert (registry.trouble, registry.age_ms(NOW_MS + 80)) == (None, 0)


def test_the_operators_newer_file_wins_and_a_lost_or_spoilt_kept_one_is_nobodys_trouble(place):
    registry = place.loaded()
    registry.follow(place.versions[2], NOW_MS, place.keep)
    place.own.write_bytes(place.versions[3])
    assert registry.refresh(NOW_MS + 1) is True
    assert registry.file_in_use.path == place.own
    for damage in (b"spoilt", place.versions[1]):
        place.kept.write_bytes(damage)
        assert registry.refresh(NOW_MS + 2) is False
        assert (registry.trouble, registry.height, registry.age_ms(NOW_MS + 2)) == (None, 3, 0)
    place.kept.unlink()
    registry.refresh(NOW_MS + 3)
    assert registry.trouble is None


def test_two_files_of_one_version_are_a_trouble(place, network):
    registry = place.loaded()
    registry.follow(place.versions[2], NOW_MS, place.keep)
    body = open_file(place.versions[2], network.key.id)
    place.own.write_bytes(seal_file("# another\n" + body[: body.rindex("# network_key")], network.key))
    registry.refresh(NOW_MS + 1)
    assert registry.trouble is not None
    assert registry.trouble.code == "E-REGISTRY-VERSION"


def test_an_old_file_that_was_refused_alone_is_good_enough_beside_a_newer_one(place):
    place.own.write_bytes(place.versions[2])
    registry = place.loaded()
    place.own.write_bytes(place.versions[1])
    registry.refresh(NOW_MS + 1)
    assert registry.trouble is not None
    registry.follow(place.versions[3], NOW_MS + 2, place.keep)
    registry.refresh(NOW_MS + 3)
    assert (registry.trouble, registry.age_ms(NOW_MS + 3)) == (None, 0)


class TwoPlaces(RuleBasedStateMachine):
    """Any files in any order in both places: the view is the newest good one seen, and confirmed only as the specification says."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        folder = Path(self.directory.name)
        self.own, self.kept = folder / "own.toml", folder / "kept.toml"
        key = SigningKey(bytes(32))
        writer = NetworkFileWriter.create(
            folder / "writer.toml", "machine", key, genesis_ms=NOW_MS - 1000, epoch_length_ms=100_000_000, seed=bytes(32)
        )
        self.good: dict[int, bytes] = {}
        for version in range(1, 7):
            writer.add_qrng_server(QrngServerRecord(SigningKey(version.to_bytes(32, "big")).public, f"q{version}", True, True))
            writer.write()
            self.good[version] = (folder / "writer.toml").read_bytes()
        self.own.write_bytes(self.good[1])
        self.key, self.now_ms, self.view, self.confirmed_ms = key, NOW_MS, 1, NOW_MS
        self.start(0)

    def start(self, height_min: int) -> None:
        self.registry = NetworkFileRegistry(self.own, self.key.id, kept=self.kept, height_min=height_min)
        self.registry.load(self.now_ms)

    def version_in(self, path: Path) -> int:
        """Of the file there; 0 if it is none, or none that is good."""
        data = path.read_bytes() if path.exists() else b""
        return next((version for version, whole in self.good.items() if whole == data), 0)

    @rule(version=st.integers(1, 6), kept=st.booleans())
    def put(self, version: int, kept: bool) -> None:
        (self.kept if kept else self.own).write_bytes(self.good[version])

    @rule(kept=st.booleans(), size=st.integers(0, 9000))
    def spoil(self, kept: bool, size: int) -> None:
        path = self.kept if kept else self.own
        path.write_bytes(self.good[3][:size])

    @rule(kept=st.booleans())
    def remove(self, kept: bool) -> None:
        (self.kept if kept else self.own).unlink(missing_ok=True)

    @rule(version=st.integers(1, 6))
    def follow(self, version: int) -> None:
        if version > self.view:
            self.registry.follow(self.good[version], self.now_ms, self.kept.write_bytes)
            self.view, self.confirmed_ms = version, self.now_ms
        else:
            with pytest.raises(QuStreamError, match="E-REGISTRY-VERSION"):
                self.registry.follow(self.good[version], self.now_ms, self.kept.write_bytes)

    @rule(step_ms=st.integers(1, 1000))
    def refresh(self, step_ms: int) -> None:
        self.now_ms += step_ms
        own, kept, before = self.version_in(self.own), self.version_in(self.kept), self.view
        self.view = max(self.view, own, kept)
        assert self.registry.refresh(self.now_ms) is (self.view > before)
        good = own == self.view or (bool(own) and kept == self.view)
        assert (self.registry.trouble is None) is good
        if good or self.view > before:
            self.confirmed_ms = self.now_ms

    @precondition(lambda self: self.version_in(self.own) and self.view in (self.version_in(self.own), self.version_in(self.kept)))
    @rule()
    def restart(self) -> None:
        self.now_ms += 1
        self.start(self.view)
        self.view = max(self.view, self.version_in(self.own), self.version_in(self.kept))
        self.confirmed_ms = self.now_ms

    @invariant()
    def answers_the_newest_good_view(self) -> None:
        if hasattr(self, "registry"):
            assert self.registry.height == self.view
            assert self.registry.age_ms(self.now_ms) == self.now_ms - self.confirmed_ms

    def teardown(self) -> None:
        self.directory.cleanup()


TwoPlaces.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestTwoPlaces = TwoPlaces.TestCase
