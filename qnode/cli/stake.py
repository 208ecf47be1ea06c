"""`qnode stake`: 200,000 QST on a licence, and what comes back of it."""

from __future__ import annotations

import click

from qnode.cli.licence import licence_of
from qnode.cli.purse import Wallet, wallet_options
from qustream.cli.paying import LICENCE, Choices, pay, pay_options, show
from qustream.cli.screen import moment
from qustream.client.chain import ChainClient, units
from qustream.errors import QuStreamError, fault
from qustream.model.amount import amount_shown
from qustream.model.ids import licence_text
from qustream.wire.chain_entries import ValidatorLine
from qustream.wire.chain_json import ChainStatus
from qustream.wire.transactions import Claim, Stake, TopUp, Unstake

__all__ = ["stake"]

DAY_MS = 86_400_000  # what people count locks in
_licence = click.argument("name", metavar="LICENCE", type=LICENCE)


@click.group()
def stake() -> None:
    """Stakes of licences: all or nothing, locked, and slow to come back."""


def _days(span_ms: int) -> str:
    return f"{span_ms / DAY_MS:g} days"


def _duty(client: ChainClient, name: bytes) -> str:
    """Why the duty of a validator is not over; empty if it is, or there was none."""
    try:
        line = client.get(f"validators/{licence_text(name)}", ValidatorLine)
    except QuStreamError as error:
        if error.code in ("E-NOT-HELD", "E-LEDGER-UNKNOWN"):
            return ""
        raise
    if not line.leaves_ms:
        return "votes: qnode validator exit ends its duty two rotations later"
    is_over = line.leaves_ms <= client.get("status", ChainStatus).time_ms
    return "" if is_over else f"is on duty until {moment(line.leaves_ms)} UTC"


@stake.command()
@_licence
@wallet_options
@pay_options
def add(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Stake on LICENCE, which must be active."""
    purse = wallet.purse()
    if (line := licence_of(purse.client, name)).status != "active":
        raise fault("E-LEDGER-STATUS", f"licence {line.id} is {line.status}; only an active one is staked: qnode licence activate")
    if units(line.staked):
        raise fault("E-LEDGER-STATUS", f"licence {line.id} is staked already")
    figures = purse.client.parameters()
    what = [f"stake {amount_shown(figures.stake)} on licence {licence_text(name)}: locked for {_days(figures.lock_ms)}, "
            f"then {_days(figures.unbonding_ms)} on its way back"]  # fmt: skip
    show(pay(purse, lambda _: Stake(name), what, choices), choices)


@stake.command()
@_licence
@wallet_options
@pay_options
def remove(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Begin to take the stake of LICENCE back; `claim` takes it when its time is over. Until then it can be slashed."""
    purse = wallet.purse()
    line = licence_of(purse.client, name)
    if why := _duty(purse.client, name):
        raise fault("E-LEDGER-STATUS", f"licence {line.id} {why}")
    if not units(line.staked):
        raise fault("E-LEDGER-STATUS", f"licence {line.id} has no stake")
    back = _days(purse.client.parameters().unbonding_ms)
    show(pay(purse, lambda _: Unstake(name), [f"take the stake of {licence_text(name)} back: free in {back}"], choices), choices)


@stake.command("top-up")
@_licence
@wallet_options
@pay_options
def top_up(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Fill up the stake of LICENCE when the chain asks for more than it has."""
    purse = wallet.purse()
    line, whole = licence_of(purse.client, name), purse.client.parameters().stake
    missing = whole - units(line.staked)
    if not units(line.staked) or missing <= 0:
        raise fault("E-LEDGER-STATUS", f"nothing is missing of the stake of {line.id}, or it has none")
    what = [f"fill up the stake of licence {line.id} with {amount_shown(missing)}"]
    show(pay(purse, lambda _: TopUp(name, missing), what, choices), choices)


@stake.command()
@_licence
@wallet_options
@pay_options
def claim(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Take what is yours with LICENCE: rewards, and stake and delegations whose way back is over."""
    show(pay(wallet.purse(), lambda _: Claim(name), [f"claim what licence {licence_text(name)} owes"], choices), choices)
