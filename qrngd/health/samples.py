"""How raw bytes are cut into samples, rows and windows (`proto/spec/entropy-feed.md`, "Health").

A *row* is one adaptive proportion window of the standard; a *window* is 128 rows and is what a verdict covers: it is
conditioned and credited as a whole or thrown away as a whole. Samples of one bit are packed, most significant bit first;
samples of 2 to 8 bits stand one a byte, of 9 to 16 bits in two bytes, little endian, in the low bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qrngd.health.cutoffs import apt_window_samples
from qustream.errors import fault

__all__ = ["ROWS", "Bytes", "Layout", "Samples"]

# Rows in a window; also the number of lags the predictor tries, one a row (SP 800-90B §6.3.8 tries 128 too). A window is then
# 64 KiB for byte samples: short enough that a slow device shows a verdict every few seconds, long enough to amortise calls.
ROWS = 128

Bytes: TypeAlias = NDArray[np.uint8]
Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes that follow from the sample width (1 to 16 bits)."""

    sample_bits: int

    @property
    def stored_bits(self) -> int:
        """Raw bits that one sample takes up."""
        return 1 if self.sample_bits == 1 else 8 if self.sample_bits <= 8 else 16

    @property
    def row_samples(self) -> int:
        return apt_window_samples(self.sample_bits)

    @property
    def window_samples(self) -> int:
        return ROWS * self.row_samples

    @property
    def window_bytes(self) -> int:
        return self.window_samples * self.stored_bits // 8

    def samples(self, raw: Bytes) -> Samples:
        """One array item a sample; a view where the width allows it. `raw`: whole samples, aligned to the sample's bytes.

        Raises E-DEV-READ when a sample has bits above its width: the device sends something else than was configured.
        """
        if self.sample_bits == 1:
            return np.unpackbits(raw)
        samples: Samples = raw if self.stored_bits == 8 else raw.view("<u2")
        if self.sample_bits not in (8, 16) and samples.size and int(samples.max()) >> self.sample_bits:
            raise fault("E-DEV-READ", f"a sample of more than {self.sample_bits} bits; is sample_bits right for this device?")
        return samples
