"""From shares to the key of the content, on both sides (`proto/spec/envelope.md`, "Content key", "Pad")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from qustream.envelope.header import PAD_SPARE_BYTES
from qustream.envelope.keys import CHACHA20_KEY_BYTES, block_key, chacha20, hkdf, pad_share, wipe
from qustream.identity.signing import purpose_text
from qustream.sharing import add

__all__ = ["ClassSecrets", "ContentKey", "derive", "share_of"]

STREAM_KEY_BYTES = 32  # what secretstream takes
COMMITMENT_BYTES = 32  # two keys with one commitment cost 2^128 to find


@dataclass(slots=True, repr=False)
class ContentKey:
    """What opens the content of one envelope: 32 bytes, or in pad mode the whole pad. Its repr shows none of it.

    `header_hash`: of the one envelope it belongs to; `inconsistent`: nodes whose blocks did not agree with the others.
    """

    secret: bytearray
    header_hash: bytes
    inconsistent: tuple[bytes, ...] = ()

    def wipe(self) -> None:
        """Overwrite the secret; the key is useless afterwards."""
        wipe(self.secret)
        self.secret.clear()

    def check(self, header_hash: bytes) -> None:
        """`ValueError` if this key was wiped or belongs to another envelope: a mistake of the calling program."""
        if not self.secret or self.header_hash != header_hash:
            raise ValueError("this content key is wiped or belongs to another envelope")

    def __repr__(self) -> str:
        return f"<ContentKey of {self.header_hash.hex()[:12]}>"

    def __reduce__(self) -> str:
        raise TypeError("content keys are not pickled")


@dataclass(frozen=True, slots=True, repr=False)
class ClassSecrets:
    """The three secrets a content key is made of: the sender's 32 bytes and f(0) of either class."""

    client: bytearray
    foundation: bytes
    community: bytes


def share_of(material: bytes | bytearray, salt: bytes, *, node: bytes, grant: bytes, index: int, pad_bytes: int | None) -> bytearray:
    """A block's share of its class secret: the block key, or in pad mode (content of `pad_bytes` bytes) a share of pad."""
    if pad_bytes is None:
        return bytearray(block_key(material, salt, node=node, grant=grant, index=index))
    size_bytes = PAD_SPARE_BYTES + pad_bytes
    return pad_share(material, salt, node=node, grant=grant, index=index, size_bytes=size_bytes)


def derive(secrets: ClassSecrets, core_hash: bytes, *, pad_bytes: int | None) -> tuple[bytearray, bytes]:
    """Return the secret of the `ContentKey` and the 32-byte commitment to it."""
    return _derive_stream(secrets, core_hash) if pad_bytes is None else _derive_pad(secrets, core_hash)


def _derive_stream(secrets: ClassSecrets, core_hash: bytes) -> tuple[bytearray, bytes]:
    """HKDF-SHA-512(client ‖ foundation ‖ community, salt = H(core), info = `qustream/1/envelope-key`): key ‖ commitment."""
    joined = bytearray(secrets.client) + secrets.foundation + secrets.community
    length = STREAM_KEY_BYTES + COMMITMENT_BYTES
    out = bytearray(hkdf(joined, salt=core_hash, info=purpose_text("envelope-key"), length=length))
    wipe(joined)
    key, commitment = out[:STREAM_KEY_BYTES], bytes(out[STREAM_KEY_BYTES:])
    wipe(out)
    return key, commitment


def _derive_pad(secrets: ClassSecrets, core_hash: bytes) -> tuple[bytearray, bytes]:
    """f_F(0) ⊕ f_C(0) ⊕ stream(client secret), and SHA-256(`qustream/1/pad-commitment` ‖ H(core) ‖ all of it)."""
    key = hkdf(secrets.client, salt=core_hash, info=purpose_text("pad-client"), length=CHACHA20_KEY_BYTES)
    pad = chacha20(key, add(secrets.foundation, secrets.community))
    commitment = hashlib.sha256(purpose_text("pad-commitment") + core_hash)
    commitment.update(pad)
    return pad, commitment.digest()
