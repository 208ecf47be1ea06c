"""`qustream grant`: requests bought with QST."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import msgspec

from qustream.cli.context import Here
from qustream.cli.paying import LICENCE, Choices, Purse, api_option, json_option, open_client, open_purse, pay, pay_options, show
from qustream.cli.screen import duration
from qustream.cli.sharing import GRANT, adopt, share
from qustream.client.chain import ChainClient
from qustream.client.settings import now_ms
from qustream.errors import QuStreamError, fault
from qustream.identity.user import GrantOffer, UserHome
from qustream.model.amount import amount_shown
from qustream.model.ids import IdKind, from_text, licence_from_text, to_text
from qustream.model.network import Grant
from qustream.rules.pricing import grant_price, roll_over_price
from qustream.wire.chain import grant_id, rolled_id
from qustream.wire.chain_entries import GrantLine, GrantsPage
from qustream.wire.transactions import BuyGrant, RollOver

__all__ = ["grant"]

# Pages of a user's grants that are looked through; they go by themselves some epochs after their end.
PAGES_MAX = 20
# A grant is good in its epoch and the next (`proto/spec/ledger.md`, §3).
ENDED_AFTER = 2


@click.group()
def grant() -> None:
    """Requests for one-time keys, bought with QST."""


for command in (share, adopt):
    grant.add_command(command)


@grant.command()
@click.argument("count", type=click.IntRange(1, 1 << 20))
@click.option("--lifetime", type=duration, default="1d", show_default=True, help="How long keys may be collected, such as 12h or 7d.")
@click.option("--stripes", type=click.IntRange(1, 256), help="How many devices share the grant (default: up to this one).")
@click.option("--pin", type=LICENCE, help="A licence whose node shall serve every request.")
@api_option
@pay_options
@click.pass_obj
def buy(
    here: Here, /, *, count: int, lifetime: int, stripes: int | None, pin: bytes | None, api: str | None, choices: Choices
) -> None:  # fmt: skip
    """Buy COUNT requests for this user, and keep them on this device."""
    purse = open_purse(here.home, here.passphrase_file, api)
    user = UserHome.load(here.home, here.passphrase())
    price = grant_price(purse.parameters(), count, lifetime)
    offer = user.new_grant_offer(count, now_ms(), stripes=stripes)
    what = [f"buy {count} requests for {to_text(IdKind.USER, user.user)}, price {amount_shown(price)}"]
    action = BuyGrant(user.user, offer.root, offer.count, offer.stripes, lifetime, pin, price)
    _bought(purse, user, offer, action, what, choices=choices, name=grant_id)


@grant.command("roll-over")
@click.argument("name", metavar="GRANT", type=GRANT)
@click.option("--count", type=click.IntRange(1, 1 << 20), help="How many requests; default: what this device has left of it.")
@click.option("--stripes", type=click.IntRange(1, 256), help="How many devices share the new one (default: as many as the old one).")
@api_option
@pay_options
@click.pass_obj
def roll_over(
    here: Here, /, *, name: bytes, count: int | None, stripes: int | None, api: str | None, choices: Choices
) -> None:  # fmt: skip
    """Exchange what is unused of GRANT, which has ended, for a new one: once, at half the price, by the account that bought it."""
    purse = open_purse(here.home, here.passphrase_file, api)
    user = UserHome.load(here.home, here.passphrase())
    line = purse.client.get(f"grants/{to_text(IdKind.GRANT, name)}", GrantLine)
    old = _grant(line)
    if (epoch := purse.client.status().epoch) < old.epoch + ENDED_AFTER:
        raise fault("E-LEDGER-LOCKED", f"{line.id} is good until the end of epoch {old.epoch + ENDED_AFTER - 1}, and this is epoch {epoch}")
    wanted = _left(user, old) if count is None else count
    price = roll_over_price(purse.parameters(), wanted, old.lifetime_max_ms)
    offer = user.new_grant_offer(wanted, now_ms(), stripes=stripes or old.stripes)
    what = [f"roll {wanted} of {old.count} requests of {line.id} over, price {amount_shown(price)}"]
    action = RollOver(name, offer.root, offer.count, offer.stripes, price)
    _bought(purse, user, offer, action, what, choices=choices, name=lambda _: rolled_id(name))


def _left(user: UserHome, old: Grant) -> int:
    """Errors: `E-GRANT-EXHAUSTED` if nothing is; `click.UsageError` if this device cannot know."""
    if not user.grants.holds(old.root):
        raise click.UsageError("this device does not hold that grant, so --count has to say how many requests are unused")
    user.adopt_grant(old)
    if old.stripes > 1:
        raise click.UsageError(f"{old.stripes} devices share that grant, so --count has to say how many requests are unused")
    left = user.grants.left(old.grant)
    if not left:
        raise fault("E-GRANT-EXHAUSTED", "nothing of it is unused")
    return left


def _bought(
    purse: Purse, user: UserHome, offer: GrantOffer, action: BuyGrant | RollOver, what: list[str], *, choices: Choices,
    name: Callable[[bytes], bytes],
) -> None:  # fmt: skip
    """Pay for an offer and keep what it has become. `name`: the new grant's id, by that of the transaction."""
    try:
        page = pay(purse, lambda _: action, what, choices)
    except (click.Abort, click.UsageError):
        user.grants.forget(offer.root)
        raise
    except QuStreamError as error:
        if error.code != "E-DEADLINE":  # then it may still be bought
            user.grants.forget(offer.root)
        raise
    if page is None:
        click.echo("once it is final, `qustream grant list` takes it over", err=True)
        show(page, choices)
        return
    bought = _grant(purse.client.get(f"grants/{to_text(IdKind.GRANT, name(bytes.fromhex(page.id)))}", GrantLine))
    user.adopt_grant(bought)
    show(page, choices, grant=to_text(IdKind.GRANT, bought.grant))
    click.echo(f"grant {to_text(IdKind.GRANT, bought.grant)}, good in epochs {bought.epoch} and {bought.epoch + 1}", err=True)


@grant.command("list")
@api_option
@json_option
@click.pass_obj
def list_grants(here: Here, /, *, api: str | None, as_json: bool) -> None:
    """The grants of this user; those that this device offered and does not have yet are taken over."""
    user, client = UserHome.load(here.home, here.passphrase()), open_client(here.home, api)
    lines: list[dict[str, Any]] = []
    for line in _grants(client, to_text(IdKind.USER, user.user)):
        bought = _grant(line)
        if user.grants.holds(bought.root):
            user.adopt_grant(bought)
        left = user.grants.left(bought.grant) if user.grants.holds(bought.root) else None
        lines.append(msgspec.to_builtins(line) | {"left": left})
    if as_json:
        click.echo(json.dumps(lines, indent=1))
        return
    for each in lines:
        here_left = "of another device" if each["left"] is None else f"{each['left']} left on this device"
        click.echo(f"{each['id']}: {each['count']} requests of epoch {each['epoch']}, {here_left}")
    if not lines:
        click.echo("no grants", err=True)


def _grants(client: ChainClient, user: str) -> list[GrantLine]:
    found: list[GrantLine] = []
    cursor = ""
    for _ in range(PAGES_MAX):
        page = client.get(f"users/{user}/grants?limit=100{cursor}", GrantsPage)
        found += page.grants
        if not page.next:
            break
        cursor = f"&after={page.next}"
    return found


def _grant(line: GrantLine) -> Grant:
    """What a node says of a grant. Errors: `E-ANSWER-INVALID`; whether it is ours is for who adopts it to see."""
    try:
        pinned = licence_from_text(line.pinned) if line.pinned else None
        fields = (
            from_text(line.id, IdKind.GRANT), from_text(line.owner, IdKind.USER), bytes.fromhex(line.root), line.count, line.stripes,
            line.epoch, line.lifetime_max_ms, pinned,
        )  # fmt: skip
        return msgspec.convert(fields, Grant)
    except (QuStreamError, ValueError):
        raise fault("E-ANSWER-INVALID", "the node describes a grant that is none") from None
