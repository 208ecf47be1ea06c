"""The user's `config.toml` and opening a user directory with it (`proto/spec/client.md`, "Home")."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from msgspec import Meta

from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.identity import files, keystore
from qustream.identity.user import UserHome
from qustream.light.nodes import AskedNode, ChannelNodes, node_from_text
from qustream.model.ids import IdKind, from_text, to_text
from qustream.registry import NetworkFileRegistry
from qustream.wire.codec import decode, encode

if TYPE_CHECKING:
    from qustream.light.registry import LightRegistry

__all__ = [
    "CONFIG_FILE",
    "CREDENTIAL",
    "HEIGHT_FILE",
    "KNOWN_FILE",
    "HomeConfig",
    "Network",
    "close_network",
    "find_home_passphrase",
    "load_config",
    "now_ms",
    "open_chain",
    "open_home",
    "open_network",
    "reached_chain",
    "write_chain_config",
    "write_config",
]

# Whoever answers for the network; `refresh` has it look again.
Network: TypeAlias = "NetworkFileRegistry | LightRegistry"
CONFIG_FILE = "config.toml"
# The newest version of the network file this device has seen: an older one, with its revocations undone, is refused in a later run too.
HEIGHT_FILE = "network.height"
HEIGHT_MAX_BYTES = 32  # a number of 63 bits
# The newest set of validators this device has verified: it goes on from there, and needs no new checkpoint for as long as it is used.
KNOWN_FILE = "chain.known"
KNOWN_MAX_BYTES = 512  # four numbers, two hashes, a name
CREDENTIAL = "qustream"
TEMPLATE = """\
# A QuStream user on this device. Paths are relative to this file.
network_file = {network_file}    # who belongs to the network, signed
network_key = {network_key}      # the key that signs it (qnet1...)
"""
CHAIN_TEMPLATE = """\
# A QuStream user on this device. Paths are relative to this file.
chain = {chain}
checkpoint = {checkpoint}    # what the network is known by (qcp1...)
nodes = {nodes}              # who is asked about the chain; none of them needs to be trusted
"""


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


class HomeConfig(settings.Section, frozen=True):
    """The whole file: a network file, or a chain."""

    network_file: Path | None = None
    network_key: Annotated[str, Meta(max_length=128)] = ""
    chain: Annotated[str, Meta(max_length=64)] = ""
    checkpoint: Annotated[str, Meta(max_length=128)] = ""
    nodes: Annotated[tuple[Annotated[str, Meta(max_length=320)], ...], Meta(max_length=64)] = ()
    passphrase_file: Path | None = None

    @property
    def pinned(self) -> bytes:
        """The checkpoint's 32 bytes."""
        return from_text(self.checkpoint, IdKind.CHECKPOINT)

    @property
    def asked(self) -> tuple[AskedNode, ...]:
        """The nodes that are asked."""
        return tuple(map(node_from_text, self.nodes))


def write_config(directory: Path, network_file: Path, network_key: str) -> None:
    """Write a new user's configuration. Errors: `E-FILE`, `E-DISK-FULL`; `E-CONFIG` for a path that is not UTF-8, as TOML is."""
    text = TEMPLATE.format(network_file=_quoted(str(network_file)), network_key=_quoted(network_key))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise fault("E-CONFIG", f"the path {str(network_file)!a} is not UTF-8; give the network file another name or place") from None
    files.replace(directory / CONFIG_FILE, data, mode=0o644)


def write_chain_config(directory: Path, chain: str, checkpoint: bytes, nodes: Sequence[str]) -> None:
    """Write a new user's configuration on a network with a chain. Errors: `E-FILE`, `E-DISK-FULL`."""
    shown = "[" + ", ".join(map(_quoted, nodes)) + "]"
    text = CHAIN_TEMPLATE.format(chain=_quoted(chain), checkpoint=_quoted(to_text(IdKind.CHECKPOINT, checkpoint)), nodes=shown)
    files.replace(directory / CONFIG_FILE, text.encode(), mode=0o644)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's is one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def find_home_passphrase(directory: Path, file: Path | None) -> bytes:
    """The passphrase of a user directory's keystore: the credential `qustream`, `file`, the configuration's `passphrase_file`, or the
    terminal. Errors: those of `keystore.find_passphrase`, `E-CONFIG`."""
    file = file or load_config(directory).passphrase_file
    return keystore.find_passphrase(CREDENTIAL, file=file, prompt=sys.stdin.isatty())


def load_config(directory: Path) -> HomeConfig:
    """The configuration of a user directory. Errors: `E-HOME` if there is none, `E-CONFIG`, `E-FILE`."""
    path = directory / CONFIG_FILE
    if not path.exists():
        raise fault("E-HOME", f"there is no QuStream user in {directory}")
    config = settings.load(path, HomeConfig)
    by_file, by_chain = bool(config.network_file and config.network_key), bool(config.chain and config.checkpoint and config.nodes)
    if by_file == by_chain:
        raise fault("E-CONFIG", f"{path}: either network_file and network_key, or chain, checkpoint and nodes, are needed")
    if by_chain:
        try:
            _ = config.pinned, config.asked
        except QuStreamError as error:
            raise fault("E-CONFIG", f"{path}: {error.detail}") from None
    return config


def open_home(directory: Path, passphrase: bytes | None, now_ms: Callable[[], int]) -> tuple[UserHome, Network]:
    """The user and the registry of a directory that `qustream init` made (`~` is home). Errors: those of `Client.from_home`."""
    directory = directory.expanduser()
    load_config(directory)  # a directory without a user is said to be that, before anything is asked
    home = UserHome.load(directory, find_home_passphrase(directory, None) if passphrase is None else passphrase)
    return home, open_network(directory, now_ms)


def open_network(directory: Path, now_ms: Callable[[], int]) -> Network:
    """The network of a user directory, no older than one seen there before. `now_ms`: Unix time.

    Errors: `E-HOME`, `E-CONFIG`, `E-REGISTRY-…`, `E-CHAIN-STALE`, `E-CHECKPOINT-OLD`, `E-FILE`."""
    config = load_config(directory)
    if config.network_file is None:
        return open_chain(directory, config, now_ms)
    seen = _height(directory / HEIGHT_FILE)
    registry = NetworkFileRegistry(config.network_file, config.network_key, height_min=seen)
    registry.load(now_ms())
    if registry.height > seen:
        files.replace(directory / HEIGHT_FILE, f"{registry.height}\n".encode())
    return registry


def close_network(network: Network) -> None:
    """End the connections that a chain by proofs keeps; a file keeps none. Harmless when repeated."""
    if not isinstance(network, NetworkFileRegistry):
        network.close()


def reached_chain(chain: str, pinned: bytes, nodes: Sequence[str]) -> None:
    """That the chain can be followed from this checkpoint by asking these nodes: before anything is made. Errors: as `open_network`."""
    with _light(chain, pinned, tuple(map(node_from_text, nodes)), _unix_ms) as registry:
        registry.epoch(_unix_ms())


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def open_chain(directory: Path, config: HomeConfig, now_ms: Callable[[], int]) -> LightRegistry:
    """A chain by proofs; what is learnt of it is remembered in `directory`. Errors: `E-CHECKPOINT-OLD`, `E-FILE`."""
    # Most users have a network file: they are not to wait for what they do not use.
    from qustream.light.trust import Known

    path = directory / KNOWN_FILE
    known: Known | None = None
    if path.exists():
        known = decode(files.read(path, KNOWN_MAX_BYTES, private=False), Known, max_bytes=KNOWN_MAX_BYTES)

    def remember(newest: Known) -> None:
        files.replace(path, encode(newest))

    return _light(config.chain, config.pinned, config.asked, now_ms, known=known, remember=remember)


def _light(chain: str, pinned: bytes, nodes: Sequence[AskedNode], now_ms: Callable[[], int], **memory: Any) -> LightRegistry:
    from qustream.identity.voting import verify_vote
    from qustream.light.registry import LightRegistry

    return LightRegistry(chain, pinned, ChannelNodes(nodes, chain), verify=verify_vote, clock_ms=now_ms, **memory)


def _height(path: Path) -> int:
    if not path.exists():
        return 0
    text = files.read(path, HEIGHT_MAX_BYTES, private=False).strip()
    if not text.isdigit():
        raise fault("E-DATA-CORRUPT", f"{path} does not hold a number")
    return int(text)
