"""One index: the table of the spec row by row, then random histories against what a user was promised."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qnode.core.delivery import (
    MARK_MARGIN_MS,
    REPLAY_MS,
    Acknowledged,
    AnswerBuilt,
    Ask,
    Build,
    Collected,
    DueReached,
    Erase,
    Forget,
    GiveErasure,
    HandOut,
    KeyRequested,
    Mark,
    Persist,
    Refuse,
    Revoked,
    SignErasure,
    TellAcknowledged,
    ask_of,
    due_ms,
    is_over,
    step,
)
from qustream.model.base import Signed
from qustream.wire.codec import decode, encode
from qustream.wire.keys import Binding, KeyBody

ALICE, BOB, CAROL, MALLORY = (bytes([n]) * 32 for n in range(1, 5))
PHONE, LAPTOP = bytes([11]) * 32, bytes([12]) * 32
NOW = 1_800_000_000_000
HOUR = 3_600_000
GRANT_END = NOW + 100 * HOUR
STATEMENT = Signed(b"erased", bytes(3373))


def ask(digest=b"A" * 32, *, recipients=(BOB, CAROL), lifetime_ms=HOUR, device=PHONE):
    return Ask(digest, ALICE, device, recipients, lifetime_ms, GRANT_END)


def held(**changes) -> Mark:
    effects = step(None, AnswerBuilt(ask(**changes), issued_ms=NOW, slot=7), NOW)
    assert isinstance(effects[0], Persist)
    assert effects[0].fresh
    assert effects[1:] == [HandOut()]
    return effects[0].mark


def after(mark, event, now_ms=NOW) -> Mark:
    stored = [effect.mark for effect in step(mark, event, now_ms) if isinstance(effect, Persist | Erase)]
    assert len(stored) == 1
    return stored[0]


def code_of(effects):
    assert len(effects) == 1
    assert isinstance(effects[0], Refuse), effects
    return effects[0].code


def test_a_free_index_is_built_and_stored_before_it_is_handed_out():
    assert step(None, KeyRequested(ask()), NOW) == [Build()]
    mark = held()
    assert (mark.slot, mark.waiting, mark.replay_until_ms, mark.expires_ms) == (7, (BOB, CAROL), NOW + REPLAY_MS, NOW + HOUR)
    assert decode(encode(mark), Mark, max_bytes=10_000) == mark


def test_the_same_request_gets_the_stored_answer_until_the_replay_is_over():
    mark = held()
    assert step(mark, KeyRequested(ask()), NOW + REPLAY_MS - 1) == [HandOut()]
    assert code_of(step(mark, KeyRequested(ask()), NOW + REPLAY_MS)) == "E-GRANT-SPENT"


def test_another_request_for_a_spent_index_is_refused_whatever_its_state():
    mark = held()
    other = ask(b"B" * 32)
    for state in (mark, after(mark, DueReached(), NOW + HOUR)):
        assert code_of(step(state, KeyRequested(other), NOW)) == "E-GRANT-SPENT"
        assert code_of(step(state, AnswerBuilt(other, issued_ms=NOW, slot=8), NOW)) == "E-GRANT-SPENT"


def test_the_second_of_two_identical_answers_is_dropped_for_the_first():
    assert step(held(), AnswerBuilt(ask(), issued_ms=NOW + 5, slot=8), NOW + 5) == [HandOut()]


def test_no_slot_no_answer():
    assert code_of(step(None, AnswerBuilt(ask(), issued_ms=NOW, slot=None), NOW)) == "E-NODE-FULL"


def test_an_acknowledged_answer_is_not_repeated_but_stays_held_for_the_recipients():
    mark = after(held(), Acknowledged(ALICE, PHONE, collected=False))
    assert code_of(step(mark, KeyRequested(ask()), NOW)) == "E-GRANT-SPENT"
    assert step(mark, Collected(BOB), NOW) == [HandOut()]


def test_a_recipient_collects_until_he_acknowledges():
    mark = held()
    assert step(mark, Collected(BOB), NOW) == [HandOut()]
    mark = after(mark, Acknowledged(BOB, LAPTOP, collected=True))
    assert code_of(step(mark, Collected(BOB), NOW)) == "E-NOT-HELD"
    assert step(mark, Collected(CAROL), NOW) == [HandOut()]


def test_the_block_is_erased_when_the_last_of_all_acknowledges():
    mark = after(held(), Acknowledged(BOB, LAPTOP, collected=True))
    mark = after(mark, Acknowledged(CAROL, LAPTOP, collected=True))
    assert mark.erased_ms is None
    effects = step(mark, Acknowledged(ALICE, PHONE, collected=False), NOW + 1)
    assert isinstance(effects[0], Erase)
    assert effects[1] == TellAcknowledged(erased=True)
    assert (effects[0].mark.erased_ms, effects[0].mark.why) == (NOW + 1, "collected")
    assert step(effects[0].mark, Acknowledged(CAROL, LAPTOP, collected=True), NOW + 2) == [TellAcknowledged(erased=True)]


def test_acknowledging_again_changes_nothing():
    mark = after(held(), Acknowledged(BOB, LAPTOP, collected=True))
    assert step(mark, Acknowledged(BOB, LAPTOP, collected=True), NOW) == [TellAcknowledged(erased=False)]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Collected(MALLORY), "E-NOT-RECIPIENT"),
        (Collected(ALICE), "E-NOT-RECIPIENT"),
        (Acknowledged(MALLORY, LAPTOP, collected=True), "E-NOT-RECIPIENT"),
        (Acknowledged(ALICE, LAPTOP, collected=False), "E-NOT-RECIPIENT"),
        (Revoked(BOB), "E-NOT-RECIPIENT"),
    ],
)
def test_who_has_no_part_in_a_block_is_refused_held_or_erased(event, code):
    mark = held()
    assert code_of(step(mark, event, NOW)) == code
    assert code_of(step(after(mark, DueReached(), NOW + HOUR), event, NOW + HOUR)) == code


@pytest.mark.parametrize("event", [Collected(BOB), Acknowledged(BOB, LAPTOP, collected=True), Revoked(ALICE)])
def test_an_index_nobody_asked_for_is_not_held(event):
    assert code_of(step(None, event, NOW)) == "E-NOT-HELD"


def test_what_has_expired_is_not_handed_out_before_the_sweep_either():
    assert code_of(step(held(), Collected(BOB), NOW + HOUR)) == "E-NOT-HELD"


def test_a_lifetime_shorter_than_the_replay_ends_the_replay():
    mark = held(lifetime_ms=1000)
    assert code_of(step(mark, KeyRequested(ask(lifetime_ms=1000)), NOW + 1000)) == "E-GRANT-SPENT"
    assert after(mark, DueReached(), NOW + 1000).why == "expired"


def test_without_recipients_the_block_is_kept_for_the_replay_alone():
    mark = held(recipients=(), lifetime_ms=0)
    assert due_ms(mark) == NOW + REPLAY_MS
    assert step(mark, DueReached(), NOW + REPLAY_MS - 1) == []
    assert after(mark, DueReached(), NOW + REPLAY_MS).erased_ms == NOW + REPLAY_MS
    assert after(mark, Acknowledged(ALICE, PHONE, collected=False)).erased_ms == NOW


def test_time_erases_then_forgets():
    mark = held()
    assert due_ms(mark) == NOW + HOUR
    assert step(mark, DueReached(), NOW + HOUR - 1) == []
    erased = after(mark, DueReached(), NOW + HOUR)
    assert (erased.why, due_ms(erased)) == ("expired", GRANT_END + MARK_MARGIN_MS)
    assert step(erased, DueReached(), GRANT_END + MARK_MARGIN_MS - 1) == []
    assert step(erased, DueReached(), GRANT_END + MARK_MARGIN_MS) == [Forget()]
    assert step(None, DueReached(), NOW) == []


def test_a_lifetime_beyond_the_grant_keeps_the_mark():
    mark = held(lifetime_ms=200 * HOUR)
    assert mark.keep_until_ms == NOW + 200 * HOUR + MARK_MARGIN_MS


def test_a_block_whose_slot_is_empty_becomes_erased():
    lost = after(held(), DueReached(lost=True))
    assert (lost.erased_ms, lost.why) == (NOW, "lost")
    assert after(lost, Revoked(ALICE, STATEMENT, NOW)).erasure == STATEMENT


def test_revoking_signs_once_and_gives_the_same_statement_for_ever():
    mark = held()
    assert step(mark, Revoked(ALICE), NOW + 3) == [SignErasure(NOW + 3)]
    effects = step(mark, Revoked(ALICE, STATEMENT, NOW + 3), NOW + 4)
    assert isinstance(effects[0], Erase)
    assert effects[1] == GiveErasure(STATEMENT)
    assert (effects[0].mark.erased_ms, effects[0].mark.why) == (NOW + 3, "revoked")
    other = Signed(b"another", bytes(3373))
    for again in (Revoked(ALICE), Revoked(ALICE, other, NOW + 9)):
        assert step(effects[0].mark, again, NOW + 9) == [GiveErasure(STATEMENT)]


def test_revoking_what_is_gone_states_when_it_went():
    expired = after(held(), DueReached(), NOW + HOUR)
    assert step(expired, Revoked(ALICE), NOW + 2 * HOUR) == [SignErasure(NOW + HOUR)]
    assert step(expired, Revoked(ALICE, STATEMENT, NOW + 2 * HOUR), NOW + 2 * HOUR) == [SignErasure(NOW + HOUR)]
    effects = step(expired, Revoked(ALICE, STATEMENT, NOW + HOUR), NOW + 2 * HOUR)
    assert isinstance(effects[0], Persist)
    assert effects[1] == GiveErasure(STATEMENT)
    assert (effects[0].mark.erased_ms, effects[0].mark.why) == (NOW + HOUR, "expired")


def body(**changes):
    binding = Binding("net", bytes(32), 4, NOW, bytes(32), ALICE, Signed(b"certificate", bytes(3373)))
    binding = Binding(*[changes.pop(name, getattr(binding, name)) for name in binding.__struct_fields__])
    plain = KeyBody(binding, bytes(32), 5, bytes(32), (bytes(32),), (BOB,), HOUR, bytes(32))
    return KeyBody(*[changes.pop(name, getattr(plain, name)) for name in plain.__struct_fields__])


@pytest.mark.parametrize(
    "changes", [{"expires_ms": 9}, {"exporter": b"x" * 32}, {"epoch": 5}, {"certificate": Signed(b"renewed", bytes(3373))}]
)
def test_when_and_how_it_is_asked_is_not_part_of_the_request(changes):
    assert ask_of(body(**changes), PHONE, GRANT_END).digest == ask_of(body(), PHONE, GRANT_END).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": "other"},
        {"node": b"n" * 32},
        {"user": BOB},
        {"grant": b"g" * 32},
        {"index": 6},
        {"ruid": b"r" * 32},
        {"path": ()},
        {"recipients": (CAROL,)},
        {"lifetime_ms": 1},
        {"seed_hash": b"s" * 32},
    ],
)
def test_what_is_asked_is(changes):
    assert ask_of(body(**changes), PHONE, GRANT_END).digest != ask_of(body(), PHONE, GRANT_END).digest
    assert ask_of(body(), LAPTOP, GRANT_END).digest != ask_of(body(), PHONE, GRANT_END).digest


@dataclass
class Disk:
    """The smallest store there can be: what an index's mark says and which answer its slot opens."""

    mark: Mark | None = None
    answer: str | None = None
    built: int = 0
    erasures: list = field(default_factory=list)

    def perform(self, event, now_ms):
        effects = step(self.mark, event, now_ms)
        for effect in effects:
            if isinstance(effect, Persist):
                self.mark = effect.mark
                if effect.fresh:
                    assert self.answer is None
                    self.answer = f"answer {self.built}"
            elif isinstance(effect, Erase):
                self.mark, self.answer = effect.mark, None
            elif isinstance(effect, Forget):
                assert self.answer is None
                self.mark = None
        return effects


class OneIndex(RuleBasedStateMachine):
    """Two devices, two recipients, a stranger, a clock: whatever they do, in any order."""

    @initialize()
    def start(self):
        self.disk, self.now = Disk(), NOW
        self.given = None  # (digest, answer) of the one request that was answered
        self.acknowledged = set()
        self.gone = False
        self.statement = None

    def out(self, effects):
        if HandOut() in effects:
            assert self.disk.answer is not None, "handed out what is not there"
            assert not self.gone
            return self.disk.answer
        return None

    @rule(letter=st.sampled_from("AB"), race=st.booleans())
    def request(self, letter, race):
        asked = ask(letter.encode() * 32)
        effects = self.disk.perform(KeyRequested(asked), self.now)
        if effects == [Build()]:
            # `race`: the other request is answered while this one is being built.
            for each in (ask(b"C" * 32), asked) if race else (asked,):
                self.disk.built += 1
                effects = self.disk.perform(AnswerBuilt(each, issued_ms=self.now, slot=0), self.now)
                self.remember(each.digest, effects)
        else:
            self.remember(asked.digest, effects)

    def remember(self, digest, effects):
        answer = self.out(effects)
        if answer is not None:
            self.given = self.given or (digest, answer, self.now)
            assert self.given[:2] == (digest, answer), "one index, two answers"
            assert "asker" not in self.acknowledged
            assert self.now < self.given[2] + REPLAY_MS

    @rule(user=st.sampled_from([BOB, CAROL, MALLORY]))
    def collect(self, user):
        answer = self.out(self.disk.perform(Collected(user), self.now))
        if answer is not None:
            assert answer == self.given[1]
            assert user in (BOB, CAROL)
            assert user not in self.acknowledged
            assert self.now < self.given[2] + HOUR

    @rule(user=st.sampled_from([BOB, CAROL, MALLORY]))
    def acknowledge_collection(self, user):
        self.told(self.disk.perform(Acknowledged(user, LAPTOP, collected=True), self.now), user)

    @rule(device=st.sampled_from([PHONE, LAPTOP]))
    def acknowledge_answer(self, device):
        self.told(self.disk.perform(Acknowledged(ALICE, device, collected=False), self.now), "asker")

    def told(self, effects, who):
        for effect in effects:
            if isinstance(effect, TellAcknowledged):
                assert who != MALLORY
                self.acknowledged.add(who)
                assert effect.erased is (self.disk.answer is None)
                self.gone = self.gone or effect.erased

    @rule()
    def revoke(self):
        effects = self.disk.perform(Revoked(ALICE), self.now)
        if isinstance(effects[0], SignErasure):
            at = effects[0].erased_ms
            effects = self.disk.perform(Revoked(ALICE, Signed(b"%d" % self.now, bytes(3373)), at), self.now)
        for effect in effects:
            if isinstance(effect, GiveErasure):
                self.gone = True
                self.statement = self.statement or effect.erasure
                assert effect.erasure == self.statement

    @rule(ms=st.sampled_from([1, 60_000, REPLAY_MS, HOUR, 60 * HOUR]))
    def wait(self, ms):
        self.now += ms

    @rule()
    def sweep(self):
        if self.disk.mark is not None and due_ms(self.disk.mark) <= self.now:
            effects = self.disk.perform(DueReached(), self.now)
            assert effects, "due, and nothing to do"
            if effects == [Forget()]:
                assert self.now >= GRANT_END
                self.start()  # the grant has ended: the index cannot be asked for again

    @invariant()
    def the_disk_is_whole(self):
        if getattr(self, "disk", None) and self.disk.mark is not None:
            assert (self.disk.answer is None) == (self.disk.mark.erased_ms is not None)
            if self.disk.mark.erased_ms is None:
                assert is_over(self.disk.mark, due_ms(self.disk.mark))
                assert not is_over(self.disk.mark, due_ms(self.disk.mark) - 1)


OneIndex.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestOneIndex = OneIndex.TestCase
