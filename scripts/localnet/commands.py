"""The commands of `scripts/testnet.py`."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from localnet import chain, devices, network, processes
from localnet.layout import Layout
from localnet.peers import peers_table
from localnet.processes import Failed
from qnode.api.peers import PeersPage
from qustream.errors import QuStreamError
from qustream.model.amount import UNITS_PER_QST
from qustream.model.ids import IdKind, from_text

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT_DIRECTORY = ROOT / ".testnet"
SEEN_SECONDS = 240.0  # nodes look at the network file once a second; a chain has a block a second; a busy machine takes far longer
GOES_SECONDS = 240.0  # how long a chain may take to begin: its validators have to find each other first
# A header names what was executed three blocks before it: so far on, who keeps no chain himself can have it proved.
PROVED_BLOCKS = 4
# Below this in his account, a user is given money when he is entered or wants a grant.
LOW_QST = 50
READY_SECONDS = 60.0  # the emulator makes a node ready in about two; a slow device gets its own ETA on top
START_SECONDS = 5.0  # on top for each daemon: one takes about a second of a core to start, and a busy machine gives it a fifth of one


def directory_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_DIRECTORY, help="Where the network lives."
    )(command)


@click.group(help=sys.modules["__main__"].__doc__)
def cli() -> None:
    """Commands over one local network."""


def bring_up(layout: Layout, *, quiet: bool = False) -> None:
    """Make (if new) and start a network, and return when every node is ready. Raises `Failed` with the daemon's last words."""
    stopped = [name for name in layout.daemon_names if processes.pid(layout, name) is None]
    for name in stopped:
        # Another network's daemon there would answer for ours.
        if address := processes.taken(layout, name):
            raise Failed(f"{address}, the address of {name}, is taken: stop the other network, or choose another --base-port (and --dir)")
    if not layout.is_made:
        make(layout)
    for name in stopped:
        processes.start(layout, name)
    wait_ready(layout, layout.node_names, quiet=quiet)
    if not layout.by_file:
        wait_goes_on(layout)


def make(layout: Layout) -> None:
    """Make a network whole or not at all: half a one, after Ctrl-C, would stand in the way of the next `up`."""
    ours = not layout.directory.exists() or not any(layout.directory.iterdir())
    try:
        network.create(layout) if layout.by_file else chain.create(layout)
    except BaseException:
        shutil.rmtree(layout.credentials, ignore_errors=True)
        if ours:
            shutil.rmtree(layout.directory, ignore_errors=True)
        raise


def wait_ready(layout: Layout, names: list[str], *, quiet: bool = False) -> None:
    """Wait until these nodes are ready; say what they wait for when it takes long."""
    patience = READY_SECONDS + START_SECONDS * len(names) + layout.patience_seconds(units=len(names))
    started = said = time.monotonic()
    left = list(names)
    while left:
        require_running(layout, dict.fromkeys(("qrngd", *left)))
        left = [n for n in left if processes.probe(layout, n)[0] != 200]
        now = time.monotonic()
        if left and now - started > patience:
            code, why = processes.probe(layout, left[0])
            raise Failed(f"{left[0]} is not ready after {patience:.0f} s: {code} {why}\n{processes.last_words(layout, left[0])}")
        if left and not quiet and now - said > 10:
            said = now
            done = len(names) - len(left)
            click.echo(f"  {done} of {len(names)} daemons ready after {now - started:.0f} s (gives up after {patience:.0f} s)", err=True)
        if left:
            # A slow device takes minutes: then look less often.
            time.sleep(processes.POLL_SECONDS if now - started < 10 else 10 * processes.POLL_SECONDS)


def require_running(layout: Layout, names: Iterable[str]) -> None:
    """Raises `Failed` with the last words of the first of these daemons that has stopped: nobody waits for that one."""
    for name in names:
        if processes.pid(layout, name) is None:
            raise Failed(f"{name} has stopped. Its last words:\n{processes.last_words(layout, name)}")


def height_of(layout: Layout, name: str) -> int:
    """The version of the network file, or the block, that a node answers from; 0 if it does not answer."""
    return int(str(processes.probe(layout, name, "/v1/status")[1].get("height", 0)))


def wait_seen(layout: Layout, height: int, *, patience: float = SEEN_SECONDS) -> None:
    """Wait until every running node has this version of the network file, or this block, so that the next command finds it in force.

    Raises `Failed` when one of them stops meanwhile, or when it takes longer than `patience`, in seconds.
    """
    deadline = time.monotonic() + patience
    left = [name for name in layout.node_names if processes.pid(layout, name) is not None]
    while left := [name for name in left if height_of(layout, name) < height]:
        require_running(layout, left)
        if time.monotonic() > deadline:
            what = f"version {height} of the network file" if layout.by_file else f"block {height}"
            raise Failed(f"{', '.join(left)} do not have {what} after {patience:.0f} s; see their logs in {layout.logs}")
        time.sleep(processes.POLL_SECONDS)


def wait_goes_on(layout: Layout) -> None:
    """Wait until a chain, new or started again, has a block more than it had everywhere."""
    wait_seen(layout, max(height_of(layout, name) for name in layout.node_names) + 1, patience=GOES_SECONDS)


def take_down(layout: Layout) -> list[str]:
    """Stop every daemon cleanly."""
    return processes.stop(layout, layout.daemon_names)


@cli.command()
@directory_option
@click.option("--foundation", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option("--community", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option("--device", default="emulator", show_default=True, help="emulator, emulator:FAULTS, auto, or a character device.")
@click.option("--base-port", default=7300, show_default=True, type=click.IntRange(1024, 65000))
@click.option("--network-file", "by_file", is_flag=True, help="Without a chain: a signed file says who belongs to the network.")
@click.option("--validators", default=4, show_default=True, type=click.IntRange(1, 100), help="How many of the first nodes vote.")
@click.option("--epoch", default=600, show_default=True, type=click.IntRange(10), help="Seconds; a grant is good for two.")
@click.option("--rotation", default=60, show_default=True, type=click.IntRange(5), help="Seconds that a set of validators stays.")
@click.option("--spare-licences", default=2, show_default=True, type=click.IntRange(0, 1000), help="Licences for sale, without a node.")
@click.option("--fresh", is_flag=True, help="Throw an earlier network in this directory away.")
def up(directory: Path, *, device: str, fresh: bool, epoch: int, rotation: int, **chosen: int | bool) -> None:
    """Make the network if there is none, start it, and wait until it is ready and its chain goes on."""
    if fresh and (directory / "layout.json").exists():
        processes.stop(Layout.load(directory), Layout.load(directory).daemon_names)
        shutil.rmtree(Layout.load(directory).credentials, ignore_errors=True)
        shutil.rmtree(directory)
    if (directory / "layout.json").exists():
        layout = Layout.load(directory)
    else:
        layout = Layout.fresh(directory.resolve())
        layout.epoch_ms, layout.rotation_ms = 1000 * epoch, 1000 * rotation
        for name, value in chosen.items():
            setattr(layout, name, value)
        layout.device, layout.units_per_second = devices.choose(device)
    started = time.monotonic()
    bring_up(layout)
    click.echo(f"{len(layout.nodes)} nodes ready in {time.monotonic() - started:.1f} s; logs in {layout.logs}")
    if layout.by_file:
        click.echo(f"network file  {layout.network_file}\nnetwork key   {layout.network_key}")
    else:
        click.echo(f"genesis       {layout.genesis}\nchain pages   {layout.api()}/v1/chain/")
        click.echo(f"a user        qustream init {' '.join(chain.init_arguments(layout))}")


@cli.command()
@directory_option
@click.option("--forget", is_flag=True, help="Remove the passphrases too: this network cannot be started again.")
def down(directory: Path, *, forget: bool) -> None:
    """Stop every daemon cleanly. Keys, data and passphrases stay for the next `up`."""
    layout = load(directory)
    killed = take_down(layout)
    if forget:
        shutil.rmtree(layout.credentials, ignore_errors=True)
    click.echo(f"had to kill {', '.join(killed)}" if killed else "stopped")


@cli.command()
@directory_option
def status(directory: Path) -> None:
    """One line a daemon."""
    layout = load(directory)
    for name in layout.daemon_names:
        number = processes.pid(layout, name)
        code, answer = processes.probe(layout, name) if number else (0, {})
        state = "ready" if code == 200 else "stopped" if not number else f"not ready: {answer.get('reasons') or answer or 'no answer'}"
        kind = "qrng" if name == "qrngd" else "foundation" if layout.is_foundation(name) else "community"
        click.echo(f"{name:8} {kind:10} {layout.listen(name):20} pid {number or '-':<8} {state}")


@cli.command()
@directory_option
def peers(directory: Path) -> None:
    """Who is linked to whom: a line a node. For one node alone: qnode peers --url.

    away: known nodes to which the last dial failed; heard, said: messages of gossip in and out; file: the version of the network file, or
    the block, that it answers from.
    """
    layout = load(directory)
    pages: dict[str, PeersPage | None] = {}
    for name in layout.node_names:
        code, answer = processes.probe(layout, name, "/v1/peers") if processes.pid(layout, name) else (0, {})
        pages[name] = msgspec.convert(answer, PeersPage) if code == 200 else None
    click.echo(peers_table(pages))


@cli.command()
@directory_option
@click.argument("names", nargs=-1, required=True)
def kill(directory: Path, names: tuple[str, ...]) -> None:
    """kill -9 daemons (node1 … or qrngd)."""
    layout = load(directory)
    processes.stop(layout, checked(layout, names), hard=True)


@cli.command()
@directory_option
@click.argument("names", nargs=-1, required=True)
def restart(directory: Path, names: tuple[str, ...]) -> None:
    """Stop (if needed) and start daemons, and wait until the nodes are ready."""
    layout = load(directory)
    processes.stop(layout, checked(layout, names))
    for name in names:
        processes.start(layout, name)
    # Without randomness no node is ready for long, so a restarted QRNG server has them all waited for.
    running = [n for n in layout.node_names if processes.pid(layout, n) is not None]
    wait_ready(layout, [*running, "qrngd"] if "qrngd" in names else list(names))


def credential_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option("--credential", type=click.Path(path_type=Path), help="$CREDENTIALS_DIRECTORY for the user's keystore.")(command)


@cli.command()
@directory_option
@credential_option
@click.option("--words-file", type=click.Path(path_type=Path, exists=True), help="The user's words, which a chain needs; else asked for.")
@click.argument("home", type=click.Path(path_type=Path, exists=True, file_okay=False))
def enrol(directory: Path, home: Path, credential: Path | None, words_file: Path | None) -> None:
    """Make the user or device of HOME known to the network. On a chain he gets an account with some money, too."""
    layout = load(directory)
    if layout.by_file:
        click.echo(enrol_user(layout, home, credential))
        return
    words = words_file.read_text() if words_file else str(click.prompt("The user's words", hide_input=True, err=True))
    click.echo(enter_user(layout, home, credential, words))


def enter_user(layout: Layout, home: Path, credential: Path | None, words: str) -> str:
    """Enter a user's directory in the chain, with an account of his own; returns the user's text id."""
    fund(layout, chain.open_wallet(layout, home, credential))
    wait_seen(layout, chain.register(layout, home, credential, words) + PROVED_BLOCKS)
    return str(network.whoami(home, credential=credential)["user"])


def fund(layout: Layout, account: str) -> None:
    """See that an account has enough for a user's needs."""
    if chain.balance(layout, account) < LOW_QST * UNITS_PER_QST:
        chain.pay_from_bank(layout, account, chain.USER_QST)


@cli.command()
@directory_option
@click.argument("account")
@click.argument("amount", type=click.IntRange(1))
def pay(directory: Path, account: str, amount: int) -> None:
    """Give ACCOUNT (qst1…) AMOUNT whole QST, out of what the test network has for that."""
    layout = load(directory)
    if layout.by_file:
        raise Failed("this network has no chain, and so no money")
    click.echo(f"final in block {chain.pay_from_bank(layout, account, amount)}")


def enrol_user(layout: Layout, home: Path, credential: Path | None) -> str:
    """Enrol a user's directory in the network file; returns the user's text id."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "enrolment"
        answer = network.whoami(home, "--enrolment", str(path), credential=credential)
        wait_seen(layout, network.enrol(layout, path.read_bytes()))
    return str(answer["user"])


@cli.command()
@directory_option
@credential_option
@click.option("--count", default=1024, show_default=True, type=click.IntRange(1, 1 << 20))
@click.argument("home", type=click.Path(path_type=Path, exists=True, file_okay=False))
def grant(directory: Path, home: Path, count: int, credential: Path | None) -> None:
    """Give the user of HOME a grant of COUNT requests."""
    click.echo(grant_user(load(directory), home, count, credential))


def grant_user(layout: Layout, home: Path, count: int, credential: Path | None) -> str:
    """Grant a user's directory `count` requests; returns the grant's text id."""
    if not layout.by_file:
        fund(layout, chain.open_wallet(layout, home, credential))
        text, height = chain.buy_grant(layout, home, count, credential)
        wait_seen(layout, height + PROVED_BLOCKS)
        return text
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "offer"
        answer = network.whoami(home, "--offer", str(count), "--offer-file", str(path), credential=credential)
        text, version = network.grant(layout, from_text(str(answer["user"]), IdKind.USER), path.read_bytes())
    wait_seen(layout, version)
    return text


@cli.command()
@directory_option
@click.argument("user")
@click.argument("device")
def revoke(directory: Path, user: str, device: str) -> None:
    """Revoke a user's DEVICE (qd1…): every node refuses it from its next look at the network file on."""
    layout = load(directory)
    if not layout.by_file:
        raise Failed(f"on a chain a user revokes his devices himself: qustream --home HOME user revoke-device {device}")
    writer = network.amend(layout)
    writer.revoke_device(from_text(user, IdKind.USER), from_text(device, IdKind.DEVICE))
    wait_seen(layout, writer.write())


def load(directory: Path) -> Layout:
    try:
        return Layout.load(directory.resolve())
    except FileNotFoundError:
        raise Failed(f"no network in {directory}; make one with: scripts/testnet.py up") from None


def checked(layout: Layout, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in layout.daemon_names:
            raise Failed(f"no daemon {name}; there are {', '.join(layout.daemon_names)}")
    return names


def main() -> None:
    """Run a command; failures are one line, never a traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        cli(standalone_mode=True)
    except (Failed, QuStreamError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
