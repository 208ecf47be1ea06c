"""What a node has of the chain: an LMDB environment of its own (`proto/spec/state.md` §3)."""

from qnode.store.chain.blocks import Head, KeptBlock
from qnode.store.chain.given import GivenState
from qnode.store.chain.store import ChainStore
from qnode.store.chain.view import StateView

__all__ = ["ChainStore", "GivenState", "Head", "KeptBlock", "StateView"]
