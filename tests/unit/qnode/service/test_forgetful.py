"""What stands in for a disk that takes nothing gives back what it was given, as the disk would."""

from __future__ import annotations

from pathlib import Path

import pytest

from qnode.service.forgetful import ForgetfulKeeper
from qnode.service.peers import PeerKeeper
from qnode.store.peers import PeerStore
from qustream.model.base import Signed

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
ONE, TWO = Signed(b"one", bytes(3373)), Signed(b"two", bytes(3373))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_both_keep_alike(tmp_path: Path, kind: str) -> None:
    keeper: PeerKeeper = ForgetfulKeeper() if kind == "memory" else PeerStore.open(tmp_path / "peers")
    assert (list(keeper.records()), tuple(keeper.anchors()), keeper.issued_ms()) == ([], (), 0)
    keeper.keep_records({A: ONE, B: ONE})
    keeper.keep_records({B: TWO, C: ONE})
    keeper.keep_anchors([A, C])
    keeper.keep_anchors([C])
    keeper.keep_issued_ms(5)
    assert dict(keeper.records()) == {A: ONE, B: TWO, C: ONE}
    assert dict(keeper.records_of([B, bytes(32)])) == {B: TWO}
    assert (tuple(keeper.anchors()), keeper.issued_ms()) == ((C,), 5)
    keeper.forget_others({A, B})
    assert dict(keeper.records()) == {A: ONE, B: TWO}
