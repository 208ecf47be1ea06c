"""`qustream wallet watch`, `sign` and `submit`: an account whose key is on a machine without a network. What is carried there and back
holds nothing secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from qustream.cli.context import Here
from qustream.cli.paying import (
    ACCOUNT,
    AMOUNT,
    FEE_MAX,
    Choices,
    api_option,
    ask_to,
    awaited,
    checkpoint_options,
    json_option,
    open_client,
    open_key,
    show,
    wait_option,
    yes_option,
)
from qustream.cli.screen import harmless
from qustream.client.chain import ChainClient, units
from qustream.client.settings import now_ms
from qustream.errors import QuStreamError, fault
from qustream.identity import carried, wallet
from qustream.model.amount import amount_shown
from qustream.model.ids import IdKind, to_text
from qustream.wire.action_text import action_name, fields_of
from qustream.wire.chain_entries import Amount
from qustream.wire.transactions import Body

__all__ = ["sign", "submit", "watch"]

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@click.argument("account", type=ACCOUNT)
@click.option("--chain", required=True, help="The chain's name.")
@click.option("--api", default="", metavar="URL", help="A node of that chain, such as http://127.0.0.1:7480; may be set later.")
@checkpoint_options
@click.pass_obj
def watch(here: Here, /, *, account: bytes, chain: str, api: str, asked: tuple[str, tuple[str, ...]] | None) -> None:
    """Deal with ACCOUNT on this machine, and have another sign: commands take --unsigned FILE."""
    if api:
        ChainClient(api, chain)
    wallet.watch(here.home, account, chain=chain, api=api, asked=asked)
    click.echo(to_text(IdKind.ACCOUNT, account))


@click.command()
@_file
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where it goes; default: FILE with .signed behind it."
)
@click.option("--fee-max", type=AMOUNT, default=amount_shown(FEE_MAX), show_default=True, help="The most that is paid as fee.")
@yes_option
@click.pass_obj
def sign(here: Here, /, *, file: Path, output: Path | None, fee_max: int, yes: bool) -> None:
    """Sign what FILE says (made by a command with --unsigned), without any network. What is shown is what is signed."""
    draft = carried.read_to_sign(file, now_ms())
    body = draft.body
    if body.fee > fee_max:
        raise fault("E-LEDGER-FEE", f"it pays a fee of {amount_shown(body.fee)}; --fee-max allows it")
    key = open_key(here.home, here.passphrase_file)
    key.require_own(body)
    if not yes:
        ask_to("Sign this?", told(body))
    target = output or file.with_name(file.name + ".signed")
    carried.write(target, carried.to_send(key.sign_draft(draft), body))
    click.echo(f"{target}: qustream wallet submit sends it, from any machine", err=True)


def told(body: Body) -> list[str]:
    """A transaction, by what its bytes say."""
    lines = [f"on the chain {body.chain}, from {to_text(IdKind.ACCOUNT, body.sender)}:", f"  {action_name(body.action)}"]
    lines += [f"    {name} {_shown(value)}" for name, value in fields_of(body.action).items()]
    return [*lines, f"  nonce {body.nonce}, good to block {body.expires}, fee {amount_shown(body.fee)}"]


def _shown(value: Any) -> str:
    match value:
        case Amount():
            return amount_shown(units(value))
        case list():
            return ", ".join(map(_shown, value))
        case dict():
            return json.dumps(value)
        case _:
            return str(value)


@click.command()
@_file
@api_option
@json_option
@wait_option
@click.pass_obj
def submit(here: Here, /, *, file: Path, api: str | None, as_json: bool, wait: float) -> None:
    """Send what was signed. Takes no key: whoever has FILE can send it, once."""
    signed, body = carried.read_to_send(file)
    client = open_client(here.home, api)
    if body.chain != client.chain:
        raise fault("E-LEDGER-FORM", f"{file} is for the chain {body.chain!r}, and this wallet is of {client.chain!r}")
    if (height := client.status().height) >= body.expires:
        raise fault("E-LEDGER-EXPIRED", f"{file} was good to block {body.expires}, and {height} is final; have it made again")
    choices = Choices(as_json=as_json, wait_s=wait)
    page = client.check(signed)
    # One that stands in a block already is found when it is sent.
    if page.code not in ("", "E-LEDGER-NONCE", "E-LEDGER-KNOWN"):
        raise fault(page.code, page.detail)
    if page.outcome and not page.code:
        raise fault(page.outcome, "the chain would refuse this now; nothing was sent")
    try:
        client.submit(signed)
    except QuStreamError as error:
        if error.code != "E-LEDGER-NONCE":
            raise
        raise fault(
            error.code, f"{file} has nonce {body.nonce}, which the account has used for something else; have it made again"
        ) from None
    click.echo(harmless(f"sent {signed.id.hex()}"), err=True)
    show(awaited(client, signed, choices) if wait else None, choices, id=signed.id.hex())
