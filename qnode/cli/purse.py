"""Options of the commands that deal with the chain: which account pays, which node is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from qustream.cli.paying import Purse, api_option, open_client, open_purse
from qustream.client.chain import ChainClient

__all__ = ["Wallet", "wallet_options"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Wallet:
    """Where the account is that `qustream wallet new` made."""

    def __init__(self, directory: Path, passphrase_file: Path | None, api: str | None) -> None:
        self._directory, self._passphrase_file, self._api = directory.expanduser(), passphrase_file, api

    def client(self) -> ChainClient:
        """The node it asks; takes no passphrase. Errors: `E-HOME`, `E-CONFIG`."""
        return open_client(self._directory, self._api)

    def purse(self) -> Purse:
        """The account, opened. Errors: those of `open_purse`."""
        return open_purse(self._directory, self._passphrase_file, self._api)


def wallet_options(command: _F) -> _F:
    """They come as `wallet`."""

    def gather(*arguments: Any, wallet_dir: Path, wallet_passphrase_file: Path | None, api: str | None, **options: Any) -> Any:
        return command(*arguments, wallet=Wallet(wallet_dir, wallet_passphrase_file, api), **options)

    gather.__name__, gather.__doc__ = command.__name__, command.__doc__
    if hasattr(command, "__click_params__"):
        gather.__click_params__ = command.__click_params__  # type: ignore[attr-defined]  # as click keeps options of what it decorates
    for option in (
        api_option,
        click.option(
            "--wallet-passphrase-file", type=click.Path(path_type=Path, dir_okay=False),
            help="Else $CREDENTIALS_DIRECTORY/qustream (systemd), else asked for.",
        ),
        click.option(
            "--wallet", "wallet_dir", type=click.Path(path_type=Path, file_okay=False), default="~/.qustream", show_default=True,
            envvar="QUSTREAM_HOME", help="The directory of the account that pays (qustream wallet new).",
        ),
    ):  # fmt: skip
        option(gather)
    return gather  # type: ignore[return-value]  # click calls it by names alone
