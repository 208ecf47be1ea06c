"""`qustream init` and `qustream whoami`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from qustream.cli.context import Here
from qustream.cli.renewal import renewal_warning
from qustream.cli.screen import moment
from qustream.client.settings import now_ms, reached_chain, write_chain_config, write_config
from qustream.errors import QuStreamError
from qustream.identity import files
from qustream.identity.user import UserHome
from qustream.identity.words import new_words
from qustream.model.ids import IdKind, from_text, to_text
from qustream.registry import NetworkFileRegistry
from qustream.wire.codec import encode

__all__ = ["init", "whoami"]

WORDS_MAX_CHARACTERS = 1024  # 24 words of at most 8 letters, with room for odd spacing
PUBLIC_MODE = 0o644  # what others are to be given may be read by others


@click.command()
@click.option("--network", "network_file", type=click.Path(path_type=Path, dir_okay=False), help="The signed network file.")
@click.option("--network-key", help="The key that signs it (qnet1…).")
@click.option("--chain", help="On a network with a chain instead: its name,")
@click.option("--checkpoint", help="what it is known by (qcp1…),")
@click.option("--node", "nodes", multiple=True, metavar="ID@HOST:PORT", help="and a node to ask (qn1…@host:port); better three.")
@click.option("--label", default="device", show_default=True, help="What you call this device.")
@click.option("--words", "count", type=click.Choice(["12", "24"]), default="12", show_default=True, help="Length of a new passphrase.")
@click.option("--restore", is_flag=True, help="Make this a further device of a user you have the words of; asks for them.")
@click.option(
    "--stripe", type=click.IntRange(0, 255), default=0, show_default=True, help="With --restore: the number of this device, from 0."
)
@click.pass_obj
def init(
    here: Here, /, *, network_file: Path | None, network_key: str | None, chain: str | None, checkpoint: str | None, nodes: tuple[str, ...],
    label: str, count: str, restore: bool, stripe: int,
) -> None:  # fmt: skip
    """Make a user, or a further device of one. The words are shown once and stored nowhere."""
    if chain and checkpoint and nodes and not (network_file or network_key):
        pinned = from_text(checkpoint, IdKind.CHECKPOINT)
        reached_chain(chain, pinned, nodes)
        configure = partial(write_chain_config, here.home, chain, pinned, nodes)
        then = "Next: have the user entered in the chain (`qustream user register`), and buy a grant (`qustream grant buy`)."
    elif network_file and network_key and not (chain or checkpoint or nodes):
        network_file = network_file.expanduser().resolve()
        NetworkFileRegistry(network_file, network_key).load(now_ms())  # a wrong file or key is found before anything is made
        configure = partial(write_config, here.home, network_file, network_key)
        then = "Next: give the enrolment (`qustream whoami --enrolment FILE`) to whoever keeps the network file."
    else:
        raise click.UsageError("--network and --network-key are needed; or --chain, --checkpoint and --node")
    here.require_empty()
    passphrase = here.new_passphrase()
    words = _asked_words() if restore else new_words(int(count))
    user = UserHome.create(here.home, words, label, passphrase, stripe=stripe, now_ms=now_ms())
    configure()
    if not restore:
        click.echo("These words are you. Write them down and keep them safe: they are shown now and never again.\n", err=True)
        click.echo(f"    {words}\n", err=True)
    click.echo(to_text(IdKind.USER, user.user))
    click.echo(then, err=True)


def _asked_words() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Your words", hide_input=True, err=True))
    return sys.stdin.readline(WORDS_MAX_CHARACTERS).strip()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--enrolment", type=click.Path(path_type=Path, dir_okay=False), help="Write what the network must know of this device.")
@click.option("--offer", "count", type=click.IntRange(1, 1 << 20), help="Prepare a grant of this many requests; needs --offer-file.")
@click.option("--offer-file", type=click.Path(path_type=Path, dir_okay=False), help="Where the grant offer goes.")
@click.option("--stripes", type=click.IntRange(1, 256), help="How many devices share the grant (default: up to this one).")
@click.pass_obj
def whoami(
    here: Here, /, *, as_json: bool, enrolment: Path | None, count: int | None, offer_file: Path | None, stripes: int | None
) -> None:
    """Who this device is to the network, and what it has left."""
    if (count is None) != (offer_file is None):
        raise click.UsageError("--offer and --offer-file go together")
    passphrase = here.passphrase()
    user = UserHome.load(here.home, passphrase)
    if enrolment:
        files.replace(enrolment, encode(user.enrolment()), mode=PUBLIC_MODE)
    if count and offer_file:
        files.replace(offer_file, encode(user.new_grant_offer(count, now_ms(), stripes=stripes)), mode=PUBLIC_MODE)
    answer: dict[str, object] = {
        "user": to_text(IdKind.USER, user.user),
        "device": to_text(IdKind.DEVICE, user.device.id),
        "label": user.label,
        "stripe": user.stripe,
        "certificate_expires_ms": user.expires_ms,
        "ruid_key": user.generation,
        **_on_the_network(here.home, passphrase),
    }
    click.echo(json.dumps(answer, indent=1) if as_json else _text(answer))
    if warning := renewal_warning(user.expires_ms, now_ms()):
        click.echo(warning, err=True)


def _on_the_network(home: Path, passphrase: bytes) -> dict[str, object]:
    """Enrolment, grants and alerts, as far as the network can be asked now; `trouble`: why not farther."""
    answer: dict[str, object] = {"enrolled": False, "grants": [], "alerts": [], "trouble": ""}
    from qustream.client.client import Client  # as in `Here`

    try:
        with Client.from_home(home, passphrase=passphrase) as client:
            listed = {entry.device: entry.revoked for entry in client.registry.user(client.home.user).devices}
            answer["enrolled"] = listed.get(client.home.device.id) is False
            if listed.get(client.home.device.id):
                answer["trouble"] = "this device is revoked"
            grants = client.grants()
            answer["grants"] = [{"grant": to_text(IdKind.GRANT, grant.grant), "epoch": grant.epoch, "left": left} for grant, left in grants]
            if answer["enrolled"]:
                answer["alerts"] = [
                    {"code": a.code, "device": to_text(IdKind.DEVICE, a.device), "at_ms": a.at_ms, "times": a.times}
                    for a in client.alerts()
                ]
    except QuStreamError as error:
        answer["trouble"] = str(error)
    return answer


def _text(answer: dict[str, object]) -> str:
    grants, alerts, expires_ms = answer["grants"], answer["alerts"], answer["certificate_expires_ms"]
    assert isinstance(grants, list)
    assert isinstance(alerts, list)
    assert isinstance(expires_ms, int)
    lines = [
        f"user     {answer['user']}",
        f"device   {answer['device']} ({answer['label']}, number {answer['stripe']}), certificate until {moment(expires_ms)} UTC",
        f"rUID key number {answer['ruid_key']}",
        f"network  {'enrolled' if answer['enrolled'] else 'not enrolled'}{'; ' if answer['trouble'] else ''}{answer['trouble']}",
    ]
    lines += [f"grant    {g['grant']}: {g['left']} requests left on this device" for g in grants] or ["grant    none that is good now"]
    # Every node that was asked tells it on its own and counts for itself: one line a device and code, not one a node.
    told: dict[tuple[Any, Any], list[Any]] = {}
    for alert in alerts:
        told.setdefault((alert["code"], alert["device"]), []).append(alert)
    for (code, device), ones in told.items():
        last, times = moment(max(a["at_ms"] for a in ones)), max(a["times"] for a in ones)
        lines.append(f"ALERT    {last} UTC {code}: device {device}, refused up to {times} times by a node")
    return "\n".join(lines)
