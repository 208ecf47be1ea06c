"""Sending a transaction from a command: show what it does and costs, ask, send, wait, say what became of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from qustream.cli.screen import harmless
from qustream.client.chain import ChainClient, units
from qustream.client.settings import CREDENTIAL
from qustream.errors import fault
from qustream.identity import keystore
from qustream.identity.consents import Binding
from qustream.identity.wallet import Signed, Wallet, load_config
from qustream.model.amount import UNITS_PER_QST, amount_shown, parse_amount
from qustream.model.ids import IdKind, from_text, licence_from_text, to_text
from qustream.wire.chain_json import TransactionPage
from qustream.wire.transactions import AnyAction

__all__ = [
    "ACCOUNT", "AMOUNT", "LICENCE", "Choices", "Purse", "Text", "api_option", "json_option", "nothing", "open_client", "open_purse", "pay",
    "pay_options", "show",
]  # fmt: skip

# A block a second and two until it is executed; a minute is a chain that stands still.
WAIT_S = 60.0
# Fourteen times what the largest transaction costs by the parameters of a new chain: the node says what they are, and may lie.
FEE_MAX = UNITS_PER_QST
_F = TypeVar("_F", bound=Callable[..., Any])


class Text(click.ParamType):  # type: ignore[type-arg]  # of whatever `read` gives; older versions of click take no argument
    """An identifier or an amount: what is wrong with it is said before anything else happens."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The raw bytes, or units."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


ACCOUNT = Text("qst1…", partial(from_text, kind=IdKind.ACCOUNT))
LICENCE = Text("licence", licence_from_text)
AMOUNT = Text("amount", parse_amount)
api_option = click.option("--api", metavar="URL", help="The node to ask, such as http://127.0.0.1:7480; else that of wallet.toml.")
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@dataclass(frozen=True, slots=True)
class Choices:
    """How a transaction is sent. `yes`: without asking; `wait_s`: for it to be executed, 0 not at all; `fee_max`: in units."""

    yes: bool = False
    as_json: bool = False
    wait_s: float = WAIT_S
    fee_max: int = FEE_MAX


def pay_options(command: _F) -> _F:
    """The options of every command that sends a transaction; they come as `choices`."""

    def gather(*arguments: Any, yes: bool, as_json: bool, wait: float, fee_max: int, **options: Any) -> Any:
        return command(*arguments, choices=Choices(yes, as_json, wait, fee_max), **options)

    gather.__name__, gather.__doc__ = command.__name__, command.__doc__
    if hasattr(command, "__click_params__"):
        gather.__click_params__ = command.__click_params__  # type: ignore[attr-defined]  # as click keeps options of what it decorates
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask before it is sent."),
        json_option,
        click.option("--fee-max", type=AMOUNT, default=amount_shown(FEE_MAX), show_default=True, help="The most that is paid as fee."),
        click.option(
            "--wait",
            type=click.FloatRange(min=0),
            default=WAIT_S,
            show_default=True,
            help="Seconds until it must be executed; 0: do not wait.",
        ),
    ):
        option(gather)
    return gather  # type: ignore[return-value]  # click calls it by names alone


@dataclass(frozen=True, slots=True)
class Purse:
    """An account, and the node it asks."""

    wallet: Wallet
    client: ChainClient
    notes: list[str] = field(default_factory=list)


def open_client(directory: Path, api: str | None) -> ChainClient:
    """The node that a wallet asks; takes no passphrase. Errors: `E-HOME`, `E-CONFIG`."""
    config = load_config(directory)
    address = api or config.api
    if not address:
        raise fault("E-CONFIG", f"no node to ask: give --api, or set api in {directory / 'wallet.toml'}")
    return ChainClient(address, config.chain)


def open_purse(directory: Path, passphrase_file: Path | None, api: str | None) -> Purse:
    """The account of a directory. Errors: those of `open_client`, `E-KEYSTORE-…`, `E-SECRET-MISSING`."""
    client, file = open_client(directory, api), passphrase_file or load_config(directory).passphrase_file
    passphrase = keystore.find_passphrase(CREDENTIAL, file=file, prompt=sys.stdin.isatty())
    return Purse(Wallet.load(directory, passphrase), client)


def nothing() -> None:
    """What has to be done before most transactions are sent."""


def pay(
    purse: Purse, make: Callable[[Binding], AnyAction], what: Sequence[str], choices: Choices, *, before: Callable[[], None] = nothing
) -> TransactionPage | None:  # fmt: skip
    """Sign what `make` makes, have the node say what it would come to, show `what` and ask, do what has to be done `before`, send, and
    wait. None if it was not waited for.

    Errors: the code that it was, or would be, refused with."""
    wallet, client = purse.wallet, purse.client
    terms = client.terms(wallet.account)
    signed = wallet.sign(make(wallet.binding(terms)), terms)
    if signed.fee > choices.fee_max:
        raise fault("E-LEDGER-FEE", f"this node wants a fee of {amount_shown(signed.fee)}; --fee-max allows it, --api asks another")
    page = client.check(signed)
    if page.code:
        raise fault(page.code, page.detail)
    if page.outcome:
        raise fault(page.outcome, "the chain would refuse this now; nothing was sent")
    if not choices.yes:
        balance = units(client.account(wallet.account).balance)
        _ask([*what, f"fee {amount_shown(signed.fee)}, from {to_text(IdKind.ACCOUNT, wallet.account)}, which has {amount_shown(balance)}"])
    before()
    client.submit(signed)
    click.echo(f"sent {signed.id.hex()}", err=True)
    return _awaited(client, signed, choices) if choices.wait_s else None


def _ask(lines: Sequence[str]) -> None:
    """Errors: `click.UsageError` where nobody can be asked; `click.Abort` for no."""
    for line in lines:
        click.echo(harmless(line), err=True)
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked; --yes sends it without asking")
    click.confirm("Send this?", abort=True, err=True)


def _awaited(client: ChainClient, signed: Signed, choices: Choices) -> TransactionPage:
    found = client.wait(signed, choices.wait_s)
    if found.code:
        raise fault(found.code, f"the chain refused it in block {found.height}; its fee is paid")
    return found


def show(page: TransactionPage | None, choices: Choices, **more: Any) -> None:
    """What became of it, for people or programs. `more`: what a program wants to know besides."""
    if choices.as_json:
        built = msgspec.to_builtins(page) if page is not None else {"state": "waiting"}
        click.echo(json.dumps(built | more, indent=1))
    elif page is not None:
        done = ", ".join(f"{event.name}{f' {amount_shown(units(event.amount))}' if event.amount and units(event.amount) else ''}"
                         for event in page.events)  # fmt: skip
        click.echo(harmless(f"final in block {page.height}: {done or page.action}; fee {amount_shown(units(page.fee))}"))
