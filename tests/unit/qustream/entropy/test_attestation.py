"""Everything an attestation must say besides bearing a good signature."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from qustream.entropy import CLOCK_SKEW_MAX_MS, check_attestation
from qustream.errors import QuStreamError
from qustream.model.entropy import Attestation, Conditioning, DeviceDescriptor, HealthReport
from qustream.model.keys import PublicKey
from qustream.model.network import QrngServerRecord

SERVER = QrngServerRecord(PublicKey(b"\x01" * 32, bytes(1952)), "first light", False, True)
DEVICE = DeviceDescriptor("chardev", "model", "serial", 8, 6000, 1_000_000, False, False, "")
HEALTH = HealthReport(1 << 20, 100, 1, 11, 40, 512, (40, 60))
CONDITIONING = Conditioning("aes-256-cbc-mac", 32, 16, 750)
GOOD = Attestation("chain", SERVER.key.id, 7, DEVICE, HEALTH, CONDITIONING, 1_000_000, 1_002_000, 1_600_000, b"r" * 32, 256)
AT_MS = 1_002_500


def code_of(attestation: Attestation, *, chain: str = "chain", server: QrngServerRecord | None = SERVER, at_ms: int = AT_MS) -> str:
    with pytest.raises(QuStreamError) as caught:
        check_attestation(attestation, chain=chain, server=server, at_ms=at_ms)
    assert caught.value.detail
    return caught.value.code


def test_a_good_one_passes_from_its_end_to_its_expiry():
    for at_ms in (GOOD.end_ms - CLOCK_SKEW_MAX_MS, GOOD.end_ms, AT_MS, GOOD.expires_ms - 1):
        check_attestation(GOOD, chain="chain", server=SERVER, at_ms=at_ms)


def test_network_and_server():
    assert code_of(GOOD, chain="other") == "E-ATTESTATION"
    assert code_of(GOOD, server=None) == "E-ATTESTATION"
    assert code_of(GOOD, server=replace(SERVER, active=False)) == "E-ATTESTATION"
    assert code_of(replace(GOOD, server=bytes(32))) == "E-ATTESTATION"


def test_emulators_serve_only_where_they_are_registered():
    emulated = replace(GOOD, device=replace(DEVICE, emulated=True))
    assert code_of(emulated) == "E-ATTESTATION-DEVICE"
    check_attestation(emulated, chain="chain", server=replace(SERVER, emulated=True), at_ms=AT_MS)
    check_attestation(GOOD, chain="chain", server=replace(SERVER, emulated=True), at_ms=AT_MS)


def test_time():
    assert code_of(GOOD, at_ms=GOOD.expires_ms) == "E-ATTESTATION-STALE"
    assert code_of(GOOD, at_ms=1 << 62) == "E-ATTESTATION-STALE"
    assert code_of(GOOD, at_ms=GOOD.end_ms - CLOCK_SKEW_MAX_MS - 1) == "E-ATTESTATION"
    assert code_of(replace(GOOD, start_ms=GOOD.end_ms + 1)) == "E-ATTESTATION"
    assert code_of(replace(GOOD, expires_ms=GOOD.end_ms)) == "E-ATTESTATION"


@pytest.mark.parametrize(
    "changes",
    [
        {"health": replace(HEALTH, samples=0)},
        {"health": replace(HEALTH, windows=0, windows_failed=0)},
        {"health": replace(HEALTH, windows_failed=100)},
        {"health": replace(HEALTH, rct_cutoff=1)},
        {"health": replace(HEALTH, apt_cutoff=1)},
        {"health": replace(HEALTH, apt_cutoff=514)},
        {"health": replace(HEALTH, apt_window=0)},
        {"conditioning": replace(CONDITIONING, min_entropy_millibits_per_bit=751)},
        {"conditioning": replace(CONDITIONING, raw_bytes=31)},
        {"conditioning": replace(CONDITIONING, out_bytes=17)},
        {"conditioning": replace(CONDITIONING, out_bytes=0)},
        {"conditioning": replace(CONDITIONING, raw_bytes=0)},
        {"conditioning": replace(CONDITIONING, min_entropy_millibits_per_bit=748)},
    ],
)
def test_figures_that_no_healthy_run_produces(changes):
    assert code_of(replace(GOOD, **changes)) == "E-ATTESTATION"


@given(st.integers(200, 8000))
def test_every_honest_conditioning_passes(sample_millibits):
    """Blocks a lane are ceil(192 / (128 h)) for the exact h; the attested figure is rounded down."""
    blocks = -(-192 * 1000 * 8 // (128 * sample_millibits))
    honest = replace(
        GOOD,
        device=replace(DEVICE, min_entropy_millibits=sample_millibits),
        conditioning=Conditioning("aes-256-cbc-mac", 16 * blocks, 16, sample_millibits // 8),
    )
    check_attestation(honest, chain="chain", server=SERVER, at_ms=AT_MS)
    half = replace(honest, conditioning=replace(honest.conditioning, raw_bytes=8 * blocks))
    assert code_of(half) == "E-ATTESTATION"


def test_a_cutoff_no_window_can_reach_is_honest():
    """For a very poor source the proportion cutoff is the window and one; the repetition test still holds it."""
    check_attestation(replace(GOOD, health=replace(HEALTH, apt_cutoff=513)), chain="chain", server=SERVER, at_ms=AT_MS)
