"""Flows stepped by hand: what they leave behind when they are broken off."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support.village import User

from qustream.client.asking import Gather
from qustream.client.flows import Flows
from qustream.errors import QuStreamError


def flows(user: User) -> Flows:
    return Flows(user.device, user.registry(), user.village.clock_ms)


def test_a_flow_broken_off_while_nodes_are_asked_leaves_no_file(alice: User, bob: User, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_bytes(b"x")
    flow = flows(alice).encrypt(letter, tmp_path / "letter.qs", to=[bob.text], lifetime_ms=None, pad=False, replace=False, progress=None)
    assert isinstance(next(flow), Gather)
    assert len(list(tmp_path.iterdir())) == 2  # the letter, and the envelope in the making
    flow.close()
    assert list(tmp_path.iterdir()) == [letter]


def test_a_file_that_is_there_is_not_replaced_unless_that_is_wanted(alice: User, bob: User, tmp_path: Path) -> None:
    letter, envelope = tmp_path / "letter", tmp_path / "letter.qs"
    letter.write_bytes(b"x")
    envelope.write_bytes(b"precious")
    left = flows(alice).grants()
    for replace, wanted in [(False, None), (True, Gather)]:
        flow = flows(alice).encrypt(letter, envelope, to=[bob.text], lifetime_ms=None, pad=False, replace=replace, progress=None)
        if wanted is None:
            with pytest.raises(QuStreamError, match="there is a file already"):
                next(flow)
            assert flows(alice).grants() == left
        else:
            assert isinstance(next(flow), wanted)
        flow.close()
    assert envelope.read_bytes() == b"precious"


def test_a_pad_too_large_is_found_before_it_is_all_read(alice: User, bob: User) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return bytes(size)

    source = Endless()
    flow = flows(alice).encrypt(source, io.BytesIO(), to=[bob.text], lifetime_ms=None, pad=True, replace=False, progress=None)
    with pytest.raises(QuStreamError) as caught:
        next(flow)
    assert caught.value.code == "E-PAD-SIZE"
    assert source.given == 196_609


def test_what_is_no_envelope_asks_nobody(bob: User, tmp_path: Path) -> None:
    for data in (b"", b"QUSTREAM", b"hello" * 100):
        for flow in (
            flows(bob).open(io.BytesIO(data), tmp_path / "out", replace=False, progress=None),
            flows(bob).verify(io.BytesIO(data), blocks=True),
            flows(bob).revoke(io.BytesIO(data)),
        ):
            with pytest.raises(QuStreamError) as caught:
                next(flow)
            assert caught.value.code in ("E-ENVELOPE-FORMAT", "E-ENVELOPE-TRUNCATED")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_there(bob: User, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(QuStreamError) as caught:
            next(flows(bob).verify(path, blocks=False))
        assert caught.value.code == "E-FILE"
        assert str(path) in caught.value.detail
