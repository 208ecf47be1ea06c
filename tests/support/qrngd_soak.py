"""A real QRNG server under faults, every few seconds another, drawn from a seed (`scripts/soak qrngd`; a short form is in the suite).

Devices: an emulator in the daemon, one on a FIFO, a QCicada on a pseudo-terminal; the last two are programs of their own, unplugged
and put back with other faults. Workers are killed, the daemon is killed and started again, failures are latched and cleared by an
operator. Nodes take units all the while, one reads nothing, one asks too much, one may not ask at all.

What must hold: each fault leads to the state and code it must lead to; every unit verifies and its leaf is published; no material and
no number comes twice; in the end all devices are live and nodes get units.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio
from support.network import BIN
from support.places import host
from support.qrng_server import CHAIN, NodeEnd, Server, node_key

from qrngd.emulation.maker import Maker
from qustream.entropy import leaf_hash
from qustream.errors import QuStreamError
from qustream.leaflog.audit import audit
from qustream.leaflog.source import DirectorySource
from qustream.model.entropy import MATERIAL_BYTES

__all__ = ["Soak", "SoakReport"]

HONEST = [node_key(number) for number in (1, 2, 3)]
SLOW, GREEDY, STRANGER = node_key(11), node_key(12), node_key(13)
MAKER_SEED = bytes(range(32))
# How long a device may take to show what happened to it: ten seconds of silence are its own limit.
EXPECT_S = 40.0
# What nodes may meet when a server is killed, or when they ask for what they may not have; a unit that does not verify is none of these.
ORDINARY = {"E-PEER-CLOSED", "E-PEER-UNREACHABLE", "E-PEER-LIMIT", "E-DEADLINE", "E-FEED-REFUSED", "E-FEED-CREDIT"}
# What a fault on the FIFO or the line must lead to.
LIVE, ABSENT, LATCHED = ("live", ""), ("absent", "E-DEV-ABSENT"), ("failed", "E-DEV-LATCHED")
SILENT, FORGED = ("absent", "E-DEV-READ"), ("absent", "E-DEV-CERTIFICATE")
BYTE_FAULTS: dict[str, tuple[str, str]] = {
    "stuck@bytes=300000": LATCHED,
    "biased@bytes=300000,permille=400": LATCHED,
    "correlated@bytes=300000,permille=600": LATCHED,
    "dead@bytes=300000": SILENT,
    "vanish@bytes=300000,opens=2": ABSENT,
    "torn@most=700": LIVE,
    "": LIVE,
}
LINE_FAULTS: dict[str, tuple[str, str]] = {
    "signature@reads=3": FORGED,
    "certificate": FORGED,
    "silence@reads=3": SILENT,
    "refuse@reads=3": SILENT,
    "serial@number=5": LIVE,
    "": LIVE,
}


@dataclass
class SoakReport:
    """What was done and seen. `violations`: what must not be; empty for a soak that passed."""

    seed: int
    seconds: float = 0.0
    acts: Counter[str] = field(default_factory=Counter)
    units: int = 0
    reconnects: int = 0
    latches: int = 0
    clears: int = 0
    leaves_published: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    rss_max_kib: int = 0
    violations: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(self.__dict__, indent=1)


class Program:
    """An emulated device in a process of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self._arguments = [BIN / "qrngd", "emulate", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def plug(self, *faults: str) -> None:
        self.unplug()
        self._process = subprocess.Popen([*self._arguments, *faults], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def unplug(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Soak:
    """One soak; `await run(seconds)` returns the report."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.report = SoakReport(seed)
        self._chance = random.Random(seed)
        maker = folder / "maker"
        maker.write_text(MAKER_SEED.hex() + "\n")
        maker.chmod(0o600)
        self._fifo = Program("fifo", folder / "fifo", "--rate", "3000000")
        self._line = Program("pty", folder / "line", "--protocol", "qcicada", "--authority", maker, "--rate", "400000")
        devices = [
            'name = "steady"\nkind = "emulator"',
            f'name = "pipe"\nkind = "chardev"\npath = "{folder}/fifo"\nmin_entropy_millibits = 7000',
            f'name = "lamp"\nkind = "qcicada"\npath = "{folder}/line"\nmin_entropy_millibits = 7000\n'
            f'device_authority = "{Maker(MAKER_SEED).authority.public.hex()}"',
        ]
        (folder / "server").mkdir()
        listening = {"listen": [f"{host(9)}:17421"], "stock_units": 8}
        self.server = Server(folder / "server", allow=[*HONEST, SLOW, GREEDY], device="\n[[device]]\n".join(devices), **listening)
        self._seen: set[bytes] = set()
        self._wanted: dict[tuple[bytes, int], set[bytes]] = {}
        self._stopping = False

    # --- the whole

    async def run(self, seconds: float) -> SoakReport:
        started = time.monotonic()
        self._fifo.plug()
        self._line.plug()
        self.server.start()
        try:
            async with trio.open_nursery() as nursery:
                for task in self._tasks():
                    nursery.start_soon(self._again_and_again, task)
                await self._becomes("steady", "live")
                began = time.monotonic()  # of the faults: however long the start took, there are some
                while time.monotonic() - began < seconds:
                    await self._act()
                await self._settle()
                nursery.cancel_scope.cancel()
        finally:
            self._fifo.unplug()
            self._line.unplug()
            code = self.server.stop()
        if code:
            self.report.violations.append(f"the server ended with {code}")
        self._audit()
        self.report.seconds = round(time.monotonic() - started, 1)
        return self.report

    def _tasks(self) -> list[Callable[[], Awaitable[None]]]:
        def honest(number: int) -> Callable[[], Awaitable[None]]:
            return lambda: self._honest(number)

        return [*(honest(number) for number in range(len(HONEST))), self._slow, self._greedy, self._stranger, self._watch]

    async def _again_and_again(self, task: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await task()
            except (QuStreamError, OSError) as error:
                code = getattr(error, "code", type(error).__name__)
                self.report.codes[code] += 1
                self.report.reconnects += 1
                if isinstance(error, QuStreamError) and code not in ORDINARY:
                    self.report.violations.append(f"a node met {error}")
            await trio.sleep(0.2)

    # --- what goes wrong

    async def _act(self) -> None:
        acts: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self._fault_in_the_pipe),
            (4, self._fault_on_the_line),
            (3, self._kill_a_worker),
            (2, self._retest),
            (1, self._kill_the_server),
        ]
        act = self._chance.choices([each for _, each in acts], [weight for weight, _ in acts])[0]
        self.report.acts[act.__name__.strip("_")] += 1
        await act()

    async def _fault_in_the_pipe(self) -> None:
        fault = self._chance.choice(list(BYTE_FAULTS))
        since_ms = _now_ms()
        self._fifo.plug("--faults", fault)
        await self._shows("pipe", since_ms, BYTE_FAULTS[fault], fault)
        await self._mended("pipe", self._fifo)

    async def _fault_on_the_line(self) -> None:
        fault = self._chance.choice(list(LINE_FAULTS))
        since_ms = _now_ms()
        self._line.plug("--protocol-faults", fault)
        await self._shows("lamp", since_ms, LINE_FAULTS[fault], fault)
        await self._mended("lamp", self._line)

    async def _mended(self, name: str, program: Program) -> None:
        """Another device in its place, without faults; the operator clears what was latched; it is live again."""
        program.plug()
        if self._states().get(name) == "failed":
            self.report.latches += 1
            await self._operator("clear", name)
            self.report.clears += 1
        await self._becomes(name, "live", f"{name} mended")

    async def _kill_a_worker(self) -> None:
        before, workers = await trio.to_thread.run_sync(self._restarts), self.server.children()
        if workers and before is not None:
            os.kill(self._chance.choice(workers), signal.SIGKILL)
            with trio.move_on_after(EXPECT_S):
                while (now := await trio.to_thread.run_sync(self._restarts)) is None or now <= before:
                    await trio.sleep(0.02)  # until then the states shown are those of before
        await self._all_live("a worker was killed")

    def _restarts(self) -> int | None:
        """How often workers were started anew, all told; None while nobody can say."""
        try:
            return sum(device.worker_restarts for device in self.server.status().devices)
        except (OSError, ValueError):
            return None

    async def _retest(self) -> None:
        await self._operator("retest", "steady")
        await self._becomes("steady", "live", "steady retested")

    async def _kill_the_server(self) -> None:
        self.server.kill()
        self.server.start()
        await self._all_live("the server was killed")

    async def _operator(self, command: str, name: str) -> None:
        arguments = [BIN / "qrngd", command, name, "--reason", "soak", "--config", self.server.config]
        done = await trio.to_thread.run_sync(lambda: subprocess.run(arguments, capture_output=True, text=True, check=False))
        if done.returncode:
            self.report.violations.append(f"qrngd {command} {name}: {done.stderr.strip()}")

    # --- what must follow

    def _states(self) -> dict[str, str]:
        try:
            return {device.name: device.state for device in self.server.status().devices}
        except (OSError, ValueError):
            return {}

    async def _shows(self, name: str, since_ms: int, expected: tuple[str, str], why: str) -> None:
        """The device came into a state for a reason, after `since_ms`."""

        def seen() -> list[tuple[str, str]]:
            try:
                histories = {device.name: device.history for device in self.server.status().devices}
            except (OSError, ValueError):
                return []
            return [(change.after, change.code) for change in histories[name] if change.at_ms >= since_ms]

        ends = time.monotonic() + EXPECT_S
        while expected not in (found := await trio.to_thread.run_sync(seen)):
            if time.monotonic() > ends:
                self.report.violations.append(f"{why!r}: {name} went {found}, and never to {expected}")
                return
            await trio.sleep(0.05)

    async def _becomes(self, name: str, state: str, why: str = "at the start") -> None:
        ends = time.monotonic() + EXPECT_S
        while (found := (await trio.to_thread.run_sync(self._states)).get(name)) != state:
            if time.monotonic() > ends:
                self.report.violations.append(f"{why}: {name} is {found}, not {state}")
                return
            await trio.sleep(0.05)

    async def _all_live(self, why: str) -> None:
        for name in ("steady", "pipe", "lamp"):
            await self._becomes(name, "live", why)

    async def _settle(self) -> None:
        """In the end everything works again, and every honest node gets units."""
        await self._all_live("in the end")
        before = self.report.units
        with trio.move_on_after(EXPECT_S):
            while self.report.units < before + 10:
                await trio.sleep(0.05)
            return
        self.report.violations.append("no units in the end")

    async def _watch(self) -> None:
        while True:
            await trio.sleep(0.5)
            for pid in (*self.server.children(), *([self.server.process.pid] if self.server.process else [])):
                self.report.rss_max_kib = max(self.report.rss_max_kib, _rss_kib(pid))

    # --- nodes

    async def _honest(self, number: int) -> None:
        key = HONEST[number]
        async with await NodeEnd.dial(self.server, key) as connection:
            node = NodeEnd(self.server, key, connection)
            await node.open(4)
            while True:
                for unit in await node.units(4, timeout_s=EXPECT_S):
                    self._take(key.id, unit.unit, unit.attestation.batch, unit.proof.sequence)
                await node.grant(4)
                await trio.sleep(0.05)

    def _take(self, node: bytes, unit: bytes, batch: int, sequence: int) -> None:
        digest = hashlib.sha256(unit[:MATERIAL_BYTES]).digest()
        number = node + sequence.to_bytes(8, "big")
        for what in (digest, number):
            if what in self._seen:
                self.report.violations.append(f"twice: {what.hex()}")
            self._seen.add(what)
        self._wanted.setdefault((self.server.key.id, batch), set()).add(leaf_hash(node, sequence, unit[:MATERIAL_BYTES]))
        self.report.units += 1

    async def _slow(self) -> None:
        async with await NodeEnd.dial(self.server, SLOW) as connection:
            await NodeEnd(self.server, SLOW, connection).open(200)
            await connection.wait_closed()

    async def _greedy(self) -> None:
        async with await NodeEnd.dial(self.server, GREEDY) as connection:
            await NodeEnd(self.server, GREEDY, connection).open(257)

    async def _stranger(self) -> None:
        async with await NodeEnd.dial(self.server, STRANGER) as connection:
            await NodeEnd(self.server, STRANGER, connection).open(1)

    # --- the end

    def _audit(self) -> None:
        """Everything that was delivered is in the published log, and nothing stands in it twice."""
        source = DirectorySource(self.server.data_dir / "leaves")
        server_of = {self.server.key.id: self.server.record()}.get
        try:
            (log,) = audit([source], chain=CHAIN, server_of=server_of, wanted=self._wanted)
        except QuStreamError as error:
            self.report.violations.append(f"the leaf log: {error}")
            return
        self.report.leaves_published = log.leaves
        missing = sum(map(len, self._wanted.values())) - len(log.found)
        if missing:
            self.report.violations.append(f"{missing} delivered units are not in the leaf log")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _rss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), arguments.seed)
        report = trio.run(soak.run, 60 * arguments.minutes)
        print(report.to_json())
        if report.violations:
            print(soak.server.log_path.read_text()[-4000:], file=sys.stderr)
    sys.exit(1 if report.violations else 0)


if __name__ == "__main__":
    main()
