"""The maker of emulated devices with keys: an authority and one device, both from one seed in a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qustream.errors import fault
from qustream.identity import files
from qustream.identity.p256 import P256Key

__all__ = ["Maker"]

SEED_BYTES = 32  # 256 bits, as strong as anything P-256 can make of it


class Maker:
    """`authority` certifies, `device` signs what is read; `stranger` is an authority nobody has configured."""

    def __init__(self, seed: bytes) -> None:
        self.authority = P256Key(seed, "emulated-authority")
        self.device = P256Key(seed, "emulated-device")
        self.stranger = P256Key(seed, "emulated-stranger")

    @classmethod
    def unknown(cls) -> Maker:
        """One nobody has heard of before."""
        return cls(os.urandom(SEED_BYTES))

    @classmethod
    def load(cls, path: Path) -> Maker:
        """From the file at `path`, which is made if it is not there. Raises E-FILE, E-KEYSTORE-MODE, E-CONFIG.

        The seed is a secret only as far as a test network takes the authority's word; it is not sealed.
        """
        if not path.exists():
            files.create(path, os.urandom(SEED_BYTES).hex().encode() + b"\n")
        text = files.read(path, 2 * SEED_BYTES + 1, private=True).decode("latin-1").strip()
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            raise fault("E-CONFIG", f"{path}: no seed of an emulated authority, which is 64 hexadecimal digits")
        return cls(bytes.fromhex(text))
