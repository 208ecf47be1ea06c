"""`qnode doctor` on a host with two addresses, before others who really try to connect: open, half closed, closed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.lan.hosts import Lan
from support.lan.nodes import PORT, LanNode, Nodes

pytestmark = [pytest.mark.e2e, pytest.mark.needs("netns", "nft")]

HOSTS = {
    "new": ["45.1.0.1", "2a01:1::1"],
    "ann": ["45.2.0.1", "2a01:2::1"],
    "ben": ["45.3.0.1", "2a01:3::1"],
    "cat": ["45.4.0.1", "2a01:4::1"],
}
OTHERS = ["ann", "ben", "cat"]
V4, V6 = f"45.1.0.1:{PORT}", f"[2a01:1::1]:{PORT}"
NO_WAY_IN = (
    "table inet filter {\n chain in {\n type filter hook input priority 0\n iif != lo %s tcp flags & (syn | ack) == syn drop\n }\n}\n"
)


def doctor(node: LanNode) -> dict[str, str]:
    """The name of each check to the rest of its line."""
    command = [node.program, "doctor", "--config", node.config]
    done = node.host.run(
        subprocess.run, command, env=node.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line[:4] in ("ok  ", "FAIL")]
    return {line[6:].partition(": ")[0]: line[:4].strip() + " " + line.partition(": ")[2] for line in lines}


def again(nodes: Nodes) -> None:
    """Start the others anew: they remember whom they dialled back within a minute."""
    for name in OTHERS:
        nodes[name].stop()
    nodes.start(OTHERS)
    nodes.until_linked(OTHERS)


def test_each_address_is_tried_from_outside(tmp_path: Path) -> None:
    with Lan(HOSTS, seed="doctor") as lan, Nodes(tmp_path, lan, list(HOSTS)) as nodes:
        nodes.publish()
        nodes.start(OTHERS)
        nodes.until_linked(OTHERS)
        new = nodes["new"]
        found = doctor(new)
        assert found["peers"] == "ok 3 of 3 known nodes were tried, 3 answered"
        assert found["reachable"] == f"ok {V4} reached by 3 of 3; {V6} reached by 3 of 3"

        lan["new"].nft(NO_WAY_IN % "meta nfproto ipv4")
        again(nodes)
        found = doctor(new)
        assert found["peers"] == "ok 3 of 3 known nodes were tried, 3 answered"
        assert found["reachable"] == f"ok {V4} reached by 0 of 3 (E-DEADLINE 3); {V6} reached by 3 of 3"

        lan["new"].nft(NO_WAY_IN % "")
        again(nodes)
        found = doctor(new)
        assert found["reachable"].startswith(
            f"FAIL E-UNREACHABLE: {V4} reached by 0 of 3 (E-DEADLINE 3); {V6} reached by 0 of 3 (E-DEADLINE 3)"
        )

        # A machine without any way out is told from one that nobody reaches.
        lan.partition(OTHERS)
        found = doctor(new)
        assert found["peers"].startswith("FAIL E-NO-PEERS: 3 of 3 known nodes were tried, and none answered; ")
        assert found["reachable"] == "ok not known: no other node could be asked to connect"
