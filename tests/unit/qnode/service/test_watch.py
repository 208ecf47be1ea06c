"""Following a real network file: newer ones taken over, bad ones refused, none older than what was seen."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from structlog.typing import EventDict
from support.keys_world import CHAIN, World

from qnode.service import watch
from qnode.service.watch import NetworkWatch, known_height, remember_height
from qustream.errors import QuStreamError
from qustream.identity import files
from qustream.registry import NetworkFileRegistry


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@dataclass
class Watched:
    """`heights`: as they are taken over; `looks`: that have begun."""

    heights: list[int] = field(default_factory=list)
    looks: int = 0

    async def looked(self) -> None:
        """Until a look that has begun after this is over: the one behind it has begun."""
        before = self.looks
        with trio.fail_after(60):
            while self.looks < before + 2:
                await trio.sleep(0.005)


@asynccontextmanager
async def watching(world: World, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(watch, "LOOK_S", 0.01)
    watched = Watched()

    def changed() -> None:
        watched.heights.append(world.registry.height)

    def clock_ms() -> int:  # what each look asks first
        watched.looks += 1
        return world.clock_ms()

    follower = NetworkWatch(world.registry, world.writer.path, data_dir, clock_ms=clock_ms, on_change=changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        yield watched
        nursery.cancel_scope.cancel()


async def until_trouble(world: World, code: str) -> None:
    with trio.fail_after(60):
        while world.registry.trouble is None or world.registry.trouble.code != code:
            await trio.sleep(0.005)


async def test_a_newer_file_takes_over_and_is_remembered(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(world, tmp_path, monkeypatch) as watched:
        assert known_height(tmp_path, CHAIN) == 0
        world.writer.write()
        with trio.fail_after(60):
            while not watched.heights:
                await trio.sleep(0.005)
    assert watched.heights == [2]
    assert known_height(tmp_path, CHAIN) == 2


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: data[: len(data) // 2], "E-REGISTRY-SIGNATURE"),
        (lambda data: data.replace(b"community", b"foundation", 1), "E-REGISTRY-SIGNATURE"),
        (lambda data: b"", "E-REGISTRY-SIGNATURE"),
        (lambda data: os.urandom(1000), "E-REGISTRY-SIGNATURE"),
        (None, "E-FILE"),
    ],
)
async def test_a_bad_file_changes_nothing_and_says_why(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object, code: str
) -> None:
    with capture_logs() as lines:
        await spoil_and_mend(world, tmp_path, monkeypatch, damage, code, lines)
    assert [line["event"] for line in lines] == ["network file refused", "network file good again"]
    assert lines[0]["code"] == code


async def spoil_and_mend(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object, code: str, lines: list[EventDict]
) -> None:
    good = world.writer.path.read_bytes()
    async with watching(world, tmp_path, monkeypatch) as watched:
        await watched.looked()
        if callable(damage):
            files.replace(world.writer.path, damage(good))  # at once: a look in between would see another damage
        else:
            world.writer.path.unlink()
        await until_trouble(world, code)
        assert (watched.heights, world.registry.height) == ([], 1)
        assert world.registry.node(world.node.id).active
        files.replace(world.writer.path, good)
        with trio.fail_after(60):
            while world.registry.trouble is not None or len(lines) < 2:
                await trio.sleep(0.005)


async def test_an_older_file_is_refused_while_running_and_after_a_restart(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = world.writer.path.read_bytes()
    async with watching(world, tmp_path, monkeypatch) as watched:
        world.writer.write()
        with trio.fail_after(60):
            while not watched.heights:
                await trio.sleep(0.005)
        files.replace(world.writer.path, old)
        await until_trouble(world, "E-REGISTRY-VERSION")
        assert world.registry.height == 2
    again = NetworkFileRegistry(
        world.writer.path, world.authority.public, chain=CHAIN, height_min=known_height(tmp_path, CHAIN)
    )  # fmt: skip
    with pytest.raises(QuStreamError, match="E-REGISTRY-VERSION"):
        again.load(world.now_ms)


async def test_an_unchanged_file_is_confirmed_now_and_then(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(world, tmp_path, monkeypatch) as watched:
        await watched.looked()
        world.now_ms += watch.CONFIRM_MS - 1
        await watched.looked()
        assert world.registry.age_ms(world.now_ms) == watch.CONFIRM_MS - 1
        world.now_ms += 1
        with trio.fail_after(60):
            while world.registry.age_ms(world.now_ms):
                await trio.sleep(0.005)


async def test_a_clock_that_is_set_back_does_not_stop_the_looking(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(world, tmp_path, monkeypatch) as watched:
        await watched.looked()
        world.writer.path.unlink()
        world.now_ms -= 3_600_000
        await until_trouble(world, "E-FILE")


def test_the_memory_is_of_one_network(tmp_path: Path) -> None:
    remember_height(tmp_path, "alpha", 7)
    assert (known_height(tmp_path, "alpha"), known_height(tmp_path, "beta")) == (7, 0)


@pytest.mark.parametrize("content", [b"", b"7\n", b"alpha seven\n", b"alpha -1\n", b"\xff\xfe 7\n\xff", b"alpha \xb2\n"])
def test_a_damaged_memory_is_not_guessed_at(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / watch.MEMORY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(QuStreamError, match="E-DATA-CORRUPT"):
        known_height(tmp_path, "alpha")


async def test_a_full_disk_does_not_stop_the_looking(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(world, tmp_path / "gone", monkeypatch) as watched:
        world.writer.write()
        with trio.fail_after(60):
            while not watched.heights:
                await trio.sleep(0.005)
    assert world.registry.height == 2
