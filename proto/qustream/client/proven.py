"""What a wallet signs by, proven from a checkpoint where there is one (`proto/spec/chain-api.md`, §5): the account's nonce and money, and
what the chain charges. What only the asked node says is what waits there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from qustream.client.chain import ChainClient
from qustream.client.settings import CONFIG_FILE, HomeConfig, load_config, open_chain
from qustream.errors import QuStreamError, fault
from qustream.identity import wallet
from qustream.identity.wallet import Terms
from qustream.model.state import Account, Parameters

__all__ = ["Prover", "open_prover", "proven_terms"]


class Prover(Protocol):
    """A chain by proofs (`qustream.light.registry.LightRegistry`)."""

    @property
    def height(self) -> int:
        """Of the newest state that something was proven in."""
        ...

    def account(self, account: bytes) -> Account:
        """What an account has."""
        ...

    def parameters(self) -> Parameters:
        """The chain's figures."""
        ...

    def close(self) -> None:
        """End the connections that are kept. Harmless when repeated."""
        ...


def open_prover(directory: Path, now_ms: Callable[[], int]) -> Prover | None:
    """By the checkpoint of `wallet.toml`, or that of the user in the same directory if he is of the same chain; None without one.

    Errors: `E-HOME`, `E-CONFIG`, `E-CHECKPOINT-OLD`, `E-FILE`."""
    own = wallet.load_config(directory)
    if bool(own.checkpoint) != bool(own.nodes):
        raise fault("E-CONFIG", f"{directory / wallet.CONFIG_FILE}: checkpoint and nodes are needed together")
    config = HomeConfig(chain=own.chain, checkpoint=own.checkpoint, nodes=own.nodes)
    if not own.checkpoint:
        if not (directory / CONFIG_FILE).exists():
            return None
        config = load_config(directory)
        if not config.checkpoint or config.chain != own.chain:
            return None
    try:
        _ = config.pinned, config.asked
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{directory / wallet.CONFIG_FILE}: {error.detail}") from None
    return open_chain(directory, config, now_ms)


def proven_terms(client: ChainClient, prover: Prover, account: bytes) -> tuple[Terms, Account]:
    """What the account's next transaction has to say, and what it has, proven. What waits in the node, or was executed since, is counted
    as the node says: it can make one sign what is not taken, and no other amount.

    Errors: those of `ChainClient.get` and of the prover."""
    held, status, said = prover.account(account), client.status(), client.account(account)
    height = max(status.height, prover.height)
    return Terms(max(held.nonce, said.next_nonce), height, held.nonce > 0, prover.parameters()), held
