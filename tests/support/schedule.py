"""How the tests are shared out among the processes of pytest-xdist (`--dist loadfile`).

End-to-end tests wait most of the time: for processes that start, for time-outs, for blocks. All others keep a processor busy. So the first
`WAITERS` processes begin with the ones and the others with the others, and whoever is through helps with what is left. Those who only
compute are nice to the rest: a daemon does what it has to do when it has to, whatever else is tested.

A process is given a unit at a time: a file, or each end-to-end test that shares nothing. What takes long comes first, for whoever begins
with it last is waited for by all.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from xdist.scheduler.loadscope import LoadScopeScheduling

__all__ = ["LONG", "NICE", "TOGETHER", "WAITERS", "Schedule", "unit_of"]

WAITERS = 6
NICE = 3
TESTS = Path(__file__).resolve().parents[1]

# Tests that share what takes seconds to make, by how their names begin: one unit each.
TOGETHER = {
    "tests/integration/test_network.py": "network",
    "tests/integration/test_run.py::test_a_second_network": "network",
    "tests/integration/test_fsync_before_answer.py": "network",
    "tests/integration/test_qnode_peers.py::test_a_network_that_serves_keys": "network",
    "tests/integration/test_peers_hostile.py": "siege",
    "tests/integration/test_peers_hostile_gossip.py": "siege",
}
# Units that take long, and about how many seconds on a quiet machine; all others take a few. What is wrong here costs time alone.
LONG = {
    "tests/integration/test_real_network.py": 200,
    "network": 150,
    "siege": 120,
    "tests/integration/test_chain_network.py": 110,
    "tests/integration/test_chain_hostile.py": 70,
    "tests/integration/test_chain_join.py": 70,
    "tests/integration/test_qnode_peers_shown.py::test_a_node_that_is_cut_off": 66,
    "tests/integration/test_real_network_doctor.py": 62,
    "tests/integration/test_chain_long.py": 60,
    "tests/integration/test_chain_unlicensed.py": 50,
    "tests/integration/test_qrngd_leaf_log.py::test_restarts_never_deliver": 50,
    "tests/integration/test_qrngd_feed.py": 50,
    "tests/ops/test_monitoring.py": 50,
    "tests/integration/test_qrngd_many_nodes.py": 45,
    "tests/integration/test_lan.py": 40,
    "tests/integration/test_appliance_reader.py": 40,
    "tests/ops/test_node_unit.py": 40,
    "tests/integration/test_chain_kill.py": 37,
    "tests/integration/test_chain.py": 30,
    "tests/integration/test_chain_sync.py": 30,
    "tests/integration/test_chain_commands.py": 30,
    "tests/integration/test_qnode_feed.py": 25,
    "tests/integration/test_qrngd_devices.py": 25,
    "tests/integration/test_qrngd_soak.py": 20,
    "tests/integration/test_run.py": 15,
    # And of those that compute:
    "tests/sim/test_peers.py": 110,
    "tests/sim/test_gossip.py": 100,
    "tests/sim/test_consensus.py": 60,
    "tests/integration/client/test_command.py": 60,
    "tests/unit/qnode/service/test_consensus.py": 50,
    "tests/integration/test_leaf_log_kill.py": 40,
    "tests/fuzz/test_decoders.py": 33,
    "tests/integration/test_chain_store_kill.py": 30,
    "tests/integration/test_delivery_kill.py": 30,
    "tests/sim/test_explore.py": 30,
    "tests/sim/test_snapshot.py": 30,
    "tests/sim/test_sync.py": 30,
    "tests/unit/qnode/cli/test_validator.py": 30,
    "tests/unit/qrngd/leaflog/test_log_machine.py": 20,
    "tests/unit/qustream/envelope/test_stream.py": 20,
}


@cache
def _text(file: str) -> str:
    path = TESTS.parent / file
    return path.read_text() if path.is_file() else ""


def is_waiting(file: str) -> bool:
    """Whether there are end-to-end tests among its tests."""
    return "mark.e2e" in _text(file)


@cache
def unit_of(test: str) -> str:
    """What goes to one process together with this test."""
    for begins, unit in TOGETHER.items():
        if test.startswith(begins):
            return unit
    file = test.partition("::")[0]
    shares_nothing = re.search(r"^pytestmark = .*mark\.e2e", _text(file), re.MULTILINE) and 'scope="module"' not in _text(file)
    return test if shares_nothing else file


@cache
def seconds_of(unit: str) -> int:
    """About how long it takes, if that is long."""
    return next((seconds for begins, seconds in LONG.items() if unit.startswith(begins)), 0)


def _waits(unit: str) -> bool:
    return unit in TOGETHER.values() or is_waiting(unit.partition("::")[0])


class Schedule(LoadScopeScheduling):
    """As described above."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        waits = int(node.gateway.id.removeprefix("gw")) < WAITERS
        units = self.workqueue
        first = min(units, key=lambda unit: (_waits(unit) != waits, -seconds_of(unit)))
        units.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: Any) -> None:
        """One unit ahead, as a process has to know the next test before it begins one, and no more: it might stand behind a long one."""
        if self._pending_of(self.assigned_work[node]) < 2 or not self.workqueue:
            super()._reschedule(node)
