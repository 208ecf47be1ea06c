"""`qnode validator`: keys to vote with, duty, delegation."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from qnode.cli.evidence import evidence, report
from qnode.cli.licence import licence_of
from qnode.cli.options import CREDENTIAL, config_option, new_passphrase, open_key
from qnode.cli.purse import Wallet, wallet_options
from qnode.cli.sign_state import sign_state as sign_state_group
from qnode.config import Config, load_config
from qnode.store.sign_state import SignStateFile
from qustream.cli.paying import AMOUNT, LICENCE, Choices, Text, json_option, nothing, pay, pay_options, show
from qustream.cli.screen import harmless, moment
from qustream.client.chain import units
from qustream.errors import QuStreamError, fault
from qustream.identity import consents, files, keystore, voting
from qustream.identity.reveals import LINKS_MAX, HashChain
from qustream.identity.voting import RevealSeed, VoteKey, VoteSecrets
from qustream.model.amount import amount_shown
from qustream.model.ids import IdKind, licence_text, to_text
from qustream.wire.chain_entries import DelegationLine, ValidatorLine, ValidatorsPage
from qustream.wire.transactions import Delegate, EditValidator, ExitValidator, Undelegate, Unsuspend

__all__ = ["LINKS", "make_keys", "validator"]

# A leader of a hundred reveals a link in a hundred blocks: three years of a block a second. Computed in a second at every start.
LINKS = 1 << 20
PUBLIC_MODE, PUBLIC_SUFFIX = 0o644, ".vote"
# 4,732 licences at a hundred a page.
PAGES_MAX = 48
_licence = click.argument("name", metavar="LICENCE", type=LICENCE)
_links = click.option("--links", type=click.IntRange(1, LINKS_MAX), default=LINKS, show_default=True, help="Blocks it can propose.")


def _percent(text: str) -> int:
    """A commission such as `5` or `7.5`, in hundredths of a percent."""
    found = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,2}))? ?%?", text)
    basis_points = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else -1
    if not 0 <= basis_points <= 10_000:
        raise ValueError("a commission is 0 to 100 percent, with at most two decimals")
    return basis_points


_commission = click.option(
    "--commission", type=Text("percent", _percent), default="10", show_default=True, help="Percent of what delegators earn."
)


@click.group()
def validator() -> None:
    """Validators: who votes, and money on them."""


validator.add_command(sign_state_group)
validator.add_command(evidence)
validator.add_command(report)


@validator.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_links
@click.option("--public", type=click.Path(path_type=Path, dir_okay=False), help="Where the public part goes; default: FILE.vote beside it.")
@click.option(
    "--sign-state", type=click.Path(path_type=Path, dir_okay=False), help="What remembers what is signed; default: sign-state beside FILE."
)
@click.option("--passphrase-file", type=click.Path(path_type=Path, dir_okay=False), help="The node's; else its credential, else asked for.")
def keys(*, file: Path, links: int, public: Path | None, sign_state: Path | None, passphrase_file: Path | None) -> None:
    """Make a vote key and a hash chain: FILE is what `vote_keystore` in the configuration names, under the node's passphrase. Beside it
    begins the file that remembers what is signed.

    The public part is for a genesis document; `qnode validator register` needs FILE alone.
    """
    memory = sign_state or file.with_name("sign-state")
    if os.path.lexists(file):
        raise fault("E-KEYSTORE-EXISTS", f"{file} exists")
    key = make_keys(file, memory, links=links, public=public, passphrase=new_passphrase(passphrase_file))
    click.echo(key.id.hex())
    shown = public or file.with_name(file.name + PUBLIC_SUFFIX)
    click.echo(f"{file} and {memory}: keep them on this machine alone, for two that vote are slashed; public part: {shown}", err=True)


def make_keys(file: Path, memory: Path, *, links: int, public: Path | None, passphrase: bytes) -> VoteKey:
    """A new vote key's keystore, memory and public part. Errors: `E-KEYSTORE-EXISTS`, `E-FILE-EXISTS`, those of writing; then nothing of
    them is there."""
    made = VoteSecrets(secrets.token_bytes(voting.SEED_BYTES), (RevealSeed(secrets.token_bytes(32), links),))
    key, chain = VoteKey(made.seed), made.chains()[0]
    SignStateFile(memory, key.id).begin()
    try:
        voting.write(file, made, passphrase)
    except QuStreamError:
        memory.unlink()  # of a key that nobody has
        raise
    encoded = base64.b64encode(key.public).decode()
    text = f'vote_key = "{encoded}"\nanchor = "{chain.anchor.hex()}"\nlinks = {links}\n'
    files.replace(public or file.with_name(file.name + PUBLIC_SUFFIX), text.encode(), mode=PUBLIC_MODE)
    return key


def _votes(config: Config) -> tuple[Path, bytes, VoteSecrets]:
    """Where the vote keystore is, its passphrase, and what it holds. Errors: `E-CONFIG`, those of `voting.read`."""
    if config.validator is None:
        raise fault("E-CONFIG", "the configuration has no [validator]; make its keys with qnode validator keys")
    path = config.validator.vote_keystore
    passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=sys.stdin.isatty())
    return path, passphrase, voting.read(path, passphrase)


@validator.command()
@_licence
@config_option
@_commission
@wallet_options
@pay_options
def register(*, name: bytes, config_path: Path, commission: int, wallet: Wallet, choices: Choices) -> None:
    """Let LICENCE, which must be staked, vote with this node. Both its keys sign; it votes from the rotation after next on."""
    config = load_config(config_path)
    key, (_, _, held), purse = open_key(config), _votes(config), wallet.purse()
    vote, chain = VoteKey(held.seed), held.chains()[0]
    if not units((line := licence_of(purse.client, name)).staked):
        raise fault("E-LEDGER-STATUS", f"licence {line.id} is {line.status} and not staked: qnode licence activate, qnode stake add")
    what = [f"let licence {licence_text(name)} vote with node {to_text(IdKind.NODE, key.id)}, commission {commission / 100:g} %"]

    def make(binding: consents.Binding) -> Any:
        return consents.register_validator(
            binding, name, key, vote, anchor=chain.anchor, links=chain.links, commission_bp=commission
        )  # fmt: skip

    show(pay(purse, make, what, choices), choices)


@validator.command()
@_licence
@config_option
@click.option("--commission", type=Text("percent", _percent), help="Percent of what delegators earn; default: as it is.")
@click.option(
    "--new-chain", is_flag=True, help="Replace the hash chain, before it runs out; the node must be started again before it counts."
)
@_links
@wallet_options
@pay_options
def edit(
    *, name: bytes, config_path: Path, commission: int | None, new_chain: bool, links: int, wallet: Wallet, choices: Choices
) -> None:  # fmt: skip
    """Change the commission of LICENCE, or its hash chain: from the rotation after next on."""
    if commission is None and not new_chain:
        raise click.UsageError("--commission or --new-chain: what is to be changed?")
    purse = wallet.purse()
    line = purse.client.get(f"validators/{licence_text(name)}", ValidatorLine)
    now = line.coming_commission_bp if line.coming_from else line.commission_bp
    basis_points, anchor, what = now if commission is None else commission, bytes(32), [f"validator {licence_text(name)}:"]
    before: Callable[[], None] = nothing
    if new_chain:
        path, passphrase, held = _votes(load_config(config_path))
        seed = RevealSeed(secrets.token_bytes(32), links)
        anchor = HashChain(seed.seed, links).anchor
        # Before it is sent, for a chain that the network knows and this node does not would end its leading; and not before it is said
        # yes to, for the oldest chain there goes when there are too many.
        before = partial(voting.replace, path, held.with_chain(seed), passphrase)
        what.append(f"  a new hash chain of {links} links, put into {path}")
    if commission is not None:
        what.append(f"  commission {basis_points / 100:g} %")
    action = EditValidator(name, basis_points, anchor, links if new_chain else 0)
    show(pay(purse, lambda _: action, what, choices, before=before), choices)


@validator.command("exit")
@_licence
@wallet_options
@pay_options
def leave(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Vote no more with LICENCE; its stake can be taken back two rotations later."""
    show(pay(wallet.purse(), lambda _: ExitValidator(name), [f"end the duty of validator {licence_text(name)}"], choices), choices)


@validator.command()
@_licence
@wallet_options
@pay_options
def unsuspend(*, name: bytes, wallet: Wallet, choices: Choices) -> None:
    """Come back into the rotation of leaders, when the suspension of LICENCE is over."""
    show(pay(wallet.purse(), lambda _: Unsuspend(name), [f"let validator {licence_text(name)} lead again"], choices), choices)


@validator.command()
@_licence
@click.argument("amount", type=AMOUNT)
@wallet_options
@pay_options
def delegate(*, name: bytes, amount: int, wallet: Wallet, choices: Choices) -> None:
    """Put AMOUNT on the validator LICENCE: it earns with it, is slashed with it, for what it did before too, and is slow to come back."""
    purse = wallet.purse()
    found = purse.client.get(f"validators/{licence_text(name)}", ValidatorLine)
    days = purse.client.parameters().unbonding_ms / 86_400_000
    what = [f"delegate {amount_shown(amount)} to validator {licence_text(name)}, commission {found.commission_bp / 100:g} %; "
            f"back {days:g} days after it is undelegated"]  # fmt: skip
    show(pay(purse, lambda _: Delegate(name, amount), what, choices), choices)


@validator.command()
@_licence
@click.argument("amount", type=AMOUNT, required=False)
@wallet_options
@pay_options
def undelegate(*, name: bytes, amount: int | None, wallet: Wallet, choices: Choices) -> None:
    """Begin to take AMOUNT (default: all) back from the validator LICENCE; `qnode stake claim` takes it when its time is over."""
    purse = wallet.purse()
    who = to_text(IdKind.ACCOUNT, purse.wallet.account)
    held = purse.client.get(f"accounts/{who}/delegations/{licence_text(name)}", DelegationLine)
    if not (held.shares.isascii() and held.shares.isdigit() and len(held.shares) < 20 and int(held.shares)):
        raise fault("E-LEDGER-NOTHING", f"{who} has nothing on {licence_text(name)}")
    worth, shares = units(held.amount), int(held.shares)
    if amount is not None and (amount > worth or not amount):
        raise fault("E-LEDGER-FUNDS", f"{amount_shown(worth)} is there to take back")
    # So many shares are worth at least as much, and not a share more.
    taken = shares if amount is None else min(shares, -(-amount * shares // worth))
    what = [f"take {amount_shown(worth if amount is None else amount)} back from validator {licence_text(name)}"]
    show(pay(purse, lambda _: Undelegate(name, taken), what, choices), choices)


@validator.command("list")
@wallet_options
@json_option
def list_validators(*, wallet: Wallet, as_json: bool) -> None:
    """Validators by weight."""
    lines: list[ValidatorLine] = []
    client, cursor = wallet.client(), ""
    for _ in range(PAGES_MAX):
        page = client.get(f"validators?limit=100{cursor}", ValidatorsPage)
        lines += page.validators
        if not page.next:
            break
        cursor = f"&after={page.next}"
    lines.sort(key=lambda line: -units(line.weight))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(lines), indent=1))
        return
    for line in lines:
        click.echo(
            harmless(f"{line.licence} {_duty(line):12} {amount_shown(units(line.weight)):>18}  commission {line.commission_bp / 100:g} %")
        )


def _duty(line: ValidatorLine) -> str:
    if not line.on_duty:
        return "leaves"
    if line.suspended_until_ms:
        return "suspended"
    return "waits" if line.seat < 0 else f"seat {line.seat}"


@validator.command("show")
@_licence
@wallet_options
@json_option
def show_validator(*, name: bytes, wallet: Wallet, as_json: bool) -> None:
    """All about one validator."""
    line = wallet.client().get(f"validators/{licence_text(name)}", ValidatorLine)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(line), indent=1))
        return
    rows = [
        ("validator", f"{line.licence} of {line.owner}"), ("duty", _duty(line)), ("node", line.node), ("vote key", line.vote_key),
        ("weight", f"{amount_shown(units(line.weight))}, of it {amount_shown(units(line.delegated))} delegated"),
        ("commission", f"{line.commission_bp / 100:g} %"), ("earned", f"{amount_shown(units(line.earned))}, unclaimed"),
        ("coming", f"from rotation {line.coming_from} on: commission {line.coming_commission_bp / 100:g} %"
         + f", a hash chain of {line.coming_links}" * bool(line.coming_links) if line.coming_from else ""),
        ("leading", f"{'yes' if line.leads else 'no'}; of its last {len(line.history)} views it missed {line.history.count('1')}"),
        ("reveals", f"{line.links} left"),
        ("suspended", f"until {moment(line.suspended_until_ms)} UTC, {line.suspensions} times so far" * bool(line.suspended_until_ms)),
        ("leaves", f"{moment(line.leaves_ms)} UTC" * bool(line.leaves_ms)),
    ]  # fmt: skip
    click.echo(harmless("\n".join(f"{what:<11}{said}" for what, said in rows if said)))
