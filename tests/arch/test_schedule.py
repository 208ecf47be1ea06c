"""The tests are shared out as `tests/support/schedule.py` says: each once, what takes long first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.schedule import LONG, TOGETHER, Schedule, unit_of

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 6
CHAIN, CUT_OFF = "tests/integration/test_chain.py", "tests/integration/test_qnode_peers_shown.py::test_a_node_that_is_cut_off_says_so"
GOSSIP, KEYS, DECODERS = "tests/sim/test_gossip.py", "tests/unit/qnode/service/test_keys.py", "tests/fuzz/test_decoders.py"


class Process:
    """What a scheduler sees of one. `given`: the tests, in order."""

    def __init__(self, number: int) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def scheduled(tests: list[str]) -> tuple[Schedule, list[Process]]:
    config: Any = SimpleNamespace(getvalue=lambda _: ["popen"] * PROCESSES, option=SimpleNamespace(loadscopereorder=True))
    schedule, processes = Schedule(config), [Process(number) for number in range(PROCESSES)]
    for process in processes:
        schedule.add_node(process)
        schedule.add_node_collection(process, tests)
    schedule.schedule()
    return schedule, processes


def played(tests: list[str]) -> list[list[str]]:
    """What each process has run when all are through; one after the other ends a test."""
    schedule, processes = scheduled(tests)
    done = [0] * PROCESSES
    while not all(count == len(process.given) for count, process in zip(done, processes, strict=True)):
        for number, process in enumerate(processes):
            if done[number] < len(process.given):
                done[number] += 1
                schedule.mark_test_complete(process, process.given[done[number] - 1])
    assert schedule.tests_finished
    assert all(process.shutting_down for process in processes)
    return [[tests[index] for index in process.given] for process in processes]


def made(count: int) -> list[str]:
    """So many tests of each file."""
    files = (CHAIN, GOSSIP, KEYS, DECODERS, "tests/integration/test_network.py")
    return [CUT_OFF, *(f"{file}::test_{number}" for file in files for number in range(count))]


def test_each_test_runs_once_and_those_of_a_unit_in_one_process() -> None:
    tests = made(30)
    ran = played(tests)
    assert sorted(test for each in ran for test in each) == sorted(tests)
    for unit in {unit_of(test) for test in tests}:
        assert sum(any(unit_of(test) == unit for test in each) for each in ran) == 1, unit


def test_what_takes_long_comes_first() -> None:
    _, processes = scheduled(tests := made(30))
    first = [unit_of(tests[process.given[0]]) for process in processes]
    assert first == ["network", CUT_OFF, *(f"{CHAIN}::test_{number}" for number in range(4))]
    assert len(processes[2].given) == 2, "one ahead, and no more"


@pytest.mark.parametrize("name", [*TOGETHER, *(name for name in LONG if name not in TOGETHER.values())])
def test_what_is_named_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    assert (ROOT / file).is_file()
    assert f"def {test}" in (ROOT / file).read_text()
