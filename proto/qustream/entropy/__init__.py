"""Units, batches and attestations, pure (`proto/spec/entropy-feed.md`, "Units, attestations")."""

from qustream.entropy.attestation import CLOCK_SKEW_MAX_MS, check_attestation
from qustream.entropy.batch import build_batch, check_leaf, leaf_data, leaf_data_of_hash, leaf_hash

__all__ = [
    "CLOCK_SKEW_MAX_MS",
    "build_batch",
    "check_attestation",
    "check_leaf",
    "leaf_data",
    "leaf_data_of_hash",
    "leaf_hash",
]
