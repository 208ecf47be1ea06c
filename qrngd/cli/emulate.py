"""`qrngd emulate`: an emulated device as a program of its own, on a FIFO or a serial line."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import click

from qrngd.emulation.fifo import serve_fifo
from qrngd.emulation.maker import Maker
from qrngd.emulation.pace import Pace
from qrngd.emulation.pty_line import LineDevice, RawStick, serve_pty
from qrngd.emulation.qcc_device import QccDevice
from qrngd.emulation.qcc_faults import QccFaults
from qrngd.emulation.source import ByteSource
from qustream.identity.device_evidence import serial_text

__all__ = ["emulate"]

# A line of 1 Mbaud carries ten bits a byte.
LINE_RATE = 100_000
_FAULTS = click.option("--faults", "script", default="", help="What goes wrong with the bytes, such as stuck@bytes=1000000.")


@click.group()
def emulate() -> None:
    """A device for machines that have none, outside the daemon: /dev/urandom, with faults on request. For test networks only."""


@emulate.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@_FAULTS
@click.option("--rate", type=click.IntRange(0, 1 << 40), default=0, help="Bytes a second; as fast as they are read if not given.")
def fifo(path: Path, script: str, rate: int) -> None:
    """Write to the FIFO at PATH (made if it is not there) while somebody reads; to be read with kind = "chardev".

    A FIFO does not say who writes into it, so the attestations of a server that reads this one do not say that it is emulated.
    """
    source = ByteSource(script)
    serve_fifo(path, source, Pace(rate), stop=_stopped(), ready=lambda: click.echo(f"ready: {path}"))


@emulate.command("pty")
@click.argument("link", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--protocol", type=click.Choice(["raw", "qcicada"]), default="raw", show_default=True, help='kind "serial" or "qcicada".')
@_FAULTS
@click.option("--protocol-faults", default="", help="What a QCicada does wrong, such as signature@reads=5 or silence@command=81.")
@click.option("--rate", type=click.IntRange(0, 1 << 40), default=LINE_RATE, show_default=True, help="Bytes a second; 0: without limit.")
@click.option(
    "--authority", "seed_path", type=click.Path(path_type=Path, dir_okay=False),
    help="The seed of the maker's and the device's key; made if it is not there.",
)  # fmt: skip
@click.option("--serial-number", type=click.IntRange(0, (1 << 32) - 1), default=217, show_default=True)
def pseudo_terminal(
    *, link: Path, protocol: str, script: str, protocol_faults: str, rate: int, seed_path: Path | None, serial_number: int
) -> None:
    """Be a device on a serial line that is found at LINK as long as it is not unplugged."""
    source = ByteSource(script)
    device: LineDevice = RawStick(source.draw)
    lines = []
    if protocol == "qcicada":
        # Without a file the device is as good as one whose maker nobody knows.
        maker = Maker.load(seed_path) if seed_path else Maker.unknown()
        device = QccDevice(source.draw, maker, faults=QccFaults(protocol_faults), serial_number=serial_number, speed=8 * rate)
        lines = [f"serial = {serial_text(serial_number)!r}", f"device_authority = {maker.authority.public.hex()!r}"]
    elif protocol_faults or seed_path:
        raise click.UsageError("--protocol-faults and --authority are of --protocol qcicada")
    serve_pty(link, device, source, Pace(rate), stop=_stopped(), ready=lambda: click.echo("\n".join([*lines, f"ready: {link}"])))


def _stopped() -> Callable[[], bool]:
    """Whether somebody has asked this process to end."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda which, _frame: asked.append(which))
    return lambda: bool(asked)
