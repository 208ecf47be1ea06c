"""`qustream wallet`: an account of a chain."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from qustream.cli.context import Here
from qustream.cli.offline import sign, submit, watch
from qustream.cli.paying import (
    ACCOUNT,
    AMOUNT,
    Choices,
    api_option,
    checkpoint_options,
    json_option,
    open_client,
    open_purse,
    pay,
    pay_options,
    show,
    unproven,
)
from qustream.cli.screen import harmless, moment
from qustream.client.chain import ChainClient, units
from qustream.client.proven import open_prover
from qustream.client.settings import now_ms
from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.identity.wallet import Asked, Wallet
from qustream.identity.words import TEXT_MAX_CHARACTERS, new_words
from qustream.model.amount import amount_shown
from qustream.model.ids import IdKind, to_text
from qustream.model.state import Account
from qustream.wire.chain_entries import AccountPage, amount
from qustream.wire.chain_json import HistoryLine, HistoryPage
from qustream.wire.transactions import Transfer

__all__ = ["asked_words", "wallet", "words_option"]

words_option = click.option(
    "--words-file", type=click.Path(path_type=Path, dir_okay=False), help="A file of mode 0600 with the words; else they are asked for."
)
_chain = click.option("--chain", required=True, help="The chain's name: what is signed here is good there alone.")
_api = click.option("--api", default="", metavar="URL", help="A node of that chain, such as http://127.0.0.1:7480; may be set later.")


def asked_words(file: Path | None) -> str:
    """A user's words, from where they cannot be seen by others. Errors: `E-KEYSTORE-MODE`, `E-FILE`, `E-SECRET-MISSING`."""
    if file is not None:
        return files.read(file, TEXT_MAX_CHARACTERS, private=True).decode("utf-8", "replace").strip()
    if sys.stdin.isatty():
        return str(click.prompt("The words", hide_input=True, err=True))
    typed = sys.stdin.readline(TEXT_MAX_CHARACTERS).strip()
    if not typed:
        raise fault("E-SECRET-MISSING", "the words come from a terminal, standard input or --words-file")
    return typed


@click.group()
def wallet() -> None:
    """An account: its key on this machine, what it holds, and sending.

    With a checkpoint (--checkpoint, or a user begun from one in the same directory) what an account has is proven; without, it is what
    one node says, and the output says so.
    """


@wallet.command()
@_chain
@_api
@checkpoint_options
@click.option("--words", "count", type=click.Choice(["12", "24"]), default="12", show_default=True, help="How many words.")
@click.pass_obj
def new(here: Here, /, *, chain: str, api: str, asked: Asked | None, count: str) -> None:
    """Make an account. Its words are shown once and stored nowhere; the same words restore it elsewhere."""
    words = new_words(int(count))
    account = _kept(here, lambda: words, chain, api, asked)
    click.echo("These words are the account. Write them down and keep them safe: they are shown now and never again.\n", err=True)
    click.echo(f"    {words}\n", err=True)
    click.echo(account)


@wallet.command()
@_chain
@_api
@checkpoint_options
@words_option
@click.pass_obj
def restore(here: Here, /, *, chain: str, api: str, asked: Asked | None, words_file: Path | None) -> None:
    """Keep the account of words you have on this machine, so that they need not be typed each time."""
    click.echo(_kept(here, lambda: asked_words(words_file), chain, api, asked))


def _kept(here: Here, words: Callable[[], str], chain: str, api: str, asked: Asked | None) -> str:
    """What is wrong with anything else is found before somebody types his words."""
    if api:
        ChainClient(api, chain)
    Wallet.require_none(here.home)
    made = Wallet.create(here.home, words(), here.new_passphrase(), chain=chain, api=api, asked=asked)
    return to_text(IdKind.ACCOUNT, made.account)


for command in (watch, sign, submit):
    wallet.add_command(command)


def _whose(here: Here, account: bytes | None, api: str | None) -> tuple[ChainClient, bytes]:
    """The account that is asked about: the wallet's own, which takes its passphrase where its key is, unless it is named."""
    if account is not None:
        return open_client(here.home, api), account
    purse = open_purse(here.home, here.passphrase_file, api)
    return purse.client, purse.wallet.account


@wallet.command()
@click.argument("account", type=ACCOUNT, required=False)
@api_option
@json_option
@click.pass_obj
def balance(here: Here, /, *, account: bytes | None, api: str | None, as_json: bool) -> None:
    """What ACCOUNT has (default: this wallet's): liquid, staked, on its way back."""
    client, name = _whose(here, account, api)
    page, (held, height, why) = client.account(name), _proof(here, name)
    if as_json:
        proof = None if held is None else {"balance": msgspec.to_builtins(amount(held.liquid)), "nonce": held.nonce, "height": height}
        click.echo(json.dumps(msgspec.to_builtins(page) | {"proven": proof}, indent=1))
        return
    click.echo(_balance_text(page, held, height))
    unproven(client, f", but for what is said to be{why}" if held is not None else why)


def _proof(here: Here, account: bytes) -> tuple[Account | None, int, str]:
    """What an account has, proven, and after which block; or why it is not."""
    prover = open_prover(here.home, now_ms)
    if prover is None:
        return None, 0, "; with --checkpoint and --node a wallet asks for proofs"
    try:
        return prover.account(account), prover.height, ""
    except QuStreamError as error:
        return None, 0, f"; {error.code}: {error.detail}"
    finally:
        prover.close()


def _balance_text(page: AccountPage, held: Account | None, height: int) -> str:
    lines = [f"account   {page.account}", f"liquid    {amount_shown(units(page.balance))}"]
    if held is not None:
        lines[1] = f"liquid    {amount_shown(held.liquid)}, proven after block {height}"
        if held.liquid != units(page.balance):
            lines.append(f"          {amount_shown(units(page.balance))} says the node")
    if page.next_nonce > page.nonce:
        lines.append(f"waiting   {page.next_nonce - page.nonce} transactions, not counted in what it has")
    lines += [f"licence   {each.id}: {each.status}, staked {amount_shown(units(each.staked))}" for each in page.licences]
    lines += [f"unbonding {amount_shown(units(part.amount))}, free {moment(part.free_ms)} UTC" for part in page.unbonding]
    if page.more_licences or page.more_unbonding:
        lines.append("and more")
    return harmless("\n".join(lines))


@wallet.command()
@click.argument("to", type=ACCOUNT)
@click.argument("amount", type=AMOUNT)
@api_option
@pay_options
@click.pass_obj
def send(here: Here, /, *, to: bytes, amount: int, api: str | None, choices: Choices) -> None:
    """Send AMOUNT (`12.5`, in QST) to the account TO. It cannot be taken back."""
    purse = open_purse(here.home, here.passphrase_file, api)
    what = [f"send {amount_shown(amount)}", f"  to {to_text(IdKind.ACCOUNT, to)}"]
    show(pay(purse, lambda _: Transfer(to, amount), what, choices), choices)


@wallet.command()
@click.argument("account", type=ACCOUNT, required=False)
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--before", default="", help="Go on where a page before ended (its `next`).")
@api_option
@json_option
@click.pass_obj
def history(here: Here, /, *, account: bytes | None, limit: int, before: str, api: str | None, as_json: bool) -> None:
    """What has happened to ACCOUNT (default: this wallet's), the newest first."""
    client, name = _whose(here, account, api)
    cursor = f"&before={before}" if before else ""
    page = client.get(f"accounts/{to_text(IdKind.ACCOUNT, name)}/history?limit={limit}{cursor}", HistoryPage)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(page), indent=1))
        return
    for entry in page.entries:
        click.echo(harmless(_history_text(entry)))
    unproven(client)
    if page.next:
        click.echo(f"more: --before {page.next}", err=True)


def _history_text(entry: HistoryLine) -> str:
    if entry.code:
        said = f"refused: {entry.code}"
    else:
        said = "; ".join(" ".join(filter(None, (event.name, _number(event.amount), event.subject, event.other))) for event in entry.events)
    fee = f", fee {amount_shown(units(entry.fee))}" if entry.index >= 0 else ""
    return f"{moment(entry.time_ms)} UTC, block {entry.height}: {said or 'done'}{fee}"


def _number(amount: Any) -> str:
    return amount_shown(units(amount)) if amount is not None and units(amount) else ""
