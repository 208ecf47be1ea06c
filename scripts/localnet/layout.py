"""Where everything of a local test network lies, and at which addresses it listens."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

QRNGD_HOST = "127.100.0.1"
SHARED_MEMORY = Path("/dev/shm")


@dataclass
class Layout:
    """One local network: `directory` holds keys, data and logs; `credentials` lies on tmpfs where there is one."""

    directory: Path
    credentials: Path
    chain: str = "qustream-local"
    base_port: int = 7300
    foundation: int = 3
    community: int = 3
    device: str = "emulator"
    units_per_second: float = 0.0
    by_file: bool = False
    """A signed network file says who belongs to the network; else a chain does."""
    network_key: str = ""
    checkpoint: str = ""
    validators: int = 4
    spare_licences: int = 2
    epoch_ms: int = 600_000
    rotation_ms: int = 60_000
    funded: list[str] = field(default_factory=list)
    """Accounts, in hexadecimal, that have some money from the beginning."""
    nodes: dict[str, str] = field(default_factory=dict)
    """Node name (node1 …) to its text id."""
    qrngd_id: str = ""

    @classmethod
    def fresh(cls, directory: Path) -> Layout:
        """A layout for a new network. Passphrases go to memory-backed files: they never touch the disk."""
        root = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else directory
        return cls(directory=directory, credentials=root / f"qustream-{secrets.token_hex(6)}")

    @classmethod
    def load(cls, directory: Path) -> Layout:
        raw = json.loads((directory / "layout.json").read_text())
        raw["directory"], raw["credentials"] = directory, Path(raw["credentials"])
        return cls(**raw)

    def save(self) -> None:
        raw = asdict(self) | {"directory": None, "credentials": str(self.credentials)}
        (self.directory / "layout.json").write_text(json.dumps(raw, indent=1))

    @property
    def network_file(self) -> Path:
        return self.directory / "network.toml"

    @property
    def genesis(self) -> Path:
        return self.directory / "genesis.bin"

    @property
    def bank(self) -> Path:
        """The wallet that pays for users."""
        return self.directory / "bank"

    @property
    def is_made(self) -> bool:
        return (self.directory / "layout.json").exists()

    @property
    def authority(self) -> Path:
        return self.directory / "authority.keystore"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def node_names(self) -> list[str]:
        return [f"node{i}" for i in range(1, self.foundation + self.community + 1)]

    @property
    def validator_names(self) -> list[str]:
        return [] if self.by_file else self.node_names[: self.validators]

    @property
    def daemon_names(self) -> list[str]:
        return ["qrngd", *self.node_names]

    def is_foundation(self, name: str) -> bool:
        return int(name.removeprefix("node")) <= self.foundation

    def host(self, name: str) -> str:
        return QRNGD_HOST if name == "qrngd" else f"127.{name.removeprefix('node')}.0.1"

    def listen(self, name: str) -> str:
        return f"{self.host(name)}:{self.base_port}"

    def status_listen(self, name: str) -> str:
        return f"{self.host(name)}:{self.base_port + 80}"

    def api(self, name: str = "node1") -> str:
        """Where a node's pages are."""
        return f"http://{self.status_listen(name)}"

    def home(self, name: str) -> Path:
        return self.directory / name

    def config(self, name: str) -> Path:
        return self.home(name) / ("qrngd.toml" if name == "qrngd" else "qnode.toml")

    def patience_seconds(self, *, units: int) -> float:
        """How much longer than with the emulator `units` units may take; three times the measured rate's own estimate."""
        return 3.0 * units / self.units_per_second if self.units_per_second else 0.0

    def new_credential(self, name: str) -> Path:
        """Make the credential directory of a daemon or user, as systemd's $CREDENTIALS_DIRECTORY would be, and return it."""
        folder = self.credentials / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        credential = "qrngd" if name == "qrngd" else "qnode" if name.startswith("node") else "qustream"
        path = folder / credential
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32))
        return folder
