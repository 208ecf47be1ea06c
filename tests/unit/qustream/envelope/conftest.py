"""Alice sends, Bob and Carol receive, six nodes have given blocks; no network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any

import pytest

from qustream.envelope import HeldBlock, encrypt_stream, make_header, seal_pad
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.keys import DeviceCertificate
from qustream.model.network import NodeClass

CREATED_MS = 1_800_000_000_000
EXPIRES_MS = CREATED_MS + 86_400_000


@cache
def drawn(label: str, size: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)


@dataclass
class Party:
    """A user with one device."""

    name: str
    issued_ms: int = CREATED_MS - 1000
    expires_ms: int = CREATED_MS + 90 * 86_400_000
    master: SigningKey = field(init=False)
    device: SigningKey = field(init=False)
    hpke: HpkeKey = field(init=False)

    def __post_init__(self) -> None:
        self.master = SigningKey(drawn(f"{self.name} master", 32))
        self.device = SigningKey(drawn(f"{self.name} device", 32))
        self.hpke = HpkeKey(drawn(f"{self.name} hpke", 32))

    @property
    def user(self) -> bytes:
        return self.master.id

    def certify(self, device: SigningKey, user: bytes | None = None) -> Signed:
        noun = DeviceCertificate(user or self.user, device.public, 0, f"{self.name}'s", self.issued_ms, self.expires_ms)
        return self.master.sign_noun("device-certificate", noun)

    @property
    def sender(self) -> tuple[bytes, SigningKey, Signed]:
        return self.user, self.device, self.certify(self.device)

    @property
    def named(self) -> tuple[bytes, bytes]:
        return self.user, self.hpke.public


class World:
    """Makes blocks and envelopes; `nodes` are three foundation and three community node ids."""

    def __init__(self) -> None:
        self.alice, self.bob, self.carol, self.mallory = (Party(name) for name in ("alice", "bob", "carol", "mallory"))
        self.nodes = [drawn(f"node {n}", 32) for n in range(6)]

    def material(self, n: int, tag: str = "") -> bytes:
        return drawn(f"material {n} {tag}", 262_270)

    def salt(self, n: int, tag: str = "") -> bytes:
        return drawn(f"salt {n} {tag}", 32)

    def blocks(self, tag: str = "", **changes: Any) -> list[HeldBlock]:
        return [
            HeldBlock(
                **{
                    "node": node,
                    "node_class": NodeClass.FOUNDATION if n < 3 else NodeClass.COMMUNITY,
                    "material": bytearray(self.material(n, tag)),
                    "salt": self.salt(n, tag),
                    "block_hash": drawn(f"block hash {n} {tag}", 32),
                    "seed": drawn(f"seed {n} {tag}", 126),
                    "grant": drawn(f"grant {tag}", 32),
                    "index": 7,
                    **changes,
                }
            )
            for n, node in enumerate(self.nodes)
        ]

    def opened(self, *which: int, tag: str = "") -> dict[bytes, tuple[bytes, bytes]]:
        """What a recipient has after collecting and opening the blocks of these nodes (all six when none is named)."""
        return {self.nodes[n]: (self.material(n, tag), self.salt(n, tag)) for n in which or range(6)}

    def order(self, **changes: Any) -> dict[str, Any]:
        return {
            "sender": self.alice.sender,
            "recipients": [self.bob.named, self.carol.named],
            "chain": "test",
            "created_ms": CREATED_MS,
            "expires_ms": EXPIRES_MS,
            **changes,
        }

    def envelope(self, plaintext: bytes, *, tag: str = "", **changes: Any) -> bytes:
        order, sink = self.order(**changes), BytesIO()
        header, key = make_header(self.blocks(tag), **order)
        assert encrypt_stream(BytesIO(plaintext), sink, header, key, order["sender"][1]) == len(plaintext)
        return sink.getvalue()

    def pad(self, plaintext: bytes, *, tag: str = "", **changes: Any) -> bytes:
        return seal_pad(self.blocks(tag), plaintext, **self.order(**changes))


@pytest.fixture(scope="session")
def world() -> World:
    return World()
