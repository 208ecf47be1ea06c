"""`qnode licence`: the keys that nodes run under, on the chain: what there is, binding one to a node, the market."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from qnode.cli.options import config_option, open_key
from qnode.cli.purse import Wallet, wallet_options
from qnode.config import Config, load_config
from qustream.cli.paying import ACCOUNT, AMOUNT, LICENCE, Choices, json_option, pay, pay_options, show
from qustream.cli.screen import harmless, moment
from qustream.client.chain import ChainClient, units
from qustream.errors import fault
from qustream.identity import consents
from qustream.model.amount import amount_shown
from qustream.model.ids import IdKind, licence_text, to_text
from qustream.wire.chain_entries import LicenceLine, LicencesPage, MarketPage
from qustream.wire.transactions import BuyLicence, ListLicence, Retire, UnlistLicence, UpdateNode

__all__ = ["licence", "licence_of"]

# 4,732 licences at a hundred a page.
PAGES_MAX = 48
_licence = click.argument("name", metavar="LICENCE", type=LICENCE)
_addresses = click.option("--address", "addresses", multiple=True, help="Where others reach the node; default: as the configuration says.")


@click.group()
def licence() -> None:
    """Licences: what a node needs to run, and what is bought and sold."""


def licence_of(client: ChainClient, name: bytes) -> LicenceLine:
    """A licence as the chain has it. Errors: `E-LEDGER-UNKNOWN`."""
    return client.get(f"licences/{licence_text(name)}", LicenceLine)


@licence.command("list")
@click.option("--mine", is_flag=True, help="Those of the wallet's account alone; takes its passphrase.")
@click.option("--owner", type=ACCOUNT, help="Those of this account alone.")
@click.option("--for-sale", is_flag=True, help="Those on the market, the cheapest first.")
@wallet_options
@json_option
def list_licences(*, mine: bool, owner: bytes | None, for_sale: bool, wallet: Wallet, as_json: bool) -> None:
    """Licences and what they are doing."""
    if for_sale:
        _market(wallet.client(), as_json=as_json)
        return
    if mine:
        owner = wallet.purse().wallet.account
    lines: list[LicenceLine] = []
    client, cursor = wallet.client(), ""
    of = f"&owner={to_text(IdKind.ACCOUNT, owner)}" if owner is not None else ""
    for _ in range(PAGES_MAX):
        page = client.get(f"licences?limit=100{of}{cursor}", LicencesPage)
        lines += page.licences
        if not page.next:
            break
        cursor = f"&after={page.next}"
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(lines), indent=1))
        return
    for line in lines:
        price = f", for sale at {amount_shown(units(line.price))}" if line.price is not None else ""
        staked = f", staked {amount_shown(units(line.staked))}" if units(line.staked) else ""
        click.echo(harmless(f"{line.id} {line.node_class:10} {line.status:8}{' votes' * line.validates}{staked}{price}"))


def _market(client: ChainClient, *, as_json: bool) -> None:
    page = client.get("market", MarketPage)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(page), indent=1))
        return
    for line in page.listings:
        click.echo(harmless(f"{line.licence} {line.node_class:10} {amount_shown(units(line.price))}"))
    click.echo(f"{len(page.listings)} for sale; the market keeps {page.fee_bp / 100:g} % of what the seller gets", err=True)


@licence.command("show")
@_licence
@wallet_options
@json_option
def show_licence(*, name: bytes, wallet: Wallet, as_json: bool) -> None:
    """All about one licence."""
    line = licence_of(wallet.client(), name)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(line), indent=1))
        return
    rows: list[tuple[str, str]] = [
        ("licence", f"{line.id} ({line.node_class}{f', {line.site}' * bool(line.site)})"), ("owner", line.owner), ("status", line.status),
        ("node", line.node and f"{line.node}, paid at {line.payee}, since epoch {line.since_epoch}"),
        ("votes", "yes" * line.validates), ("staked", _money(line.staked)), ("locked", _until(line.locked_until_ms)),
        ("top up", _until(line.top_up_by_ms)),
        ("unbonding", _money(line.unbonding) and f"{_money(line.unbonding)}, free {moment(line.free_ms)} UTC"),
        ("price", _money(line.price)), ("open", f"{line.incidents} incidents" * bool(line.incidents)),
        ("removed", f"{line.removals} times" * bool(line.removals)), ("returns", _until(line.returns_ms)),
    ]  # fmt: skip
    click.echo(harmless("\n".join(f"{what:<10}{said}" for what, said in rows if said)))


def _money(amount: Any) -> str:
    return amount_shown(units(amount)) if amount is not None and units(amount) else ""


def _until(at_ms: int) -> str:
    return f"until {moment(at_ms)} UTC" if at_ms else ""


def told_addresses(config: Config, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Where others are to reach this node. Errors: `E-CONFIG`."""
    told = addresses or config.addresses
    if not told:
        raise fault("E-CONFIG", "where others reach this node is not known: name it with --address, or as addresses in the configuration")
    return told


@licence.command()
@_licence
@config_option
@click.option("--payee", type=ACCOUNT, help="The account that the node is paid at; default: the wallet's.")
@_addresses
@wallet_options
@pay_options
def activate(
    *, name: bytes, config_path: Path, payee: bytes | None, addresses: tuple[str, ...], wallet: Wallet, choices: Choices
) -> None:  # fmt: skip
    """Run this machine's node under LICENCE. Needs the node's keystore, for it signs as well."""
    config = load_config(config_path)
    key, told, purse = open_key(config), told_addresses(config, addresses), wallet.purse()
    paid_at = payee or purse.wallet.account
    what = [f"run node {to_text(IdKind.NODE, key.id)} under licence {licence_text(name)},", f"  reached at {', '.join(told)},",
            f"  paid at {to_text(IdKind.ACCOUNT, paid_at)}"]  # fmt: skip
    page = pay(purse, lambda binding: consents.activate(binding, name, key, payee=paid_at, addresses=told), what, choices)
    show(page, choices)


@licence.command()
@_licence
@config_option
@_addresses
@wallet_options
@pay_options
def update(*, name: bytes, config_path: Path, addresses: tuple[str, ...], wallet: Wallet, choices: Choices) -> None:
    """Say where the node of LICENCE is reached now."""
    told = addresses or told_addresses(load_config(config_path), ())
    page = pay(wallet.purse(), lambda _: UpdateNode(name, told), [f"{licence_text(name)}: reached at {', '.join(told)}"], choices)
    show(page, choices)


@licence.command()
@_licence
@wallet_options
@pay_options
def retire(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Free LICENCE of its node, which then earns nothing. It must not be staked."""
    show(pay(wallet.purse(), lambda _: Retire(name), [f"retire licence {licence_text(name)}"], choices), choices)


@licence.command()
@_licence
@click.argument("price", type=AMOUNT)
@wallet_options
@pay_options
def sell(*, name: bytes, price: int, wallet: Wallet, choices: Choices) -> None:
    """Offer LICENCE for PRICE, or change its price. Whoever pays it has it: nobody is asked again."""
    what = [f"offer licence {licence_text(name)} for {amount_shown(price)}"]
    show(pay(wallet.purse(), lambda _: ListLicence(name, price), what, choices), choices)


@licence.command()
@_licence
@wallet_options
@pay_options
def unsell(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Take LICENCE off the market."""
    show(pay(wallet.purse(), lambda _: UnlistLicence(name), [f"take licence {licence_text(name)} off the market"], choices), choices)


@licence.command()
@_licence
@click.option("--price", type=AMOUNT, help="What it must cost; else what it costs now is shown and asked.")
@wallet_options
@pay_options
def buy(*, name: bytes, price: int | None, wallet: Wallet, choices: Choices) -> None:
    """Buy LICENCE at the price it is offered for."""
    if price is None and choices.yes:
        raise click.UsageError("--yes needs --price: a price nobody has seen is not paid")
    purse = wallet.purse()
    offered = licence_of(purse.client, name).price
    if offered is None:
        raise fault("E-LEDGER-STATUS", f"{licence_text(name)} is not for sale")
    if price is not None and price != units(offered):
        raise fault("E-LEDGER-PRICE", f"it costs {amount_shown(units(offered))}, not {amount_shown(price)}")
    cost = units(offered)
    page = pay(purse, lambda _: BuyLicence(name, cost), [f"buy licence {licence_text(name)} for {amount_shown(cost)}"], choices)
    show(page, choices)
