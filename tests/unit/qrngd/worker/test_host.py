"""The daemon's side of real worker processes: killed, stopped, latched, cleared; and what it says of all of them together."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from qrngd.bell import Bell
from qrngd.device_config import DeviceConfig
from qrngd.health.state import DeviceState, StateChanged
from qrngd.latches import Latches
from qrngd.pipeline import Measurement
from qrngd.worker.host import SILENCE_LIMIT_S, DeviceHost
from qrngd.worker.messages import Changed, Made, MadeUnit, encode_message, socket_pair
from qustream.errors import OperatorFault

PATIENCE_S = 60.0


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class World:
    def __init__(self, folder: Path, *, faults: str = "", stock_units: int = 2) -> None:
        self.changes: list[StateChanged] = []
        self.worker_was_there: list[bool] = []  # at each change
        self.latches = Latches(folder)
        self.host = DeviceHost(
            DeviceConfig("emulator", name="card1", faults=faults),
            stock_units=stock_units,
            in_flight_units=6,
            latches=self.latches,
            stirred=Bell(),
            on_change=lambda _, change: self.changed(change),
            clock_ms=lambda: int(trio.current_time() * 1000),
        )

    def changed(self, change: StateChanged) -> None:
        self.changes.append(change)
        self.worker_was_there.append(self.host.worker_pid is not None and is_there(self.host.worker_pid))

    @property
    def states(self) -> list[str]:
        return [change.after.value for change in self.changes]

    async def until(self, ready: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not ready():
                await trio.sleep(0.01)

    def worker(self) -> int:
        assert self.host.worker_pid is not None
        return self.host.worker_pid


async def test_a_killed_worker_is_replaced_and_counters_go_on(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        world = World(tmp_path)
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.host.units == 2)
        unit, flying = world.host.take(), world.host.take()
        before = world.host.figures
        os.kill(world.worker(), signal.SIGKILL)
        await world.until(lambda: world.states[-1:] == ["absent"])
        assert world.changes[-1].code == "E-DEV-WORKER"
        assert "killed by signal 9" in world.changes[-1].reason
        await world.until(lambda: world.states[-1] == "live" and world.host.units == 2)
        assert world.host.worker_starts == 2
        assert world.host.figures.raw_bytes > before.raw_bytes
        assert world.host.stock.in_flight == 2  # what was under way was not touched
        assert any(unit.data)
        later = world.host.take()
        joined = flying.span.joined(later.span)
        between = joined.after.since(joined.before)
        assert between.windows > 0
        assert between.samples > 0
        for each in (unit, flying, later):
            each.release()
        nursery.cancel_scope.cancel()


async def test_a_worker_that_hangs_is_killed(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        world = World(tmp_path)
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.states[-1:] == ["live"])
        told, world.host._silence_s = world.host.figures, 1.5  # a worker that starts may be silent for longer
        await world.until(lambda: world.host.figures is not told and world.states[-1] == "live")  # the wait with the old limit is over
        hung, seen = world.worker(), len(world.states)
        os.kill(hung, signal.SIGSTOP)
        await world.until(lambda: "absent" in world.states[seen:])
        world.host._silence_s = SILENCE_LIMIT_S
        absent = world.states.index("absent", seen)
        assert "said nothing" in world.changes[absent].reason
        assert world.worker_was_there[absent]  # nobody is told of a live device until the kernel has got rid of the process
        await world.until(lambda: world.states[-1] == "live")
        assert world.worker() != hung
        with pytest.raises(ProcessLookupError):
            os.kill(hung, 0)
        nursery.cancel_scope.cancel()


async def test_a_failure_is_latched_on_disk_before_it_is_told_and_stays(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        world = World(tmp_path, faults="stuck@bytes=1000000")
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.states[-1:] == ["failed"])
        assert world.latches.read("card1") == ("E-DEV-LATCHED", world.host.reason)
        assert world.host.units == 0
        os.kill(world.worker(), signal.SIGKILL)
        await world.until(lambda: world.host.worker_starts == 2)
        assert world.host.state is DeviceState.FAILED
        nursery.cancel_scope.cancel()
    again = World(tmp_path)
    assert (again.host.state, again.host.code) == (DeviceState.FAILED, "E-DEV-LATCHED")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.host.run)
        await again.until(lambda: again.host.worker_pid is not None)
        again.host.clear("cable replaced")
        await again.until(lambda: again.states[-1:] == ["live"])
        assert again.states[:2] == ["starting", "testing"]
        assert again.latches.read("card1") is None
        nursery.cancel_scope.cancel()


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        world = World(tmp_path)
        with pytest.raises(OperatorFault, match="E-DEV-STATE"):
            world.host.retest("not open yet")
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.states[-1:] == ["live"])
        with pytest.raises(OperatorFault, match="E-DEV-STATE"):
            world.host.clear("nothing is wrong")
        world.host.retest("monthly")
        await world.until(lambda: world.states[-2:] == ["testing", "live"] and len(world.states) == 4)
        nursery.cancel_scope.cancel()


async def test_the_worker_ends_with_its_daemon(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        world = World(tmp_path)
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.states[-1:] == ["live"])
        worker = world.worker()
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


async def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with trio.open_nursery() as nursery:
        world = World(tmp_path)
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.states[-1:] == ["live"])
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))  # as if others had all the descriptors
            os.kill(world.worker(), signal.SIGKILL)
            await world.until(lambda: "no worker can be started" in world.host.reason)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert (world.host.state, world.host.code) == (DeviceState.ABSENT, "E-DEV-WORKER")
        await world.until(lambda: world.states[-1] == "live")
        nursery.cancel_scope.cancel()


async def test_no_slot_is_lost_on_a_worker_that_does_not_listen_for_a_while(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        world = World(tmp_path, stock_units=600)  # more orders than the link holds
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.host.units == 600)
        os.kill(world.worker(), signal.SIGSTOP)
        while world.host.units:
            world.host.take().release()
        with pytest.raises(OperatorFault, match="E-DEV-WORKER"):
            world.host.retest("nobody would hear of it")
        os.kill(world.worker(), signal.SIGCONT)
        await world.until(lambda: world.host.units == 600)
        assert world.host.worker_starts == 1
        nursery.cancel_scope.cancel()


async def test_what_is_cleared_is_cleared_though_the_worker_dies_before_it_hears(tmp_path: Path) -> None:
    Latches(tmp_path).latch("card1", "stuck", 5)
    async with trio.open_nursery() as nursery:
        world = World(tmp_path)
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.host.worker_pid is not None)
        os.kill(world.worker(), signal.SIGSTOP)
        world.host.clear("cable replaced")
        assert world.host.state is DeviceState.STARTING
        os.kill(world.worker(), signal.SIGKILL)
        await world.until(lambda: world.states[-1] == "live")
        assert "failed" not in world.states
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("lie", ["live", "unit"])
async def test_a_worker_cannot_end_a_latched_failure(tmp_path: Path, lie: str) -> None:
    Latches(tmp_path).latch("card1", "stuck", 5)
    world = World(tmp_path)
    for slot in world.host.stock.due():
        made = MadeUnit(slot, bytes(32), Measurement(), Measurement(), 0, 0)
    said = Changed(0, DeviceState.FAILED, DeviceState.LIVE, "", "all is well") if lie == "live" else Made((made,))
    ours, theirs = socket_pair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(encode_message(said))
        assert "no worker says" in await world.host._listen(ours)
    assert world.host.state is DeviceState.FAILED
    assert world.host.units == 0


async def test_alarms_that_a_dead_worker_saw_count_on(tmp_path: Path) -> None:
    """Or a device that can bring its driver down between two alarms would never fail for good."""
    # Each as short as makes an alarm: ten alike are a failure for good, and random bytes may go on with what is stuck.
    five = "+".join(f"stuck@bytes={150_000 * number},length=7" for number in range(1, 6))
    async with trio.open_nursery() as nursery:
        world = World(tmp_path, faults=five)
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.states.count("suspect") == 5 and world.host.units == 2)
        os.kill(world.worker(), signal.SIGKILL)
        await world.until(lambda: world.states[-1:] == ["failed"])
        assert world.states.count("suspect") == 7
        assert "8 alarms" in world.host.reason
        world.host.clear("cable replaced")  # and then they are counted from the beginning
        await world.until(lambda: world.states[-1] == "live")
        assert world.states.count("failed") == 1
        nursery.cancel_scope.cancel()


HUGE = Measurement(samples=(1 << 64) - 1)
NONE = Measurement()


@pytest.mark.parametrize(("digest", "after", "end_ms"), [(b"short", NONE, 0), (bytes(32), HUGE, 0), (bytes(32), NONE, -1)])
async def test_what_no_attestation_could_say_costs_a_worker_and_not_the_server(
    tmp_path: Path, digest: bytes, after: Measurement, end_ms: int
) -> None:
    world = World(tmp_path)
    slot = world.host.stock.due()[0]
    ours, theirs = socket_pair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(encode_message(Made((MadeUnit(slot, digest, NONE, after, 0, end_ms),))))
        assert "no worker says" in await world.host._listen(ours)
    assert world.host.units == 0


async def test_a_failure_that_could_not_be_recorded_is_recorded_as_soon_as_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "latches").write_text("in the way, as a full disk is")
    async with trio.open_nursery() as nursery:
        world = World(tmp_path, faults="stuck@bytes=1000000")
        nursery.start_soon(world.host.run)
        await world.until(lambda: world.states[-1:] == ["failed"])
        world.host.drop_older(0)
        assert not (tmp_path / "latches").is_dir()
        (tmp_path / "latches").unlink()
        world.host.drop_older(0)
        assert world.latches.read("card1") == ("E-DEV-LATCHED", world.host.reason)
        nursery.cancel_scope.cancel()
