"""What a node remembers: marks, sealed answers, alerts, on LMDB; seal keys in a slot file (`proto/spec/delivery.md` §5)."""

from qnode.store.store import Store
from qnode.store.vault import SealedAnswer, index_key

__all__ = ["SealedAnswer", "Store", "index_key"]
