"""`qustream grant share` and `adopt`: what was bought on one device serves on another one of the same user.

What is carried is no secret (`proto/spec/grants.md`, "Indices and stripes"). What the grant is, the network says and not the file: how many
devices share it decides whose an index is.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from qustream.cli.context import Here
from qustream.cli.paying import Text
from qustream.cli.screen import harmless
from qustream.client.settings import Network, now_ms
from qustream.errors import fault
from qustream.identity import carried
from qustream.identity.user import UserHome
from qustream.model.ids import IdKind, from_text, to_text
from qustream.model.network import Grant
from qustream.rules.assignment import GRANT_EPOCHS

__all__ = ["GRANT", "adopt", "share"]

GRANT = Text("qg1…", partial(from_text, kind=IdKind.GRANT))
DEVICE = Text("qd1…", partial(from_text, kind=IdKind.DEVICE))


@click.command()
@click.argument("name", metavar="GRANT", type=GRANT)
@click.option("--to", "device", type=DEVICE, required=True, help="The other device of this user; `qustream whoami` there shows it.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where the file goes.")
@click.pass_obj
def share(here: Here, /, *, name: bytes, device: bytes, output: Path) -> None:
    """Write what another device of this user needs to use GRANT; nothing in it is secret.

    Each device takes indices of its own, by its number (--stripe): the grant must have been bought for as many devices (--stripes).
    """
    user = UserHome.load(here.home, here.passphrase())
    network = here.network()
    _require_own(network, user, device)
    bought = _good(network, name)
    user.adopt_grant(bought)
    if bought.stripes == 1:
        raise fault("E-GRANT-SHARE", f"{to_text(IdKind.GRANT, name)} was bought for one device alone; --stripes of grant buy shares one")
    names = (to_text(IdKind.USER, user.user), to_text(IdKind.DEVICE, device), to_text(IdKind.GRANT, name))
    record = user.grants.of(name)
    carried.write(
        output,
        carried.GrantShare(
            user=names[0], device=names[1], grant=names[2], stripe=user.stripe, generation=record.generation, nonce=record.nonce
        ),
    )  # fmt: skip
    click.echo(harmless(f"{output}: qustream grant adopt takes it over on that device, and on no other"), err=True)


def _require_own(network: Network, user: UserHome, device: bytes) -> None:
    """Errors: `E-GRANT-SHARE`, `E-DEVICE-UNKNOWN`, `E-DEVICE-REVOKED`, those of the network."""
    text = to_text(IdKind.DEVICE, device)
    if device == user.device.id:
        raise fault("E-GRANT-SHARE", f"{text} is this device, which has the grant")
    revoked = {entry.device: entry.revoked for entry in network.user(user.user).devices}
    if device not in revoked:
        raise fault("E-DEVICE-UNKNOWN", f"the network knows no device {text} of this user")
    if revoked[device]:
        raise fault("E-DEVICE-REVOKED", f"{text} is revoked")


def _good(network: Network, name: bytes) -> Grant:
    """The grant as the network has it. Errors: `E-GRANT-EXPIRED`, those of the network."""
    grant, epoch = network.grant(name), network.epoch(now_ms()).number
    if epoch >= grant.epoch + GRANT_EPOCHS:
        text = f"{to_text(IdKind.GRANT, name)} was good until the end of epoch {grant.epoch + GRANT_EPOCHS - 1}, and this is epoch {epoch}"
        raise fault("E-GRANT-EXPIRED", text)
    return grant


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def adopt(here: Here, /, *, file: Path) -> None:
    """Take over a grant that another device of this user has shared with this one (`qustream grant share`), once."""
    thing = carried.read_share(file)
    user = UserHome.load(here.home, here.passphrase())
    if thing.user != to_text(IdKind.USER, user.user):
        raise fault("E-GRANT-SHARE", f"{file} is of another user")
    if thing.device != (own := to_text(IdKind.DEVICE, user.device.id)):
        raise fault("E-GRANT-SHARE", f"{file} is for another device; this one is {own}")
    bought = _good(here.network(), from_text(thing.grant, IdKind.GRANT))
    _require_new(user, bought, thing)
    user.adopt_grant(bought, nonce=thing.nonce, now_ms=now_ms())
    click.echo(f"{thing.grant}: {user.grants.left(bought.grant)} requests for this device, number {user.stripe} of {bought.stripes}")


def _require_new(user: UserHome, bought: Grant, thing: carried.GrantShare) -> None:
    """Errors: `E-GRANT-SHARE`, `E-GRANT-EXHAUSTED`, `E-GRANT-RUID`."""
    if any(record.root == bought.root and record.grant is not None for record in user.grants.records()):
        # What this device has used of it is in its own record, which stays as it is.
        raise fault("E-GRANT-SHARE", f"this device has {thing.grant} already, and {user.grants.left(bought.grant)} requests left of it")
    if thing.stripe == user.stripe:
        raise fault("E-GRANT-SHARE", f"both devices have number {user.stripe}: they would take the same indices; --stripe of init sets it")
    if user.stripe >= bought.stripes:
        text = f"the grant is shared by devices 0 to {bought.stripes - 1}, and this is device {user.stripe}"
        raise fault("E-GRANT-EXHAUSTED", text)
    if thing.generation > user.generation:
        text = f"rUID key {thing.generation} made the grant, and this device has those up to {user.generation}: qustream rotate"
        raise fault("E-GRANT-RUID", text)
