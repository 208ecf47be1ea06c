"""`qustream renew` and `qustream rotate`: what only the words can do, every 90 days and after a device was lost."""

from __future__ import annotations

from pathlib import Path

import click

from qustream.cli.context import Here
from qustream.cli.screen import moment
from qustream.cli.wallet import asked_words, words_option
from qustream.client.settings import now_ms
from qustream.errors import fault
from qustream.identity.user import GENERATIONS_MAX, UserHome

__all__ = ["renew", "renewal_warning", "rotate"]

DAY_MS = 86_400_000  # by definition: certificates are told in days
# Two weeks: the words lie in a safe somewhere, and whoever has them may be on holiday.
WARN_BEFORE_MS = 14 * DAY_MS


def renewal_warning(expires_ms: int, now: int) -> str:
    """What to say of a certificate that ends soon or has ended; empty for any other."""
    if now >= expires_ms:
        return "WARNING: the certificate has expired; qustream renew, with the words at hand"
    if expires_ms - now >= WARN_BEFORE_MS:
        return ""
    days = (expires_ms - now) // DAY_MS
    left = f"in {days} day{'s' * (days > 1)}" if days else "within a day"
    return f"WARNING: the certificate expires {left}; qustream renew, with the words at hand"


@click.command()
@words_option
@click.pass_obj
def renew(here: Here, /, *, words_file: Path | None) -> None:
    """Renew this device's certificate for 90 days from now, with the words; an expired one too."""
    user = UserHome.load(here.home, here.passphrase())
    user.renew(asked_words(words_file), now_ms())
    click.echo(f"certificate until {moment(user.expires_ms)} UTC")
    click.echo(
        "Next: nothing; it goes along with each request, and nobody need be told. Other devices have certificates of their own.", err=True
    )


@click.command()
@words_option
@click.option(
    "--to", "number", type=click.IntRange(1, GENERATIONS_MAX - 1),
    help="The number of the rUID key that another device has come to; default: the next.",
)  # fmt: skip
@click.pass_obj
def rotate(here: Here, /, *, words_file: Path | None, number: int | None) -> None:
    """Take the next rUID key, with the words: grants to come say nothing to whoever has a lost device. There is no way back."""
    passphrase = here.passphrase()
    user = UserHome.load(here.home, passphrase)
    target = user.generation + 1 if number is None else number
    if target <= user.generation:
        raise fault("E-CONFIG", f"this device has rUID key {user.generation} already")
    words = asked_words(words_file)
    while user.generation < target:
        user.rotate_ruid_key(words, passphrase)
    click.echo(f"rUID key number {user.generation}")
    click.echo(
        f"Next: qustream rotate --to {user.generation} on each other device that is left, then a new grant (qustream grant buy). "
        "Grants bought before stay usable, and are known to whoever has the lost device.",
        err=True,
    )
