"""A real qrngd on a Quantis card that a preloaded library plays: what it says of its modules reaches operators and nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.daemon import until
from support.qrng_server import NodeEnd, Server, node_key
from support.quantis_card import Card, compile_shim

pytestmark = pytest.mark.e2e
NODE = node_key(1)


@pytest.mark.needs("gcc")
async def test_a_module_that_fails_stops_the_feed_until_it_works_again(tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    card = Card(compile_shim(tmp_path), tmp_path / "card")
    with card.delivering(lambda: os.urandom(4096)):
        device = f'kind = "quantis"\npath = "{card.path}"\nmin_entropy_millibits = 7000\nsource = "pci 0003:0011"'
        with Server(tmp_path / "qrngd", allow=[NODE], device=device).running(**card.environment) as server:
            await server.wait_for("live")
            async with await NodeEnd.dial(server, NODE) as connection:
                node = NodeEnd(server, NODE, connection)
                await node.open(1)
                [unit] = await node.units(1)
                assert unit.attestation.device.model == "Quantis board 00010203 driver 2.1"
                assert (unit.attestation.device.kind, unit.attestation.device.source) == ("quantis", "pci 0003:0011")
                page = server.page("/metrics")[1].decode()
                assert 'flag="module_1_working"} 1.0' in page
                card.say(status=0b0101)
                told = await node.until_told("absent")
                assert told.code == "E-DEV-STATUS"
                assert "module 1" in told.reason
                until(lambda: 'flag="module_1_working"} 0.0' in server.page("/metrics")[1].decode())
            card.say()
            await server.wait_for("live")
