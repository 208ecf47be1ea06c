"""`qustream user`: what the chain knows of a user, and how that is changed with the words."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
import msgspec

from qustream.cli.context import Here
from qustream.cli.paying import Choices, Text, api_option, json_option, open_client, open_purse, pay, pay_options, show
from qustream.cli.screen import harmless
from qustream.cli.wallet import asked_words, words_option
from qustream.errors import fault
from qustream.identity import consents
from qustream.identity.user import UserHome
from qustream.identity.words import UserSecrets
from qustream.model.ids import IdKind, from_text, to_text
from qustream.wire.chain_entries import UserPage

__all__ = ["user"]

DEVICE = Text("qd1…", partial(from_text, kind=IdKind.DEVICE))
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


@user.command("show")
@click.argument("name", type=Text("qu1…", partial(from_text, kind=IdKind.USER)), required=False)
@api_option
@json_option
@click.pass_obj
def show_user(here: Here, /, *, name: bytes | None, api: str | None, as_json: bool) -> None:
    """What the chain knows of user NAME (default: this one)."""
    who = name or UserHome.load(here.home, here.passphrase()).user
    page = open_client(here.home, api).get(f"users/{to_text(IdKind.USER, who)}", UserPage)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(page), indent=1))
        return
    lines = [f"user     {page.id}, {page.sequence} changes"] + [f"device   {device}" for device in page.devices]
    lines += [f"revoked  {device}" for device in page.revoked] + ([f"alias of {page.alias}"] if page.alias else [])
    click.echo(harmless("\n".join(lines)))
