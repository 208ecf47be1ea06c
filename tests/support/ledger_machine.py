"""Random histories of a chain: all kinds of actions, sensible and not, in blocks with gaps and missed views; what must hold is looked at
after each block by going through the whole state.

    tests/unit/qnode/core/ledger/test_block.py     in the suite
"""

from __future__ import annotations

import hashlib
import random
import typing
from collections import Counter
from typing import Any, ClassVar, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from msgspec import inspect
from support.ledger_world import CHAIN, QST, LedgerWorld, hash_chain, key, voter

from qnode.core.ledger.admission import Admission
from qnode.core.ledger.block import Checked, execute
from qnode.core.ledger.rewards import due
from qnode.core.ledger.state import State
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.ids import account_id
from qustream.model.keys import HpkeKeyStatement, PublicKey
from qustream.model.state import Licence, LicenceStatus, NodeEntry, Pool, Table, UserEntry, Validator, VoteKeyEntry
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, Kind, Statement, header_digest
from qustream.wire.transactions import (
    Activate,
    AddDevice,
    AnyAction,
    BuyGrant,
    BuyLicence,
    Claim,
    Delegate,
    DoubleSign,
    EditValidator,
    ExitValidator,
    ListLicence,
    MergeUsers,
    RegisterUser,
    RegisterValidator,
    Retire,
    RevokeDevice,
    RollOver,
    Stake,
    TopUp,
    Transfer,
    Undelegate,
    UnlistLicence,
    Unstake,
    Unsuspend,
    UpdateNode,
)

__all__ = ["FAST", "LedgerMachine", "Step"]

# A day of the chain's is a second here, so that a history of half an hour sees everything end.
FAST = {
    "epoch_ms": 10_000, "rotation_ms": 5_000, "lock_ms": 8_000, "unbonding_ms": 40_000, "evidence_ms": 20_000, "top_up_ms": 5_000,
    "removed_ms": 15_000, "market_rest_ms": 20_000, "appeal_ms": 10_000, "suspension_ms": 6_000, "lifetime_max_ms": 20_000,
}  # fmt: skip
MOST = (1 << 63) - 1
NO_SIGNATURE, NO_VOTE = bytes(3373), bytes(2420)


ACTIONS = typing.get_args(AnyAction)
NUMBERS = (0, 1, 2, 5, 1_000, QST, 10 * QST, 200_000 * QST, 10**18, MOST - 1, MOST)


def _known(world: LedgerWorld, state: State) -> dict[int, list[bytes]]:
    """By length, what stands for something in this state."""
    ids = [each.id for each in map(key, ["user"] * 4, range(4))] + [name for name, _ in state.scan(Table.GRANT, b"", 20)]
    accounts = [account_id(each.id) for each in world.owners + world.people]
    return {16: world.licences, 20: accounts, 32: ids, 1312: [voter(number).public for number in range(6)]}


def _wild(kind: Any, draws: random.Random, known: dict[int, list[bytes]]) -> Any:
    """Any value a field of this type may hold; rather one that stands for something, or at the edge of what is allowed."""
    match kind:
        case inspect.BytesType(min_length=low, max_length=high):
            if low == high and low in known and draws.random() < 0.9:
                return draws.choice(known[low])
            return bytes([draws.randrange(256)]) * draws.randint(low or 0, min(high, (low or 0) + 50))
        case inspect.StrType(max_length=high):
            return "x" * draws.randint(0, high)
        case inspect.IntType(ge=low, le=high):
            return draws.choice([each for each in (*NUMBERS, high, low, draws.randint(low, high)) if low <= each <= high])
        case inspect.BoolType():
            return draws.random() < 0.5
        case inspect.EnumType(cls=cls):
            return draws.choice(list(cls))
        case inspect.VarTupleType(item_type=item, max_length=high):
            return tuple(_wild(item, draws, known) for _ in range(draws.choice([0, 1, min(3, high), high])))
        case inspect.UnionType(types=types):
            chosen = draws.choice(types)
            return None if isinstance(chosen, inspect.NoneType) else _wild(chosen, draws, known)
        case inspect.StructType(cls=cls, fields=fields):
            if cls is PublicKey:
                return key(draws.choice(["user", "node"]), draws.randrange(4)).public
            return cls(*[_wild(field.type, draws, known) for field in fields])
    raise TypeError(f"no values for {kind}")


class Step(NamedTuple):
    """One action in numbers: they are taken modulo what there is, so that each means something."""

    kind: int
    who: int
    what: int
    size: int


STEPS = st.builds(Step, st.integers(0, 63), st.integers(0, 31), st.integers(0, 31), st.integers(0, 63))


class LedgerMachine(RuleBasedStateMachine):
    """`codes`: what became of actions of each kind, over all histories of the class that is run."""

    codes: ClassVar[Counter[tuple[str, str]]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = LedgerWorld(validators=4, nodes=2, idle=2, people=3, wealth=1_500_000 * QST, **FAST)
        self.world.chains = list(self.world.chains)
        self.everybody = self.world.owners + self.world.people
        self.burned = 0

    @rule(
        steps=st.lists(STEPS, max_size=8),
        after_ms=st.sampled_from([100, 1_000, 1_000, 5_000, 12_000]),
        skip=st.sampled_from([0, 0, 0, 1, 9]),
    )
    def block(self, steps: list[Step], after_ms: int, skip: int) -> None:
        """A block of what is admissible of these."""
        world, state = self.world, self.world.state()
        admission, chosen = Admission(state, [], world.parameters), []
        for step in steps:
            sender, action = self._of(step, state)
            checked = world.checked(sender, action, nonce=admission.next_nonce(account_id(sender.id)))
            if admission.add(checked, world.progress.height + 1) is None:
                chosen.append(checked)
        self._execute(chosen, after_ms, skip)

    @rule(seed=st.integers(0, (1 << 32) - 1))
    def wild(self, seed: int) -> None:
        """A block of whatever decodes, admissible or not: nothing of it may raise, and the money stays what it is."""
        state, draws, chosen = self.world.state(), random.Random(seed), []
        known, admission = _known(self.world, state), Admission(state, [], self.world.parameters)
        for sender in draws.sample(self.everybody, 6):
            action = _wild(inspect.type_info(draws.choice(ACTIONS)), draws, known)
            chosen.append(self.world.checked(sender, action, nonce=admission.next_nonce(account_id(sender.id))))
        self._execute(chosen, 1_000, 0, is_honest=False)

    def _execute(self, chosen: list[Checked], after_ms: int, skip: int, *, is_honest: bool = True) -> None:
        world = self.world
        header = world.header(chosen, after_ms=after_ms, skip=skip)
        state, again = State(world.reader), State(world.reader.copy())
        executed = execute(state, header_digest(header), header, chosen)
        changes = state.changes()
        assert execute(again, header_digest(header), header, chosen) == executed
        assert again.changes() == changes
        again.undo(0)
        assert again.changes() == {}
        for receipt, each in zip(executed.receipts, chosen, strict=False):
            assert receipt.id == each.id
            assert receipt.fee == each.body.fee or not is_honest
            assert receipt.code not in ("E-LEDGER-NONCE", "E-LEDGER-KEY", "E-LEDGER-FEE", "E-LEDGER-EXPIRED")
            self.codes[type(each.body.action).__name__, receipt.code] += 1
        world.reader.apply(changes)
        world.audit()
        self._look()

    def _look(self) -> None:
        """What ties one table to another."""
        nouns = self.world.reader.nouns
        totals, pools, licences = nouns(Table.TOTALS)[b""], nouns(Table.POOL), nouns(Table.LICENCE)
        assert totals.minted == 10**18
        assert totals.burned >= self.burned
        self.burned = totals.burned
        accounts = nouns(Table.ACCOUNT)
        assert set(nouns(Table.ACCOUNT_KEY)) == {name for name, held in accounts.items() if held.nonce}
        assert set(nouns(Table.OWNED)) == {licence.owner + name for name, licence in licences.items()}
        running = {licence.node: name for name, licence in licences.items() if licence.status is LicenceStatus.ACTIVE}
        assert {name: entry.licence for name, entry in nouns(Table.NODE).items()} == running
        assert all(not licence.price or licence.status is LicenceStatus.IDLE for licence in licences.values())
        grants = nouns(Table.GRANT)
        assert set(nouns(Table.GRANT_OF)) == {each.owner + each.epoch.to_bytes(8, "big") + name for name, each in grants.items()}
        incidents = [each for each in nouns(Table.INCIDENT).values() if each.open]
        assert pools[bytes([Pool.ESCROW])].amount == sum(each.escrow for each in incidents)
        assert {name: each.incidents for name, each in licences.items() if each.incidents} == Counter(each.licence for each in incidents)
        self._look_at_shares(nouns(Table.VALIDATOR), pools[bytes([Pool.REWARDS])].amount)

    def _look_at_shares(self, validators: dict[bytes, Validator], rewards: int) -> None:
        nouns = self.world.reader.nouns
        shares, claims = Counter(), sum(each.earned for each in validators.values())
        for name, delegation in nouns(Table.DELEGATION).items():
            shares[name[:16]] += delegation.shares
            claims += due(validators[name[:16]], delegation)
        assert {name: each.shares for name, each in validators.items() if each.shares} == +shares
        # Floors: what nobody can claim is less than a unit each time somebody's part was divided.
        assert claims <= rewards
        parts: Counter[bytes] = Counter()
        for name, part in nouns(Table.UNBOND).items():
            parts[name[20:]] += part.shares
        assert {name: batch.shares for name, batch in nouns(Table.UNBOND_BATCH).items()} == parts

    def _of(self, step: Step, state: State) -> tuple[SigningKey, AnyAction]:
        """Mostly by who may do it, now and then by anybody."""
        name = self.world.licences[step.what % len(self.world.licences)]
        licence = state.must(Table.LICENCE, name, Licence)
        owner = next(each for each in self.everybody if account_id(each.id) == licence.owner)
        anybody = self.everybody[step.who % len(self.everybody)]
        may = anybody if step.who % 8 == 7 else owner
        amount = (1, 9 * QST, 10 * QST, 123_456_789_012, 70_000 * QST, 200_000 * QST, MOST, 10**6 + step.size)[step.size % 8]
        makers = (self._licence_actions, self._stake_actions, self._delegations, self._others)
        return makers[step.kind % 4](step, state, name, licence, may, anybody, amount)

    def _licence_actions(self, step, state, name, licence, may, anybody, amount):
        match step.kind // 4 % 7:
            case 0:
                return anybody, Transfer(account_id(self.everybody[step.what % len(self.everybody)].id), amount)
            case 1:
                node = key("node", step.size % 12).public
                return may, Activate(name, node, account_id(anybody.id), (), NO_SIGNATURE)
            case 2:
                return may, Retire(name)
            case 3:
                return may, UpdateNode(name, ("127.9.9.9:7400",))
            case 4:
                return may, ListLicence(name, amount)
            case 5:
                return may, UnlistLicence(name)
        return anybody, BuyLicence(name, licence.price or amount)

    def _stake_actions(self, step, state, name, licence, may, anybody, amount):
        match step.kind // 4 % 7:
            case 0 | 1:
                return may, Stake(name)
            case 2:
                return may, Unstake(name)
            case 3:
                return may, TopUp(name, max(1, self.world.parameters.stake - licence.staked))
            case 4 | 5:
                entry = None if licence.node is None else state.get(Table.NODE, licence.node, NodeEntry)
                node = key("node", 0).public if entry is None else entry.key
                chain = hash_chain(100 + step.size, 50)
                self.world.chains.append(chain)
                return may, RegisterValidator(
                    name, node, voter(step.size % 20).public, chain.anchor, 50, 10_000 * (step.size % 2), NO_SIGNATURE, NO_VOTE
                )
        return may, ExitValidator(name)

    def _delegations(self, step, state, name, licence, may, anybody, amount):
        match step.kind // 4 % 6:
            case 0:
                chain = hash_chain(200 + step.size, 50)
                self.world.chains.append(chain)
                return may, EditValidator(name, step.size * 100, chain.anchor, 50 * (step.size % 2))
            case 1 | 2:
                validators = [each for each, _ in state.scan(Table.VALIDATOR, b"", 50)]
                return anybody, Delegate(validators[step.who % len(validators)], amount)
            case 3:
                return self._undelegation(step, state, anybody, amount)
            case 4:
                return may, Unsuspend(name)
        waiting = [each for each, _ in state.scan(Table.UNBOND, b"", 50)]
        if step.size % 2 or not waiting:
            return may, Claim(name)
        name = waiting[step.who % len(waiting)]
        return next(each for each in self.everybody if account_id(each.id) == name[:20]), Claim(name[20:36])

    def _undelegation(self, step: Step, state: State, anybody: SigningKey, amount: int) -> tuple[SigningKey, AnyAction]:
        held = state.scan(Table.DELEGATION, b"", 50)
        if not held or step.who % 8 == 7:
            return anybody, Undelegate(self.world.licences[0], amount)
        name, delegation = held[step.who % len(held)]
        who = next(each for each in self.everybody if account_id(each.id) == name[16:])
        return who, Undelegate(name[:16], max(1, delegation.shares // (1 + step.size % 3)))

    def _others(self, step, state, name, licence, may, anybody, amount):
        master = key("user", step.what % 4)
        entry = state.get(Table.USER, master.id, UserEntry)
        sequence = (0 if entry is None else entry.sequence) + 1 - (step.who % 8 == 7)
        device = hashlib.sha256(bytes([step.size % 4])).digest()
        match step.kind // 4 % 8:
            case 0:
                hpke = Signed(encode(HpkeKeyStatement(master.id, bytes(1216))), NO_SIGNATURE)
                return anybody, RegisterUser(master.public, hpke, (device,), NO_SIGNATURE)
            case 1:
                return anybody, AddDevice(master.public, device, sequence, NO_SIGNATURE)
            case 2:
                return anybody, RevokeDevice(master.public, device, sequence, NO_SIGNATURE)
            case 3:
                return anybody, MergeUsers(master.public, key("user", step.size % 4).public, NO_SIGNATURE, NO_SIGNATURE)
            case 4 | 5:
                pinned = name if step.size % 2 else None
                return anybody, BuyGrant(master.id, bytes(32), 1 + step.size, 1, 1_000 * (step.size % 22), pinned, amount)
            case 6:
                grants = [each for each, _ in state.scan(Table.GRANT, b"", 50)] or [bytes(32)]
                return anybody, RollOver(grants[step.who % len(grants)], bytes(32), 1 + step.size, 1, amount)
        return anybody, self._offence(step, state, name)

    def _offence(self, step: Step, state: State, name: bytes) -> DoubleSign:
        """Sometimes of a vote key that is another's by now, or of none; sometimes legal."""
        validator = state.get(Table.VALIDATOR, name, Validator)
        holder = None if validator is None else state.get(Table.VOTE_KEY, validator.vote_key, VoteKeyEntry)
        public = voter(step.size % 20).public if holder is None or step.who % 8 == 6 else holder.key
        rotation, view = max(1, self.world.progress.rotation - step.who % 3), 1 + step.size
        first = Statement(CHAIN, rotation, view, Kind.FINAL, bytes([1]) * 32)
        others = (Kind.SKIP, NO_DIGEST), (Kind.FINAL, bytes([2]) * 32), (Kind.NOTAR, bytes([1]) * 32)
        kind, digest = others[step.size % 3]
        return DoubleSign(public, first, NO_VOTE, Statement(CHAIN, rotation, view, kind, digest), NO_VOTE)
