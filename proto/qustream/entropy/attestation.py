"""What must hold of an attestation besides its signature (`proto/spec/entropy-feed.md`, "Units, attestations").

The signature is checked where it is opened (`qustream.identity.signing.open_signed` with the registered server's key); here is
everything that needs no key: the right network, the right server, its device, its time, and figures that agree with each other.
"""

from __future__ import annotations

from qustream.errors import fault
from qustream.model.entropy import Attestation
from qustream.model.network import QrngServerRecord

__all__ = ["CLOCK_SKEW_MAX_MS", "check_attestation"]

# Clocks of honest machines on NTP differ by less; it equals the age at which a node's view of the network is too old.
CLOCK_SKEW_MAX_MS = 60_000
# SP 800-90C: n bits of full entropy need n + 64 bits of min-entropy going in.
EXTRA_ENTROPY_BITS = 64


def check_attestation(attestation: Attestation, *, chain: str, server: QrngServerRecord | None, at_ms: int) -> None:
    """Check a hostile attestation whose signature holds.

    `server`: what the registry says of `attestation.server`, None if it knows no such server; `at_ms`: the moment at which it
    must be valid (Unix ms): now for a unit in hand, the receipt's `issued_ms` for a block that was delivered earlier.
    Errors: `E-ATTESTATION`, `E-ATTESTATION-STALE`, `E-ATTESTATION-DEVICE`.
    """
    if attestation.chain != chain:
        raise fault("E-ATTESTATION", "made for another network")
    _check_server(attestation, server)
    _check_times(attestation, at_ms)
    _check_figures(attestation)


def _check_server(attestation: Attestation, server: QrngServerRecord | None) -> None:
    if server is None or server.key.id != attestation.server:
        raise fault("E-ATTESTATION", "its QRNG server is not registered")
    if not server.active:
        raise fault("E-ATTESTATION", "its QRNG server is no longer active")
    if attestation.device.emulated and not server.emulated:
        raise fault("E-ATTESTATION-DEVICE", "the device is an emulator, and this server is not registered for one")


def _check_times(attestation: Attestation, at_ms: int) -> None:
    if not attestation.start_ms <= attestation.end_ms < attestation.expires_ms:
        raise fault("E-ATTESTATION", "its times contradict each other")
    if attestation.end_ms > at_ms + CLOCK_SKEW_MAX_MS:
        raise fault("E-ATTESTATION", "it speaks of a time still to come; check the clocks of both sides")
    if at_ms >= attestation.expires_ms:
        raise fault("E-ATTESTATION-STALE", f"expired {at_ms - attestation.expires_ms} ms before it was needed")


def _check_figures(attestation: Attestation) -> None:
    """Figures that no healthy run can produce: nothing measured, nothing passed, more entropy out than went in."""
    health, conditioning, device = attestation.health, attestation.conditioning, attestation.device
    if health.samples == 0 or health.windows_failed >= health.windows:
        raise fault("E-ATTESTATION", "no window of samples passed its health tests")
    # For a very poor source no window reaches the proportion cutoff, W + 1; the repetition test holds it all the same.
    if health.rct_cutoff < 2 or health.apt_window == 0 or not 2 <= health.apt_cutoff <= health.apt_window + 1:
        raise fault("E-ATTESTATION", "its health cutoffs are none that SP 800-90B gives")
    if conditioning.min_entropy_millibits_per_bit * device.sample_bits > device.min_entropy_millibits:
        raise fault("E-ATTESTATION", "it counts on more entropy than its device claims")
    # The assessed figure is rounded down to a millibit, hence + 1 and the strict sign.
    raw_millibits = 8 * conditioning.raw_bytes * (conditioning.min_entropy_millibits_per_bit + 1)
    if conditioning.out_bytes == 0 or raw_millibits <= 1000 * (8 * conditioning.out_bytes + EXTRA_ENTROPY_BITS):
        raise fault("E-ATTESTATION", "more entropy comes out of its conditioning than goes in")
