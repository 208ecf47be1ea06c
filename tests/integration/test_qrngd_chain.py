"""A real qrngd that takes its nodes from a chain: who is licensed there has a feed, who is retired loses it, and `allow` restricts it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.chain_circle import CHAIN, ChainCircle, ChainNodeProcess, fast
from support.daemon import PATIENCE_S
from support.qrng_server import NodeEnd, Server, node_key

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.wire.feed import FeedOpen
from qustream.wire.transactions import Retire

pytestmark = pytest.mark.e2e
STRANGER = node_key(99)
FOLLOWER = 1


async def code_of(server: Server, key: SigningKey) -> str:
    """Why the server shows it out; empty if it has a feed."""
    try:
        async with await NodeEnd.dial(server, key) as connection:
            await NodeEnd(server, key, connection).ask(FeedOpen(key.id, 1))
    except QuStreamError as error:
        return error.code
    return ""


async def until(server: Server, key: SigningKey, code: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while (found := await code_of(server, key)) != code:
            assert found in ("", "E-FEED-REFUSED"), found
            await trio.sleep(0.2)


def settings(node: ChainNodeProcess) -> dict[str, object]:
    asked = f"{to_text(IdKind.NODE, node.key.id)}@{node.listen}"
    return {"chain": CHAIN, "checkpoint": node.chain_page("checkpoint")["checkpoint"], "nodes": [asked]}


async def test_the_chain_says_who_has_a_feed(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 1, followers=1, parameters=fast(rotation_ms=15_000)) as circle:
        circle.start()
        circle.until_height(6)
        validator, follower = circle.nodes
        restricted = Server(tmp_path / "restricted", allow=[validator.key, STRANGER], **settings(validator))
        with Server(tmp_path / "qrngd", **settings(validator)).running() as server, restricted.running():
            await until(server, follower.key, "")
            assert await code_of(server, STRANGER) == "E-FEED-REFUSED"
            assert server.status().feed.allowed == 2
            await until(restricted, validator.key, "")
            assert [await code_of(restricted, key) for key in (follower.key, STRANGER)] == ["E-FEED-REFUSED"] * 2
            await server.wait_for("live")
            async with await NodeEnd.dial(server, follower.key) as connection:
                node = NodeEnd(server, follower.key, connection)
                await node.open(1)
                assert len(await node.units(1)) == 1
                # Retired, it loses its feed by itself, once that is proven.
                raw = circle.signed(circle.owners[FOLLOWER], Retire(circle.licence(FOLLOWER)), 0)
                assert validator.submit(raw)[0] < 300
                circle.until(lambda node: node.has_executed(raw), [validator])
                with trio.fail_after(PATIENCE_S):
                    assert (await connection.wait_closed()).code == "E-FEED-REFUSED"
            assert await code_of(server, follower.key) == "E-FEED-REFUSED"
            assert (tmp_path / "qrngd/data/chain-known").exists()
            # When nobody can be asked, who was licensed stays, and the operator reads it.
            validator.kill()
            with trio.fail_after(PATIENCE_S):
                while not server.status().registry_trouble:
                    await trio.sleep(0.2)
            assert await code_of(server, validator.key) == ""
