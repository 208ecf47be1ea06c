"""What a chain's parameters are, unless its genesis says otherwise (`proto/spec/ledger.md`, §9)."""

from __future__ import annotations

from qustream.model.amount import UNITS_PER_QST
from qustream.model.state import Parameters

__all__ = ["DEFAULTS"]

_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000

DEFAULTS = Parameters(
    epoch_ms=3 * _DAY_MS, rotation_ms=_HOUR_MS, interval_ms=1_000, idle_ms=5_000, delta_ms=500, validators_max=100,
    body_bytes_max=4 << 20, fee_byte=1_000, fee_gas=1_000_000, stake=200_000 * UNITS_PER_QST, lock_ms=30 * _DAY_MS,
    unbonding_ms=28 * _DAY_MS, evidence_ms=21 * _DAY_MS, top_up_ms=3 * _DAY_MS, removed_ms=30 * _DAY_MS, market_rest_ms=21 * _DAY_MS,
    market_fee_bp=100, delegation_min=10 * UNITS_PER_QST, double_sign_bp=1_000, appeal_ms=14 * _DAY_MS, suspension_ms=_HOUR_MS,
    price_request=UNITS_PER_QST // 100, price_megabyte_day=UNITS_PER_QST // 1_000, roll_over_bp=5_000, lifetime_max_ms=7 * _DAY_MS,
    nodes_bp=6_000, operations_bp=3_000,
)  # fmt: skip
