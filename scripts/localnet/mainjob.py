"""The main job, as `scripts/run` does it: every step is a command a user could type, and is shown."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from localnet import chain, devices, processes
from localnet.commands import PROVED_BLOCKS, bring_up, enrol_user, grant_user, take_down, wait_seen
from localnet.layout import QRNGD_HOST, Layout
from localnet.processes import BIN, Failed
from localnet.together import INTERRUPTS, together
from qustream.errors import QuStreamError
from qustream.identity.wallet import Wallet
from qustream.identity.words import new_words

SAMPLE_BYTES = 8 << 20  # the file made when none is named: 8 MiB
BASE_PORT = 7600  # beside a network that `scripts/testnet.py up` may be running
PORT_STEP = 100
RUNS_MAX = 20  # base ports tried: as many runs at once as a machine could bear
UNITS = 6  # one block from each node


class Steps:
    """Prints the steps and what each took."""

    def __init__(self) -> None:
        self.took: list[tuple[str, float]] = []

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        click.echo(click.style(f"\n== {text}", bold=True))
        started = time.monotonic()
        yield
        self.took.append((text, time.monotonic() - started))

    def summary(self) -> None:
        click.echo(click.style("\n== What it took", bold=True))
        for text, seconds in self.took:
            click.echo(f"{seconds:8.2f} s  {text}")


class User:
    """A user of the network with a directory and a credential of his own."""

    def __init__(self, layout: Layout, name: str) -> None:
        self.layout = layout
        self.name = name
        self.home = layout.directory / "users" / name
        self.credential = layout.new_credential(name)
        self.id = ""

    def open_account(self) -> None:
        """Make his account before the chain begins, which gives him some money."""
        passphrase = (self.credential / "qustream").read_bytes()
        made = Wallet.create(self.home, new_words(), passphrase, chain=self.layout.chain, api=self.layout.api())
        self.layout.funded.append(made.account.hex())

    def init(self) -> int:
        """Make the user and enrol him; the block's height, or 0. His words are nobody's business here."""
        self.home.parent.mkdir(exist_ok=True)
        layout = self.layout
        if layout.by_file:
            self.run("init", "--network", str(layout.network_file), "--network-key", layout.network_key, "--label", "laptop", quiet=True)
            self.id = enrol_user(layout, self.home, self.credential)
            return 0
        done = self.run("init", *chain.init_arguments(layout), "--label", "laptop", quiet=True)
        self.id = done.stdout.strip()
        words = next(line for line in done.stderr.splitlines() if line.startswith("    ")).strip()
        return chain.register(layout, self.home, self.credential, words)

    def get_grant(self, count: int) -> str:
        """So many requests; the grant's text id."""
        if self.layout.by_file:
            return grant_user(self.layout, self.home, count, self.credential)
        text, height = chain.buy_grant(self.layout, self.home, count, self.credential)
        wait_seen(self.layout, height + PROVED_BLOCKS)
        return text

    def run(self, *arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `qustream` as this user; what it prints is shown."""
        if not quiet:
            click.echo(click.style(f"{self.name}$ qustream {' '.join(arguments)}", dim=True))
        done = subprocess.run(
            [BIN / "qustream", "--home", self.home, *arguments],
            env=os.environ | {"CREDENTIALS_DIRECTORY": str(self.credential)}, capture_output=quiet, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"qustream {arguments[0]} ended with {done.returncode} {done.stderr or ''}".rstrip())
        return done


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--device", default="emulator", show_default=True, help="emulator, auto, or a character device such as /dev/hwrng.")
@click.option("--network-file", "by_file", is_flag=True, help="Without a chain: a signed file says who belongs to the network.")
@click.option("--keep", is_flag=True, help="Leave the network's directory behind, to look at.")
@click.option("--from", "caller", type=click.Path(path_type=Path), hidden=True, default=Path())
def main(file: Path | None, *, device: str, by_file: bool, keep: bool, caller: Path) -> None:
    """Encrypt FILE (8 MiB of made-up bytes if none is named) to a second user over a local network, and open it again."""
    if file is not None and not (file := caller / file).is_file():
        raise click.BadParameter(f"{file} is not a file", param_hint="FILE")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_on_signal)
    with free_base_port() as base_port:
        directory = Path(tempfile.mkdtemp(prefix="qustream-run-"))
        layout = Layout.fresh(directory)
        layout.base_port, layout.by_file = base_port, by_file
        try:
            job(layout, file, device)
        except (Failed, QuStreamError) as error:
            click.echo(click.style(f"\nFAILED: {error}", fg="red"), err=True)
            keep = keep or layout.logs.exists()
            sys.exit(1)
        finally:
            clean_up(layout, keep=keep)


def stop_on_signal(number: int, _frame: object) -> None:
    """A closed terminal or a `kill` ends the run as Ctrl-C does: with nothing left running."""
    raise SystemExit(128 + number)


def clean_up(layout: Layout, *, keep: bool) -> None:
    """Stop every daemon and remove what the run has made; a second Ctrl-C does not interrupt that."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    take_down(layout)
    shutil.rmtree(layout.credentials, ignore_errors=True)
    if keep:
        click.echo(f"left behind to look at: {layout.directory} (logs in {layout.logs})", err=True)
    else:
        shutil.rmtree(layout.directory, ignore_errors=True)


@contextmanager
def free_base_port() -> Iterator[int]:
    """A base port that no other run uses; a bound socket says so while this one lasts. Raises `ClickException` when there is none."""
    for base_port in range(BASE_PORT, BASE_PORT + RUNS_MAX * PORT_STEP, PORT_STEP):
        layout = Layout(Path(), Path(), base_port=base_port)
        with socket.socket() as mark:
            try:
                mark.bind((QRNGD_HOST, base_port + PORT_STEP - 1))
            except OSError:
                continue
            if not any(processes.taken(layout, name) for name in layout.daemon_names):
                yield base_port
                return
    raise click.ClickException(f"no free ports between {BASE_PORT} and {BASE_PORT + RUNS_MAX * PORT_STEP}: are other runs left over?")


def job(layout: Layout, file: Path | None, device: str) -> None:
    """The steps."""
    steps = Steps()
    work = layout.directory / "files"
    work.mkdir(mode=0o700)
    with steps.step("Choose the device"):
        layout.device, layout.units_per_second = devices.choose(device)
        click.echo(f"randomness comes from: {layout.device}")
        if layout.units_per_second:
            seconds = UNITS / layout.units_per_second
            click.echo(f"it gives {layout.units_per_second:.3f} units/s: six keys will take about {seconds:.0f} s")
    alice, bob = User(layout, "alice"), User(layout, "bob")
    with steps.step("Start one QRNG server and six nodes" + ("" if layout.by_file else ", four of them validators of a new chain")):
        if not layout.by_file:
            alice.open_account()
            bob.open_account()
        bring_up(layout)
        for name in layout.daemon_names:
            kind = "QRNG server" if name == "qrngd" else "foundation" if layout.is_foundation(name) else "community"
            click.echo(f"{name:6} {kind:11} {layout.listen(name):18} pid {processes.pid(layout, name)}")
    how = "give alice a grant of" if layout.by_file else "let alice buy a grant of"
    with steps.step(f"Enrol two users, {how} 1,024 requests"):
        with together(2) as pool:
            list(pool.map(User.init, (alice, bob)))
        click.echo(f"alice {alice.id}\nbob   {bob.id}\ngrant {alice.get_grant(1024)}")
    source = file or sample(work)
    size = source.stat().st_size
    envelope, opened = work / f"{source.name}.qs", work / f"{source.name}.opened"
    with steps.step(f"alice encrypts {source.name} ({size:,} bytes) to bob"):
        alice.run("encrypt", str(source), "--to", bob.id, "-o", str(envelope))
    with steps.step("bob verifies where each key came from"):
        bob.run("verify", str(envelope), "--blocks")
    with steps.step("bob opens it"):
        bob.run("open", str(envelope), "-o", str(opened))
    with steps.step("Compare"):
        before, after = digest(source), digest(opened)
        click.echo(f"SHA-256 before {before}\nSHA-256 after  {after}")
        if before != after:
            raise Failed("the opened file differs from the original")
        click.echo(click.style("the same", fg="green"))
    with steps.step("Stop the network"):
        if killed := take_down(layout):
            raise Failed(f"{', '.join(killed)} did not stop in time")
        click.echo("stopped")
    steps.summary()


def sample(folder: Path) -> Path:
    """A file to encrypt."""
    path = folder / "sample.bin"
    path.write_bytes(os.urandom(SAMPLE_BYTES))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    main(prog_name="scripts/run")
