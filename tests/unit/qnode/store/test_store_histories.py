"""Random histories on a real store, with restarts and crashes in between, against what was told to the askers."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qnode.core.delivery import REPLAY_MS, Acknowledged, Ask, GiveErasure, HandOut, KeyRequested, Persist, Revoked, step
from qnode.store import Store, index_key
from qnode.store.slots import EMPTY
from qustream.errors import QuStreamError
from qustream.model.base import Signed

ALICE, BOB, PHONE, GRANT = (letter * 32 for letter in (b"a", b"b", b"p", b"g"))
NOW, HOUR = 1_800_000_000_000, 3_600_000
INDICES = st.integers(0, 5)


class Histories(RuleBasedStateMachine):
    """Six indices, two requests for each, room for four blocks."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = NOW
        self.told = {}  # index -> (digest, answer)
        self.statements = {}  # index -> erasure
        self.gone = set()
        self.open()

    def open(self):
        self.store = Store.open(self.folder / "data", bytes(32), room_blocks=4, marks_max=100)

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(index=INDICES, letter=st.sampled_from("AB"))
    def request(self, index, letter):
        ask = Ask(letter.encode() * 32, ALICE, PHONE, (BOB,), HOUR, NOW + 10**9)
        at = index_key(GRANT, index)
        answer = os.urandom(40)
        effects = step(self.store.mark(at), KeyRequested(ask), self.now)
        if effects != [HandOut()]:
            sealed = self.store.seal_answer(at, answer)
            effects = self.store.store_answer(at, ask, sealed, issued_ms=self.now, now_ms=self.now).result()
        if HandOut() not in effects:
            return
        if not isinstance(effects[0], Persist):
            answer = self.store.answer(at)
        assert index not in self.gone
        assert self.told.setdefault(index, (ask.digest, answer)) == (ask.digest, answer)

    @rule(index=INDICES)
    def acknowledge_both(self, index):
        at = index_key(GRANT, index)
        for event in (Acknowledged(ALICE, PHONE, False), Acknowledged(BOB, PHONE, True)):
            self.store.step(at, event, self.now).result()
        if index in self.told:
            self.gone.add(index)

    @rule(index=INDICES)
    def revoke(self, index):
        at = index_key(GRANT, index)
        mark = self.store.mark(at)
        erased_ms = self.now if mark is None or mark.erased_ms is None else mark.erased_ms
        for effect in self.store.step(at, Revoked(ALICE, Signed(os.urandom(8), bytes(3373)), erased_ms), self.now).result():
            if isinstance(effect, GiveErasure):
                self.gone.add(index)
                assert self.statements.setdefault(index, effect.erasure) == effect.erasure

    @rule(ms=st.sampled_from([1000, REPLAY_MS, HOUR]))
    def wait_and_sweep(self, ms):
        self.now += ms
        self.store.sweep(self.now).result()

    @rule()
    def restart(self):
        self.store.close()
        self.open()

    @rule()
    def crash(self):
        """What a power cut would leave: the files as they are now, without anybody closing them."""
        copy = self.folder / "copy"
        shutil.copytree(self.folder / "data", copy)
        self.store.close()
        shutil.rmtree(self.folder / "data")
        copy.rename(self.folder / "data")
        self.open()

    @invariant()
    def what_was_told_holds(self):
        for index, (digest, answer) in self.told.items():
            mark = self.store.mark(index_key(GRANT, index))
            assert mark is not None
            assert mark.digest == digest
            try:
                assert self.store.answer(index_key(GRANT, index)) == answer
                assert index not in self.gone
            except QuStreamError as error:
                assert error.code == "E-NOT-HELD"  # noqa: PT017
                assert mark.erased_ms is not None

    @invariant()
    def slots_belong_to_one_held_block_each(self):
        marks = [self.store.mark(index_key(GRANT, index)) for index in range(6)]
        held = [mark.slot for mark in marks if mark is not None and mark.erased_ms is None]
        assert len(held) == len(set(held)) == self.store.held_blocks <= 4
        assert self.store._slots.used() == set(held)
        assert all(self.store._slots.read(slot) != EMPTY for slot in held)


Histories.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestHistories = Histories.TestCase
