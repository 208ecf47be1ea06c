"""A real server with several devices, and what its operator does with them on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio
from support.daemon import until
from support.network import BIN
from support.qrng_server import NodeEnd, Server, node_key

NODE = node_key(1)
pytestmark = pytest.mark.e2e


def emulator(name: str, faults: str = "") -> str:
    return f'name = "{name}"\nkind = "emulator"\nserial = "{name}"\nfaults = "{faults}"\n'


def server_with(folder: Path, *devices: str, **settings: object) -> Server:
    return Server(folder, allow=[NODE], device="\n[[device]]\n".join(devices), **settings)


def qrngd(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "qrngd", *arguments, "--config", server.config]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=server.environment, timeout=60)


def states(server: Server) -> dict[str, str]:
    return {device.name: device.state for device in server.status().devices}


async def test_every_device_feeds_and_each_attestation_names_its_own(tmp_path: Path) -> None:
    with server_with(tmp_path, emulator("card1"), emulator("card2")).running() as server:
        await trio.to_thread.run_sync(until, lambda: set(states(server).values()) == {"live"})
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(60)
            units = await node.units(60)
            serials = {unit.attestation.device.serial for unit in units}
            assert serials == {"card1", "card2"}
            assert len({unit.unit for unit in units}) == 60
            assert len({(unit.attestation.batch, unit.proof.index) for unit in units}) == 60


async def test_one_that_fails_is_latched_and_the_other_goes_on(tmp_path: Path) -> None:
    with server_with(tmp_path, emulator("good"), emulator("bad", "stuck@bytes=3000000,length=70000")).running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(100)
            await node.units(100)
            await trio.to_thread.run_sync(until, lambda: states(server) == {"good": "live", "bad": "failed"})
            status = server.status()
            assert status.ready
            ready = json.loads(server.page("/readyz")[1])
            assert ready["ready"]
            assert [reason["code"] for reason in ready["reasons"]] == ["E-DEV-LATCHED"]
            await node.grant(50)
            await node.units(50)
            assert node.health[-1].state == "live"
            assert "bad failed" in node.health[-1].reason
    # Started again it is still failed; only the operator changes that.
    with server.running():
        await trio.to_thread.run_sync(until, lambda: states(server) == {"good": "live", "bad": "failed"})
        refused = qrngd(server, "clear", "worse", "--reason", "cable replaced")
        assert (refused.returncode, refused.stderr[:20]) == (78, "qrngd: E-DEV-UNKNOWN")
        assert qrngd(server, "clear", "good", "--reason", "cable replaced").returncode == 78  # nothing to clear
        assert qrngd(server, "clear", "bad", "--reason", "x").returncode == 2
        done = qrngd(server, "clear", "bad", "--reason", "cable replaced")
        assert done.returncode == 0, done.stderr
        assert "start-up test" in done.stdout
        await trio.to_thread.run_sync(until, lambda: states(server) == {"good": "live", "bad": "live"})
        history = [(change.after, change.reason) for device in server.status().devices for change in device.history]
        assert ("starting", "cleared by the operator: cable replaced") in history
    incidents = [json.loads(line) for line in (server.data_dir / "incidents").read_text().splitlines()]
    assert [(each["event"], each["device"]) for each in incidents] == [("latched", "bad"), ("cleared", "bad")]


async def test_a_stopped_server_is_cleared_too(tmp_path: Path) -> None:
    with server_with(tmp_path, emulator("card1", "stuck@bytes=200000,length=70000")).running() as server:
        await server.wait_for("failed")
    assert qrngd(server, "retest", "card1").returncode == 75  # nobody is there to test it
    assert qrngd(server, "clear", "card1", "--reason", "fan replaced").returncode == 0
    again = qrngd(server, "clear", "card1", "--reason", "fan replaced")
    assert again.returncode == 78
    assert "no failure of card1 is latched" in again.stderr
    with server.running():
        # The emulator's script begins anew with its process, so the fault comes again: and is found again.
        await server.wait_for("failed")


async def test_a_device_is_tested_on_demand_and_gives_nothing_meanwhile(tmp_path: Path) -> None:
    with server_with(tmp_path, emulator("card1", "slow@rate=200000")).running() as server:
        before = (await server.wait_for("live")).devices[0].windows_startup
        assert qrngd(server, "retest", "card1", "--reason", "monthly").returncode == 0
        await trio.to_thread.run_sync(until, lambda: server.status().devices[0].windows_startup == before + 1)
        changes = [change.after for change in server.status().devices[0].history]
        assert changes == ["testing", "live", "testing", "live"]


async def test_a_worker_that_dies_costs_its_device_a_test_and_nothing_else(tmp_path: Path) -> None:
    with server_with(tmp_path, emulator("card1"), emulator("card2")).running() as server:
        await trio.to_thread.run_sync(until, lambda: set(states(server).values()) == {"live"})
        children = server.children()
        assert len(children) == 2
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(250)
            await node.units(20)
            for child in children:
                os.kill(child, signal.SIGKILL)
            units = await node.units(230)
            assert len({unit.unit for unit in units}) == 230
        restarts = {device.name: device.worker_restarts for device in server.status().devices}
        assert restarts == {"card1": 1, "card2": 1}


async def test_nothing_is_left_running_when_the_server_is_killed(tmp_path: Path) -> None:
    server = server_with(tmp_path, emulator("card1"))
    server.start()
    await server.wait_for("live")
    (child,) = server.children()
    server.kill()
    await trio.to_thread.run_sync(until, lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_cap_of_a_node_holds(tmp_path: Path) -> None:
    with server_with(tmp_path, emulator("card1"), node_units_per_minute=5).running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(20)
            await node.units(5)
            assert await node.is_quiet(1.0)
            assert server.status().feed.nodes[0].credit == 15


async def test_two_devices_of_one_name_or_path_are_refused(tmp_path: Path) -> None:
    for devices in ((emulator("a"), emulator("a")), (f'kind = "chardev"\npath = "{tmp_path}/x"\nmin_entropy_millibits = 6000\nname = "a"',
                     f'kind = "chardev"\npath = "{tmp_path}/x"\nmin_entropy_millibits = 6000\nname = "b"')):  # fmt: skip
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        done = qrngd(server_with(folder, *devices), "run")
        assert done.returncode == 78
        assert "E-CONFIG" in done.stderr
