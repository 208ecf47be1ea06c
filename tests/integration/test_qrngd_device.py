"""A real qrngd whose device misbehaves: what stops, what is said about it, what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.qrng_server import NodeEnd, Server, node_key

from qustream.model.entropy import UNIT_BYTES

pytestmark = pytest.mark.e2e
NODE = node_key(1)
PLACE = 8_000_000  # where a fault begins: after the start-up test and a dozen units


def server_with(folder: Path, faults: str) -> Server:
    return Server(folder, allow=[NODE], device=f'kind = "emulator"\nfaults = "{faults}"')


@pytest.mark.parametrize("faults", [f"stuck@bytes={PLACE},value=171", f"biased@bytes={PLACE},permille=200,seed=5"])
async def test_a_device_that_fails_for_good_stops_the_feed_and_stays_stopped(tmp_path: Path, faults: str) -> None:
    with server_with(tmp_path, faults).running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(200)
            told = await node.until_told("failed")
            assert told.code == "E-DEV-LATCHED"
            assert told.reason
            await node.until_quiet()  # what was released before is still delivered
            assert (await node.grant(1)).state == "failed"  # asked for, noted, and not served
            assert await node.is_quiet()
            status = server.status()
        assert not status.ready
        assert (status.devices[0].state, status.devices[0].code) == ("failed", "E-DEV-LATCHED")
        # Every unit ever cut came from windows before the fault: two raw bytes for one, and what is in stock is gone.
        assert status.feed.units_made * UNIT_BYTES * 2 <= PLACE
        assert status.devices[0].stock_bytes == 0
        assert status.devices[0].windows_discarded > 0
        code, body = server.page("/readyz")
        assert code == 503
        assert b"E-DEV-LATCHED" in body
        assert b"examine the device" in body
        assert [line["level"] for line in server.log() if line.get("state") == "failed"] == ["error"]


async def test_a_device_that_fails_at_once_never_delivers(tmp_path: Path) -> None:
    with server_with(tmp_path, "stuck").running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(10)
            await server.wait_for("failed")
            assert await node.is_quiet()
        status = server.status()
        assert status.devices[0].windows_passed == status.feed.units_made == 0


async def test_one_bad_window_is_thrown_away_and_the_feed_goes_on(tmp_path: Path) -> None:
    # Seven equal bytes: at the intermittent cutoff of the repetition test (7), so far below the permanent one (10) that what stands beside
    # them by chance does not make them as many.
    with server_with(tmp_path, f"stuck@bytes={PLACE},length=7").running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(60)
            units = await node.units(60)
        status = server.status()
    assert [(told.state, told.code) for told in node.health if told.state == "suspect"] == [("suspect", "E-DEV-HEALTH")]
    assert node.health[-1].state == "live"
    assert status.devices[0].windows_discarded == 1
    assert status.devices[0].alarms.repetition == 1
    # The attestations add up: the bad window stands in one of them, or in two that share a stretch of the stream.
    assert max(unit.attestation.health.windows_failed for unit in units) == 1


async def test_a_device_that_vanishes_and_returns_is_tested_and_served_again(tmp_path: Path) -> None:
    with server_with(tmp_path, f"vanish@bytes={PLACE},opens=1").running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(60)
            absent = await node.until_told("absent")
            assert absent.code == "E-DEV-ABSENT"
            assert (await node.until_told("live")).code == ""
            await node.grant(5)
            assert len(await node.units(5)) == 5
        states = [told.state for told in node.health]
        assert states[states.index("absent") :][-3:] == ["absent", "testing", "live"]
        device = server.status().devices[0]
        assert device.opened == 2
        assert device.windows_startup == 2
        assert device.read_errors == 2  # lost once, and one attempt in vain


async def test_a_device_that_was_never_there_is_absent(tmp_path: Path) -> None:
    device = f'kind = "chardev"\npath = "{tmp_path}/no-such-device"\nmin_entropy_millibits = 6000'
    with Server(tmp_path, allow=[NODE], device=device).running() as server:
        status = await server.wait_for("absent")
        assert (status.devices[0].code, status.ready) == ("E-DEV-ABSENT", False)
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            assert (await node.open(1)).state == "absent"
            assert await node.is_quiet(0.8)


async def test_torn_reads_change_nothing(tmp_path: Path) -> None:
    with server_with(tmp_path, "torn@most=5000,seed=3").running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(5)
            assert len(await node.units(5)) == 5
        assert server.status().devices[0].windows_discarded == 0


async def test_a_slow_device_delivers_what_it_has_within_the_batch_time(tmp_path: Path) -> None:
    # Three megabytes a second: a unit every 0.18 s, so that a batch of many never fills.
    with server_with(tmp_path, "slow@rate=3000000").running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(256)
            with trio.fail_after(60):
                units = await node.units(8)
            assert units[0].attestation.leaves < 100


async def test_an_idle_server_goes_on_testing(tmp_path: Path) -> None:
    with Server(tmp_path, allow=[NODE]).running() as server:
        before = (await server.wait_for("live")).devices[0].windows
        started_s = trio.current_time()
        await trio.sleep(2.4)  # while the stock fills, and then
        status = server.status()
        probes = trio.current_time() - started_s + 2
        # One window a second, not more: enough to know the device's health, next to nothing in cost.
        assert before < status.devices[0].windows
        filled = 2 * 3 * UNIT_BYTES // 65_536 + 65
        assert status.devices[0].windows <= before + filled + probes
        assert status.devices[0].stock_bytes <= 2 * UNIT_BYTES
