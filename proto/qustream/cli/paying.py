"""Sending a transaction from a command: show what it does and costs, ask, send, wait, say what became of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from qustream.cli.screen import harmless
from qustream.client.chain import ChainClient, units
from qustream.client.proven import Prover, open_prover, proven_terms
from qustream.client.settings import CREDENTIAL, now_ms
from qustream.errors import fault
from qustream.identity import carried, keystore
from qustream.identity.consents import Binding
from qustream.identity.wallet import OFFLINE_BLOCKS, Account, Signed, Terms, Wallet, load_config
from qustream.light.nodes import node_from_text
from qustream.model.amount import UNITS_PER_QST, amount_shown, parse_amount
from qustream.model.ids import IdKind, from_text, licence_from_text, to_text
from qustream.model.state import Parameters
from qustream.wire.chain_json import TransactionPage
from qustream.wire.transactions import AnyAction

__all__ = [
    "ACCOUNT", "AMOUNT", "FEE_MAX", "LICENCE", "Choices", "Purse", "Text", "api_option", "ask_to", "awaited", "checkpoint_options",
    "json_option", "nothing", "open_client", "open_key", "open_purse", "pay", "pay_options", "show", "unproven", "wait_option",
    "yes_option",
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
yes_option = click.option("--yes", is_flag=True, help="Do not ask before.")
wait_option = click.option(
    "--wait", type=click.FloatRange(min=0), default=WAIT_S, show_default=True,
    help="Seconds until it must be executed; 0: do not wait.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choices:
    """How a transaction is sent. `yes`: without asking; `wait_s`: for it to be executed, 0 not at all; `fee_max`: in units; `unsigned`: not
    at all, but written there to be signed elsewhere; `nonce`: another than the next, behind what is to be signed before."""

    yes: bool = False
    as_json: bool = False
    wait_s: float = WAIT_S
    fee_max: int = FEE_MAX
    unsigned: Path | None = None
    nonce: int | None = None


def pay_options(command: _F) -> _F:
    """The options of every command that sends a transaction; they come as `choices`."""

    def gather(*arguments: Any, yes: bool, as_json: bool, **options: Any) -> Any:
        rest = [options.pop(name) for name in ("wait", "fee_max", "unsigned", "nonce")]
        return command(*arguments, choices=Choices(yes, as_json, *rest), **options)

    gather.__name__, gather.__doc__ = command.__name__, command.__doc__
    if hasattr(command, "__click_params__"):
        gather.__click_params__ = command.__click_params__  # type: ignore[attr-defined]  # as click keeps options of what it decorates
    for option in (
        click.option(
            "--nonce", type=click.IntRange(0), help="With --unsigned: behind what is to be signed and sent before; default: the next."
        ),
        click.option(
            "--unsigned", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
            help="Do not sign or send it: write what `qustream wallet sign` signs on another machine.",
        ),
        yes_option,
        json_option,
        click.option("--fee-max", type=AMOUNT, default=amount_shown(FEE_MAX), show_default=True, help="The most that is paid as fee."),
        wait_option,
    ):  # fmt: skip
        option(gather)
    return gather  # type: ignore[return-value]  # click calls it by names alone


def checkpoint_options(command: _F) -> _F:
    """`--checkpoint` and `--node` of a new wallet; they come as `asked`, None without."""

    def gather(*arguments: Any, checkpoint: str, node: tuple[str, ...], **options: Any) -> Any:
        if bool(checkpoint) != bool(node):
            raise click.UsageError("--checkpoint and --node are needed together")
        asked = (checkpoint, node) if checkpoint else None
        if asked is not None:
            from_text(checkpoint, IdKind.CHECKPOINT)
            tuple(map(node_from_text, node))
        return command(*arguments, asked=asked, **options)

    gather.__name__, gather.__doc__ = command.__name__, command.__doc__
    if hasattr(command, "__click_params__"):
        gather.__click_params__ = command.__click_params__  # type: ignore[attr-defined]  # as click keeps options of what it decorates
    for option in (
        click.option("--node", multiple=True, metavar="ID@HOST:PORT", help="With --checkpoint: who is asked for proofs; may be repeated."),
        click.option("--checkpoint", default="", metavar="qcp1…", help="Prove from here what the account has; default: believe the node."),
    ):
        option(gather)
    return gather  # type: ignore[return-value]  # click calls it by names alone


@dataclass(frozen=True, slots=True)
class Purse:
    """An account, the node it asks, and who proves what that says. `wallet`: a `Wallet` where the key is."""

    wallet: Account
    client: ChainClient
    prover: Prover | None = None

    def parameters(self) -> Parameters:
        """What things cost: proven if they can be."""
        return self.client.parameters() if self.prover is None else self.prover.parameters()


def open_client(directory: Path, api: str | None) -> ChainClient:
    """The node that a wallet asks; takes no passphrase. Errors: `E-HOME`, `E-CONFIG`."""
    config = load_config(directory)
    address = api or config.api
    if not address:
        raise fault("E-CONFIG", f"no node to ask: give --api, or set api in {directory / 'wallet.toml'}")
    return ChainClient(address, config.chain)


def open_purse(directory: Path, passphrase_file: Path | None, api: str | None) -> Purse:
    """The account of a directory. Errors: those of `open_client`, `open_key` and `open_prover`."""
    client, prover, config = open_client(directory, api), open_prover(directory, now_ms), load_config(directory)
    if prover is not None:
        click.get_current_context().call_on_close(prover.close)
    if config.account:
        return Purse(Account(from_text(config.account, IdKind.ACCOUNT), config.chain), client, prover)
    return Purse(open_key(directory, passphrase_file), client, prover)


def open_key(directory: Path, passphrase_file: Path | None) -> Wallet:
    """The account of a directory, to sign with. Errors: `E-HOME`, `E-CONFIG`, `E-KEYSTORE-…`, `E-SECRET-MISSING`."""
    config = load_config(directory)
    if config.account:
        raise fault("E-HOME", f"the key of {config.account} is not in {directory}, but on another machine: sign there")
    passphrase = keystore.find_passphrase(CREDENTIAL, file=passphrase_file or config.passphrase_file, prompt=sys.stdin.isatty())
    return Wallet.load(directory, passphrase)


def unproven(client: ChainClient, but: str = "") -> None:
    """Below what a node has said, for people: a reader must not take it for more. `but`: what was proven, or how it could be."""
    click.echo(harmless(f"not proven: {client.address} says so{but}"), err=True)


def nothing() -> None:
    """What has to be done before most transactions are sent."""


def pay(
    purse: Purse, make: Callable[[Binding], AnyAction], what: Sequence[str], choices: Choices, *, before: Callable[[], None] = nothing
) -> TransactionPage | None:  # fmt: skip
    """Sign what `make` makes, have the node say what it would come to, show `what` and ask, do what has to be done `before`, send, and
    wait. None if it was not waited for.

    Errors: the code that it was, or would be, refused with."""
    wallet, client = purse.wallet, purse.client
    if choices.unsigned is not None:
        _written(purse, make, what, choices, before=before)
        return None
    if not isinstance(wallet, Wallet):
        raise click.UsageError("the key of this account is on another machine: --unsigned FILE writes what is to be signed there")
    if choices.nonce is not None:
        raise click.UsageError("--nonce is for what is signed later, with --unsigned")
    terms, has = _terms(purse)
    signed = wallet.sign(make(wallet.binding(terms)), terms)
    if signed.fee > choices.fee_max:
        raise fault("E-LEDGER-FEE", f"this node wants a fee of {amount_shown(signed.fee)}; --fee-max allows it, --api asks another")
    page = client.check(signed)
    if page.code:
        raise fault(page.code, page.detail)
    if page.outcome:
        raise fault(page.outcome, "the chain would refuse this now; nothing was sent")
    if not choices.yes:
        ask_to("Send this?", [*what, f"fee {amount_shown(signed.fee)}, from {to_text(IdKind.ACCOUNT, wallet.account)}, which {has}"])
    before()
    client.submit(signed)
    click.echo(f"sent {signed.id.hex()}", err=True)
    return awaited(client, signed, choices) if choices.wait_s else None


def _terms(purse: Purse) -> tuple[Terms, str]:
    """What the next transaction has to say, and what the account has, with whether that is proven. Errors: as `proven_terms`."""
    account, client = purse.wallet.account, purse.client
    if purse.prover is not None:
        terms, held = proven_terms(client, purse.prover, account)
        return terms, f"has {amount_shown(held.liquid)} (proven, after block {purse.prover.height})"
    balance = units(client.account(account).balance)
    return client.terms(account), f"has {amount_shown(balance)} ({client.address} says so; nothing proves it)"


def _written(
    purse: Purse, make: Callable[[Binding], AnyAction], what: Sequence[str], choices: Choices, *, before: Callable[[], None]
) -> None:  # fmt: skip
    """What is to be signed elsewhere goes into a file. The node was asked for nonce, height and prices; who signs sees all of it."""
    file = choices.unsigned
    assert file is not None, "asked for"
    terms, has = _terms(purse)
    if choices.nonce is not None:
        terms = replace(terms, nonce=choices.nonce, knows_key=terms.knows_key and choices.nonce > 0)
    draft = purse.wallet.draft(make(purse.wallet.binding(terms)), terms, OFFLINE_BLOCKS)
    if draft.body.fee > choices.fee_max:
        raise fault("E-LEDGER-FEE", f"this node wants a fee of {amount_shown(draft.body.fee)}; --fee-max allows it, --api asks another")
    before()
    carried.write(file, carried.to_sign(draft, now_ms()))
    for line in (*what, f"{to_text(IdKind.ACCOUNT, purse.wallet.account)} {has}"):
        click.echo(harmless(line), err=True)
    click.echo(f"{file}: to be signed with `qustream wallet sign`, nonce {draft.body.nonce}, good to block {draft.body.expires}", err=True)


def ask_to(question: str, lines: Sequence[str]) -> None:
    """Errors: `click.UsageError` where nobody can be asked; `click.Abort` for no."""
    for line in lines:
        click.echo(harmless(line), err=True)
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked; --yes does it without asking")
    click.confirm(question, abort=True, err=True)


def awaited(client: ChainClient, signed: Signed, choices: Choices) -> TransactionPage:
    """What became of it. Errors: the code that it was refused with; those of `ChainClient.wait`."""
    found = client.wait(signed, choices.wait_s)
    if found.code:
        raise fault(found.code, f"the chain refused it in block {found.height}; its fee is paid")
    return found


def show(page: TransactionPage | None, choices: Choices, **more: Any) -> None:
    """What became of it, for people or programs. `more`: what a program wants to know besides."""
    if choices.as_json:
        unsent = {"state": "waiting"} if choices.unsigned is None else {"state": "unsigned", "file": str(choices.unsigned)}
        built = msgspec.to_builtins(page) if page is not None else unsent
        click.echo(json.dumps(built | more, indent=1))
    elif page is not None:
        done = ", ".join(f"{event.name}{f' {amount_shown(units(event.amount))}' if event.amount and units(event.amount) else ''}"
                         for event in page.events)  # fmt: skip
        click.echo(harmless(f"final in block {page.height}: {done or page.action}; fee {amount_shown(units(page.fee))}"))
