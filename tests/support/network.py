"""A real local network for the end-to-end tests: the daemons and commands a user has, on loopback, nothing faked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Finished:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def run(*arguments: str | Path, env: dict[str, str] | None = None, stdin: str = "", timeout_s: float = 300) -> Finished:
    done = subprocess.run(
        [str(a) for a in arguments],
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        input=stdin,
        timeout=timeout_s,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@dataclass
class Network:
    """A network made by `scripts/testnet.py`."""

    directory: Path
    layout: dict[str, Any] = field(default_factory=dict)

    def testnet(self, command: str, *arguments: str | Path, ok: bool = True) -> Finished:
        done = run(ROOT / "scripts" / "testnet.py", command, "--dir", self.directory, *arguments)
        if ok:
            assert done.code == 0, f"testnet {command}: {done.err}"
        return done

    def user(self, name: str, *, requests: int = 64, words: str = "") -> User:
        """A user of his own, enrolled and with a grant; with `words`, a second device of whoever has these words."""
        user = User(self, name)
        restore = ("--restore", "--stripe", "1") if words else ()
        where = ("--network", self.directory / "network.toml", "--network-key", self.layout["network_key"])
        made = user("init", *where, "--label", name, *restore, stdin=words)
        assert made.code == 0, made.err
        user.id = made.out.strip()
        user.words = next((line.strip() for line in made.err.splitlines() if len(line.split()) == 12 and line.startswith("    ")), words)
        self.testnet("enrol", user.home, "--credential", user.credential)
        if requests:
            self.testnet("grant", user.home, "--credential", user.credential, "--count", str(requests))
        return user

    def log(self, name: str) -> list[dict[str, Any]]:
        lines = (self.directory / "logs" / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def names(self, node_class: str) -> list[str]:
        return ["node1", "node2", "node3"] if node_class == "foundation" else ["node4", "node5", "node6"]


class User:
    """Somebody who runs `qustream`."""

    def __init__(self, network: Network, name: str) -> None:
        self.home = network.directory / "users" / name
        self.home.parent.mkdir(exist_ok=True)
        self.credential = Path(network.layout["credentials"]) / name
        self.credential.mkdir(mode=0o700)
        (self.credential / "qustream").write_text(f"the passphrase of {name}")
        (self.credential / "qustream").chmod(0o600)
        self.id = ""
        self.words = ""

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Finished:
        return run(BIN / "qustream", "--home", self.home, *arguments, env={"CREDENTIALS_DIRECTORY": str(self.credential)}, stdin=stdin)


def start_network(directory: Path, base_port: int, *arguments: str) -> Network:
    """A network whose members a signed file names, which a test can change in a moment."""
    network = Network(directory)
    network.testnet("up", "--network-file", "--base-port", str(base_port), *arguments)
    network.layout = json.loads((directory / "layout.json").read_text())
    return network
