"""What every command needs first: the user's directory, its passphrase, a client."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qustream.client.settings import CONFIG_FILE, CREDENTIAL, Network, close_network, find_home_passphrase, now_ms, open_network
from qustream.errors import QuStreamError, fault
from qustream.identity import keystore

if TYPE_CHECKING:
    from qustream.client.client import Client

__all__ = ["Here"]

PASSPHRASE_MIN_CHARACTERS = 8  # Argon2id makes each guess cost 0.06 s; shorter words are guessed all the same


@dataclass(frozen=True, slots=True)
class Here:
    """The directory of `--home`, and the file of `--passphrase-file` if there is one."""

    home: Path
    passphrase_file: Path | None

    def passphrase(self) -> bytes:
        """Of the keystore that is there. Errors: `E-SECRET-MISSING`, `E-KEYSTORE-MODE`, `E-FILE`, `E-CONFIG`."""
        return find_home_passphrase(self.home, self.passphrase_file)

    def new_passphrase(self) -> bytes:
        """For a keystore to be made: as `passphrase`, but typed twice if it has to be typed."""
        try:
            return keystore.find_passphrase(CREDENTIAL, file=self.passphrase_file, prompt=False)
        except QuStreamError as error:
            if error.code != "E-SECRET-MISSING" or not sys.stdin.isatty():
                raise
        typed: str = click.prompt("Choose a passphrase for this device", hide_input=True, confirmation_prompt=True, err=True)
        if len(typed) < PASSPHRASE_MIN_CHARACTERS:
            raise fault("E-SECRET-WEAK", f"a passphrase of {len(typed)} characters")
        return typed.encode()

    def require_empty(self) -> None:
        """Errors: `E-KEYSTORE-EXISTS` if there is a user already, before anything is asked or made."""
        if (self.home / CONFIG_FILE).exists():
            raise fault("E-KEYSTORE-EXISTS", f"{self.home} holds a QuStream user already")

    def client(self) -> Client:
        """A client of the user. Errors: those of `Client.from_home`."""
        # Half of what all commands would load, and needed by those alone that talk to nodes over channels.
        from qustream.client.client import Client

        return Client.from_home(self.home, passphrase=self.passphrase())

    def network(self) -> Network:
        """The network of the user; takes no passphrase. Errors: `E-HOME`, `E-CONFIG`, `E-REGISTRY-…`, `E-FILE`."""
        network = open_network(self.home, now_ms)
        click.get_current_context().call_on_close(partial(close_network, network))
        return network
