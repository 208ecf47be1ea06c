"""A real server with a QCicada on a serial line: its proof in every attestation, and what the operator sees when it goes or lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.daemon import until
from support.emulated_line import MAKER, qcicada_line
from support.qrng_server import NodeEnd, Server, node_key

from qustream.identity.device_evidence import check_evidence

NODE = node_key(1)
pytestmark = pytest.mark.e2e


def qcicada(link: Path, serial: str = "QC0000000217") -> str:
    authority = MAKER.authority.public.hex()
    return (
        f'name = "lamp"\nkind = "qcicada"\npath = "{link}"\nserial = "{serial}"\nmin_entropy_millibits = 7000\n'
        f'device_authority = "{authority}"\n'
    )


def server_with(folder: Path, device: str) -> Server:
    return Server(folder, allow=[NODE], device=device)


async def becomes(server: Server, *expected: str) -> None:
    """Wait for a state, and a code if it is given."""
    await trio.to_thread.run_sync(until, lambda: state(server)[: len(expected)] == expected)


def state(server: Server) -> tuple[str, str]:
    (device,) = server.status().devices
    return device.state, device.code


async def test_every_attestation_carries_the_proof_of_the_device(tmp_path: Path) -> None:
    link = tmp_path / "qcicada"
    with qcicada_line(link), server_with(tmp_path, qcicada(link)).running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(4)
            for unit in await node.units(4):
                device = unit.attestation.device
                assert (device.kind, device.serial, device.source, device.emulated) == ("qcicada", "QC0000000217", "raw-noise", True)
                check_evidence(device, [MAKER.authority.public])


async def test_a_device_that_is_pulled_out_is_absent_and_live_again_when_it_is_back(tmp_path: Path) -> None:
    link = tmp_path / "qcicada"
    server = server_with(tmp_path, qcicada(link))
    with server.running():
        await becomes(server, "absent", "E-DEV-ABSENT")
        with qcicada_line(link):
            await becomes(server, "live")
        await becomes(server, "absent", "E-DEV-ABSENT")
        with qcicada_line(link, serial_number=218):
            await becomes(server, "absent", "E-DEV-IDENTITY")
        with qcicada_line(link):
            await becomes(server, "live")


async def test_a_device_that_lies_is_named_for_what_it_does(tmp_path: Path) -> None:
    link = tmp_path / "qcicada"
    server = server_with(tmp_path, qcicada(link))
    with server.running():
        for faults, code in (("certificate", "E-DEV-CERTIFICATE"), ("status@bits=4", "E-DEV-STATUS")):
            with qcicada_line(link, protocol_faults=faults):
                await becomes(server, "absent", code)
        with qcicada_line(link, protocol_faults="signature@reads=20"):
            await trio.to_thread.run_sync(
                until, lambda: "E-DEV-CERTIFICATE" in [change.code for change in server.status().devices[0].history]
            )
