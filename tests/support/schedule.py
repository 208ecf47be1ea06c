"""How the end-to-end tests are shared out among the processes of pytest-xdist (`--dist loadfile`).

They wait most of the time: for processes that start, for time-outs, for blocks. So there are more processes than processors, and all other
tests, which keep a processor busy, run by themselves.

A process is given a unit at a time: a file, or each test that shares nothing with others. What takes long comes first, for whoever begins
with it last is waited for by all.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from xdist.scheduler.loadscope import LoadScopeScheduling

__all__ = ["LONG", "TOGETHER", "Schedule", "unit_of"]

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
    "tests/integration/test_chain_network.py": 230,
    "network": 200,
    "tests/integration/test_real_network.py": 120,
    "tests/integration/test_chain_unlicensed.py": 100,
    "tests/integration/test_real_network_doctor.py": 90,
    "tests/integration/test_qrngd_chain.py": 70,
    "tests/integration/test_qnode_peers_shown.py::test_a_node_that_is_cut_off": 70,
    "tests/integration/test_chain_hostile.py": 60,
    "siege": 60,
    "tests/integration/test_chain_join.py": 60,
    "tests/integration/test_chain_kill.py": 55,
    "tests/integration/test_chain_offline.py": 55,
    "tests/integration/test_chain_commands.py": 55,
    "tests/integration/test_chain_sync.py": 45,
    "tests/integration/test_chain.py": 35,
    "tests/integration/test_doctor_bandwidth.py": 33,
    "tests/integration/test_qrngd_soak.py": 30,
    "tests/integration/test_appliance_reader.py": 30,
    "tests/ops/test_monitoring.py": 27,
    "tests/integration/test_qrngd_leaf_log.py::test_restarts_never_deliver": 25,
    "tests/integration/test_qrngd_feed.py": 25,
    "tests/integration/test_fsync_before_vote.py": 24,
    "tests/integration/test_strangers_flood.py": 20,
    "tests/integration/test_run.py": 17,
    "tests/integration/test_chain_long.py": 17,
    "tests/integration/test_network_file_travels.py": 16,
    "tests/integration/test_qrngd_devices.py": 16,
    "tests/integration/test_qnode_peers.py": 15,
    "tests/integration/test_qnode_feed.py": 13,
    "tests/integration/test_qrngd_many_nodes.py": 12,
    "tests/integration/test_qnode_doctor.py": 10,
}


@cache
def _text(file: str) -> str:
    path = TESTS.parent / file
    return path.read_text() if path.is_file() else ""


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


class Schedule(LoadScopeScheduling):
    """As described above."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        units = self.workqueue
        first = max(units, key=seconds_of)
        units.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: Any) -> None:
        """One unit ahead, as a process has to know the next test before it begins one, and no more: it might stand behind a long one."""
        if self._pending_of(self.assigned_work[node]) < 2 or not self.workqueue:
            super()._reschedule(node)
