"""`qustream user`: what the chain knows of a user, and how that is changed with the words."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
import msgspec

from qustream.cli.context import Here
from qustream.cli.paying import Choices, Text, api_option, json_option, open_client, open_purse, pay, pay_options, show, unproven
from qustream.cli.screen import harmless
from qustream.cli.wallet import asked_words, words_option
from qustream.errors import fault
from qustream.identity import carried, consents
from qustream.identity.user import UserHome
from qustream.identity.wallet import load_config
from qustream.identity.words import UserSecrets
from qustream.model.ids import IdKind, from_text, to_text
from qustream.wire.chain_entries import UserPage

__all__ = ["user"]

DEVICE = Text("qd1…", partial(from_text, kind=IdKind.DEVICE))
USER = Text("qu1…", partial(from_text, kind=IdKind.USER))
_device = click.argument("device", type=DEVICE)


@click.group()
def user() -> None:
    """This user on the chain. Changes need the words, and a wallet that pays."""


def _master(home: UserHome, words_file: Path | None) -> UserSecrets:
    secrets = UserSecrets.from_words(asked_words(words_file))
    if secrets.master.id != home.user:
        raise fault("E-PASSPHRASE-WORDS", "these are the words of another user")
    return secrets


@user.command()
@click.option("--device", "devices", type=DEVICE, multiple=True, help="A further device of the user; may be repeated.")
@words_option
@api_option
@pay_options
@click.pass_obj
def register(
    here: Here, /, *, devices: tuple[bytes, ...], words_file: Path | None, api: str | None, choices: Choices
) -> None:  # fmt: skip
    """Enter this user in the chain, with this device."""
    purse = open_purse(here.home, here.passphrase_file, api)
    home = UserHome.load(here.home, here.passphrase())
    secrets, listed = _master(home, words_file), sorted({home.device.id, *devices})
    action = consents.entered(purse.wallet.chain, secrets.master, home.enrolment().hpke, listed)
    what = [f"register {to_text(IdKind.USER, home.user)} with {len(listed)} device{'s' * (len(listed) > 1)}"]
    show(pay(purse, lambda _: action, what, choices), choices)


@user.command("add-device")
@_device
@words_option
@api_option
@pay_options
@click.pass_obj
def add_device(here: Here, /, *, device: bytes, words_file: Path | None, api: str | None, choices: Choices) -> None:
    """Enter another DEVICE of this user."""
    _change(here, device, words_file, api, choices=choices, revoked=False)


@user.command("revoke-device")
@_device
@words_option
@api_option
@pay_options
@click.pass_obj
def revoke_device(here: Here, /, *, device: bytes, words_file: Path | None, api: str | None, choices: Choices) -> None:
    """Revoke a DEVICE of this user, for ever."""
    _change(here, device, words_file, api, choices=choices, revoked=True)


def _change(
    here: Here, device: bytes, words_file: Path | None, api: str | None, *, choices: Choices, revoked: bool
) -> None:  # fmt: skip
    purse = open_purse(here.home, here.passphrase_file, api)
    home = UserHome.load(here.home, here.passphrase())
    sequence = purse.client.get(f"users/{to_text(IdKind.USER, home.user)}", UserPage).sequence + 1
    action = consents.change_device(purse.wallet.chain, _master(home, words_file).master, device, sequence, revoked=revoked)
    what = [f"{'REVOKE FOR EVER' if revoked else 'add'} device {to_text(IdKind.DEVICE, device)}"]
    show(pay(purse, lambda _: action, what, choices), choices)


@user.command("agree-merge")
@click.argument("first", metavar="USER", type=USER)
@click.argument("into", metavar="INTO", type=USER)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where the consent goes.")
@click.option("--chain", help="The chain's name; default: that of the wallet here.")
@words_option
@click.pass_obj
def agree_merge(here: Here, /, *, first: bytes, into: bytes, output: Path, chain: str | None, words_file: Path | None) -> None:
    """Agree that USER becomes an alias of INTO, with the words of either of them. Both have to; nothing is sent."""
    name = chain or load_config(here.home).chain
    master = UserSecrets.from_words(asked_words(words_file)).master
    if first == into:
        raise fault("E-LEDGER-STATUS", "nobody is merged into himself")
    if master.id not in (first, into):
        raise fault("E-PASSPHRASE-WORDS", "these are the words of neither user")
    consent = consents.agree_to_merge(name, master, first, into)
    carried.write(output, carried.agreed(name, master.public, consent, user=first, into=into))
    click.echo(f"{output}: with the other's, qustream user merge sends it; it cannot be undone then", err=True)


@user.command()
@click.argument("one", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("other", type=click.Path(path_type=Path, dir_okay=False))
@api_option
@pay_options
@click.pass_obj
def merge(here: Here, /, *, one: Path, other: Path, api: str | None, choices: Choices) -> None:
    """Merge two users by the consents of both (`qustream user agree-merge`).

    The first keeps its devices and grants, and gets no more; who writes to it writes to the second. It cannot be undone.
    """
    purse = open_purse(here.home, here.passphrase_file, api)
    action = carried.merge_of(purse.wallet.chain, [carried.read_consent(file) for file in (one, other)])
    what = [f"MERGE FOR EVER {to_text(IdKind.USER, action.master.id)}", f"  into {to_text(IdKind.USER, action.into.id)}"]
    show(pay(purse, lambda _: action, what, choices), choices)


@user.command("show")
@click.argument("name", type=USER, required=False)
@api_option
@json_option
@click.pass_obj
def show_user(here: Here, /, *, name: bytes | None, api: str | None, as_json: bool) -> None:
    """What the chain knows of user NAME (default: this one)."""
    who = name or UserHome.load(here.home, here.passphrase()).user
    client = open_client(here.home, api)
    page = client.get(f"users/{to_text(IdKind.USER, who)}", UserPage)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(page), indent=1))
        return
    lines = [f"user     {page.id}, {page.sequence} changes"] + [f"device   {device}" for device in page.devices]
    lines += [f"revoked  {device}" for device in page.revoked]
    lines += [f"merged   into {page.alias}, whom it is written to from then on"] if page.alias else []
    click.echo(harmless("\n".join(lines)))
    unproven(client)
