"""Validators that are killed again and again under load (`scripts/soak kill`): what was final stays final, and nobody signs twice.

Each round some of them, all at times, are killed with SIGKILL at random moments and started again. Then all must agree on everything up to
where they are, go on, have every transaction that any of them ever showed as executed, and have accused nobody.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.chain_circle import ChainCircle, ChainNodeProcess, fast

from qustream.model.ids import IdKind, account_id, to_text

__all__ = ["Load", "main", "soak"]

VALIDATORS, PEOPLE = 4, 8
# Between two kills, and before a killed one is started again: within a view, and across some.
PAUSE_S = 1.5


class Load:
    """A thread that sends transfers to whoever runs. `executed`: those that some node has shown in an executed block, with its height."""

    def __init__(self, circle: ChainCircle, seed: int) -> None:
        self._circle, self._chance = circle, random.Random(seed)
        self._stop = threading.Event()
        self.sent: dict[bytes, ChainNodeProcess] = {}
        self.executed: dict[bytes, int] = {}
        self._asked = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def shown(self) -> list[bytes]:
        """What has been shown as executed since this was asked last."""
        new, self._asked = list(self.executed)[self._asked :], len(self.executed)
        return new

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self._send()
                self._look()
            except (OSError, AssertionError, ValueError, IndexError):  # whoever was asked has just been killed
                continue

    def _send(self) -> None:
        node = self._chance.choice(self._circle.up)
        person = self._chance.randrange(len(self._circle.people))
        account = to_text(IdKind.ACCOUNT, account_id(self._circle.people[person].id))
        nonce = node.chain_page(f"accounts/{account}")["next_nonce"]
        to = (person + 1) % len(self._circle.people)
        raw = self._circle.transfer(person, to, nonce, self._chance.randrange(1, 1_000))
        if node.submit(raw)[0] < 300:
            self.sent[raw] = node

    def _look(self) -> None:
        node = self._chance.choice(self._circle.up)
        for raw in list(self.sent)[-20:]:
            if raw not in self.executed and node.has_executed(raw):
                self.executed[raw] = node.height


def soak(folder: Path, *, rounds: int, seed: int, say: bool = False) -> dict[str, int]:
    """Play it; AssertionError if anything is not as it must be. How much there was of what."""
    chance, kills = random.Random(seed), 0
    parameters = fast(idle_ms=1_000, rotation_ms=20_000)
    with ChainCircle(folder, VALIDATORS, people=PEOPLE, parameters=parameters) as circle:
        circle.start()
        circle.until_height(2)
        known: dict[int, Mapping[str, Any]] = {}
        with Load(circle, seed) as load:
            for number in range(rounds):
                kills += _round(circle, chance)
                _look_at(circle, load, known)
                if say:
                    print(
                        f"round {number + 1}: height {circle.nodes[0].height}, {kills} kills, {len(load.executed)} transactions", flush=True
                    )
        return {"height": circle.nodes[0].height, "kills": kills, "transactions": len(load.executed)}


def _round(circle: ChainCircle, chance: random.Random) -> int:
    victims = chance.sample(range(VALIDATORS), chance.choice([1, 1, 2, 3, 4]))
    for number in victims:
        time.sleep(chance.uniform(0, PAUSE_S))  # no race is hidden: any moment is as good as another
        circle.nodes[number].kill()
    chance.shuffle(victims)
    for number in victims:
        time.sleep(chance.uniform(0, PAUSE_S))
        circle.nodes[number].start()
    return len(victims)


def _look_at(circle: ChainCircle, load: Load, known: dict[int, Mapping[str, Any]]) -> None:
    """`known`: blocks that all had after earlier rounds; who agrees on one agrees on all before it."""
    circle.until_height(max(node.height for node in circle.nodes) + 3)
    height = min(node.height for node in circle.nodes)
    known[height] = circle.agree(height)
    for earlier, block in known.items():
        assert circle.agree(earlier) == block
    assert not [node.ledger.accusations for node in circle.nodes if node.ledger.accusations]
    for raw in load.shown():
        circle.until(lambda node, raw=raw: node.has_executed(raw))  # type: ignore[misc]


def main() -> None:
    """`--rounds N --seed N`"""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    folder, began = Path(tempfile.mkdtemp(prefix="chain-soak-")), time.monotonic()
    try:
        print(soak(folder, rounds=given.rounds, seed=given.seed, say=True), f"in {time.monotonic() - began:.0f} s")
    except BaseException:
        print(f"what is left of it is in {folder}", flush=True)
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
