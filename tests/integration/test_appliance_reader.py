"""From an appliance over HTTPS to attested units: the reader in a process of its own, and a qrngd that has no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.appliance import TOKEN, Appliance, Authority, Exchange, honest
from support.appliance_reader import Reader
from support.daemon import PATIENCE_S, until
from support.network import BIN
from support.qrng_server import NodeEnd, Server, node_key

from qrngd.device_config import DeviceConfig
from qrngd.health.state import DeviceState
from qrngd.pipeline import Conditioned, Pipeline

pytestmark = pytest.mark.e2e
NODE = node_key(1)
DEVICE = 'kind = "appliance"\nmodel = "QEA"\nserial = "7"\nmin_entropy_millibits = 7000\nconditioned = true\npath = '

# Runs a program in a network namespace with nothing in it, not even a loopback that is up.
ALONE = "import ctypes, os, sys; assert ctypes.CDLL(None).unshare(0x40000000) == 0; os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def appliance(authority: Authority) -> Iterator[Appliance]:
    with Appliance(authority.server()).running() as found:
        yield found


def device_config(reader: Reader) -> DeviceConfig:
    return DeviceConfig("appliance", path=reader.fifo, model="QEA", serial="7", min_entropy_millibits=7000, conditioned=True)


def test_from_the_appliance_to_conditioned_bytes(tmp_path: Path, appliance: Appliance, authority: Authority) -> None:
    with Reader(tmp_path / "reader", appliance, authority) as reader:
        device = device_config(reader).make()
        descriptor = device.open()
        assert (descriptor.kind, descriptor.model, descriptor.serial, descriptor.emulated) == ("appliance", "QEA", "7", False)
        pipeline = Pipeline(descriptor, draw=os.urandom, reseed=lambda _seed: None)
        pipeline.opened(descriptor)
        raw = bytearray()
        conditioned: list[Conditioned] = []
        ends = time.monotonic() + PATIENCE_S
        while len(conditioned) < 3:
            assert time.monotonic() < ends
            piece = device.read(65_536)
            raw += piece
            conditioned += [event for event in pipeline.feed(piece) if isinstance(event, Conditioned)]
        assert pipeline.state is DeviceState.LIVE
        device.close()
        assert raw == appliance.delivered[: len(raw)], "not a byte but the appliance's"
        until(lambda: reader.events("qrngd has stopped reading"))
    assert TOKEN not in reader.log
    assert "qrngd_reader_delivered_bytes_total" in (reader.folder / "reader.prom").read_text()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert bytes(raw[:16]) not in path.read_bytes(), "bits on a disk"


async def test_a_qrngd_without_network_serves_nodes_from_it(tmp_path: Path, appliance: Appliance, authority: Authority) -> None:
    with Reader(tmp_path / "reader", appliance, authority) as reader:
        server = Server(tmp_path / "qrngd", allow=[NODE], device=f"{DEVICE}{json.dumps(str(reader.fifo))}")
        with server.running():
            async with await NodeEnd.dial(server, NODE) as connection:
                node = NodeEnd(server, NODE, connection)
                await node.open(2)
                units = await node.units(2)
            assert len(units) == 2
            status = server.status()
        asked = len(appliance.requests)
    assert status.feed.units_made >= 2
    assert asked * 65_536 >= 2 * 2 * 262_144, "two raw bytes for one"


async def test_a_reader_that_is_gone_is_a_device_that_is_absent_until_it_comes_back(
    tmp_path: Path, appliance: Appliance, authority: Authority
) -> None:
    reader = Reader(tmp_path / "reader", appliance, authority)
    server = Server(tmp_path / "qrngd", allow=[NODE], device=f"{DEVICE}{json.dumps(str(reader.fifo))}")
    with server.running():
        with reader:
            await server.wait_for("live")
        until(lambda: lost(server))
        with reader:
            await server.wait_for("live")
    [first, *_] = lost(server)
    assert first["code"] == "E-DEV-ABSENT"
    assert "has come to its end" in first["reason"]


def lost(server: Server) -> list[dict[str, Any]]:
    """What the server said when its device was live and then was not."""
    return [line for line in server.log() if (line.get("before"), line.get("state")) == ("live", "absent")]


@pytest.mark.needs("root")
def test_where_there_is_no_network_at_all_the_fifo_is_enough(tmp_path: Path, appliance: Appliance, authority: Authority) -> None:
    with Reader(tmp_path / "reader", appliance, authority) as reader:
        server = Server(tmp_path / "qrngd", allow=[NODE], device=f"{DEVICE}{json.dumps(str(reader.fifo))}")
        command = [sys.executable, "-c", ALONE, BIN / "qrngd", "selftest", "--config", server.config, "--bytes", "262144", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["device"] == "appliance QEA"
    refused = subprocess.run(
        [sys.executable, "-c", ALONE, BIN / "qrngd", "reader", "--config", reader.config, "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (refused.returncode, "E-APPLIANCE-UNREACHABLE" in refused.stderr) == (75, True), "the namespace has no network indeed"


def test_trouble_is_told_once_and_ends_by_itself(tmp_path: Path, appliance: Appliance, authority: Authority) -> None:
    def busy(exchange: Exchange) -> None:
        exchange.answer({"message": "busy"}, 503, Retry_After="1")

    appliance.behave = busy
    with Reader(tmp_path / "reader", appliance, authority) as reader:
        device = device_config(reader).make()
        device.open()
        until(lambda: len(appliance.requests) >= 2)
        assert device.read(10) == b"", "silence, and nothing in place of entropy"
        appliance.behave = honest
        until(lambda: device.read(10))
        device.close()
        assert [line["code"] for line in reader.events("no entropy")] == ["E-APPLIANCE-UNREACHABLE"]
        assert [line["after"] for line in reader.events("entropy comes")] == ["E-APPLIANCE-UNREACHABLE"]


def test_a_stop_while_the_appliance_hangs(tmp_path: Path, appliance: Appliance, authority: Authority) -> None:
    appliance.behave = lambda exchange: exchange.connection.settimeout(30) or exchange.connection.recv(1)  # type: ignore[func-returns-value]
    with Reader(tmp_path / "reader", appliance, authority) as reader:
        device = device_config(reader).make()
        device.open()
        until(lambda: appliance.requests)
        device.close()


def test_one_question_says_whether_it_works(tmp_path: Path, appliance: Appliance, authority: Authority) -> None:
    reader = Reader(tmp_path / "reader", appliance, authority)
    good = reader.run("--check")
    assert (good.returncode, good.stdout) == (0, f"good: 64 blocks of 1024 bytes from {appliance.url.split('/')[2]}\n")
    appliance.behave = lambda exchange: exchange.answer(b"hello", Content_Type="text/plain")
    bad = reader.run("--check")
    assert (bad.returncode, "E-APPLIANCE-ANSWER" in bad.stderr) == (78, True)
    assert not reader.fifo.exists()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"token_file": None}, "E-APPLIANCE-TOKEN"),
        ({"authority_file": "token"}, "E-APPLIANCE-TLS"),
        ({"output": "token"}, "E-CONFIG"),
        ({"url": "http://127.0.0.1/x"}, "E-CONFIG"),
        ({"state_dir": "none"}, "E-FILE"),
    ],
)
def test_what_only_the_operator_can_mend_ends_it_at_once(
    tmp_path: Path, appliance: Appliance, authority: Authority, settings: dict[str, object], code: str
) -> None:
    refused = Reader(tmp_path / "reader", appliance, authority, **settings).run()
    assert (refused.returncode, code in refused.stderr) == (78, True), refused.stderr
    assert TOKEN not in refused.stderr
    assert not appliance.requests
