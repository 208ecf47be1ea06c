"""The bounds on what a network file may hold."""

from __future__ import annotations

from copy import deepcopy

import pytest
from msgspec.structs import replace

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.registry import contents as module


@pytest.mark.parametrize(
    ("limit", "table", "call"),
    [
        ("NODES_MAX", "nodes", lambda contents, row: contents.add_node(*row)),
        ("QRNG_SERVERS_MAX", "qrng_servers", lambda contents, row: contents.add_qrng_server(row)),
        ("USERS_MAX", "users", lambda contents, row: contents.add_user(*row)),
        ("GRANTS_MAX", "grants", lambda contents, row: contents.add_grant(row)),
    ],
)
def test_each_table_is_bounded(network, monkeypatch, limit, table, call):
    contents = deepcopy(network.writer.contents)
    rows = getattr(contents, table)
    monkeypatch.setattr(module, limit, len(rows))
    with pytest.raises(QuStreamError) as caught:
        call(contents, next(iter(rows.values())))
    assert caught.value.code == "E-REGISTRY-FORMAT"
    assert f"more than {len(rows)} " in caught.value.detail


def test_a_user_is_verified_once_and_again_when_his_key_changes(network):
    users = network.writer.contents.users
    known = users[network.alice]
    contents = deepcopy(network.writer.contents)
    contents.users.clear()
    forged = replace(known.record, hpke=replace(known.record.hpke, signature=users[network.bob].record.hpke.signature))
    with pytest.raises(QuStreamError) as caught:
        contents.add_user(forged, "eve", users)
    assert caught.value.code == "E-REGISTRY-FORMAT"
    stranger = replace(known.record, master=SigningKey(b"\x09" * 32).public)
    with pytest.raises(QuStreamError):
        contents.add_user(stranger, "eve", users)
    contents.add_user(known.record, "alice 2", users)
    assert contents.users[network.alice].label == "alice 2"
