"""The light registry answers as any other, by proofs, whoever lies."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.ledger_world import PARAMETERS, key, licence_id
from support.light_chain import CHAIN, ROTATION_MS, START_MS, LightChain, Several, Told, holds

from qustream.client.plan import Plan
from qustream.errors import QuStreamError, fault
from qustream.identity.enrolment import state_hpke_key
from qustream.identity.user import UserHome
from qustream.identity.words import UserSecrets, new_words
from qustream.light.registry import LightRegistry
from qustream.light.trust import Known
from qustream.model.base import Signed
from qustream.model.ids import account_id
from qustream.model.network import DeviceEntry, Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.model.state import Account, EpochEntry, Licence, LicenceStatus, NodeEntry, Progress, Table, UserEntry
from qustream.registry.chain_records import node_record
from qustream.registry.interface import ChangeKind
from qustream.rules.assignment import ranked
from qustream.wire.codec import encode
from qustream.wire.light import GrantsListed, HandOvers, ListedNode, NodesListed, Proofs

SEED = b"\x07" * 32
USER = key("light user").public
MERGED, LEFT = (UserSecrets(bytes([number]) * 64) for number in (3, 4))


def licence(number: int, **changes: Any) -> Licence:
    owner, node = account_id(key("light owner", number).id), key("light node", number).id
    node_class, site = (NodeClass.FOUNDATION, f"site {number}") if number % 2 else (NodeClass.COMMUNITY, "")
    base = Licence(node_class, owner, site, LicenceStatus.ACTIVE, node, owner, *[0] * 11)
    return replace(base, **changes)


def node_entry(number: int) -> NodeEntry:
    return NodeEntry(licence_id(number), key("light node", number).public, (f"192.0.2.{number + 1}:7400",))


@cache  # two signatures of one statement differ
def of_words(user: UserSecrets) -> UserRecord:
    devices = (DeviceEntry(b"d" * 32, False),)
    return UserRecord(user.master.public, state_hpke_key(user.master, user.hpke.public), devices)


def a_grant(name: bytes = b"g", epoch: int = 0) -> Grant:
    return Grant(name.ljust(32), USER.id, b"r" * 32, 64, 1, epoch, 60_000, None)


@pytest.fixture(scope="module")
def chain() -> LightChain:
    chain = LightChain()
    for number in range(16):
        chain.put(
            Table.NODE,
            key("light node", number).id,
            NodeEntry(licence_id(number), key("light node", number).public, (f"192.0.2.{number + 1}:7400",)),
        )
        chain.put(Table.LICENCE, licence_id(number), licence(number, since_epoch=1 if number == 15 else 0))
    chain.put(Table.QRNG_SERVER, key("qrng").id, QrngServerRecord(key("qrng").public, "one", True, True))
    record = UserRecord(USER, Signed(b"stated", bytes(3373)), (DeviceEntry(b"d" * 32, False),))
    chain.put(Table.USER, USER.id, UserEntry(encode(record), 0, None, False))
    chain.put(Table.USER, MERGED.master.id, UserEntry(encode(of_words(MERGED)), 0, LEFT.master.id, False))
    chain.put(Table.USER, LEFT.master.id, UserEntry(encode(of_words(LEFT)), 0, None, True))
    for grant in (a_grant(), a_grant(b"h")):
        chain.put(Table.GRANT, grant.grant, grant)
    return chain


def light(chain: LightChain, *nodes: Told, **others: Any) -> LightRegistry:
    return LightRegistry(
        CHAIN, chain.pinned, Several(*(nodes or (chain.node(),))), verify=holds, clock_ms=lambda: chain.now_ms, **others
    )  # fmt: skip


def records(chain: LightChain) -> list[NodeRecord]:
    return [node_record(node_entry(number), licence(number)) for number in range(15)]


def test_what_it_keeps_open_ends_with_it(chain: LightChain) -> None:
    node = chain.node()
    with light(chain, node) as registry:
        assert registry.qrng_server(key("qrng").id).name == "one"
        assert node.closed == 0
    assert node.closed == 1
    registry.close()  # harmless, and what it knows it still says
    assert registry.qrng_server(key("qrng").id).name == "one"


def test_it_answers_what_stands_in_the_chain(chain: LightChain) -> None:
    registry = light(chain)
    assert registry.qrng_server(key("qrng").id).name == "one"
    assert registry.user(USER.id).devices == (DeviceEntry(b"d" * 32, False),)
    assert registry.grant(a_grant().grant) == a_grant()
    assert registry.grants_of(USER.id) == [a_grant(), a_grant(b"h")]
    node = registry.node(key("light node", 3).id)
    assert (node.operator, node.active, node.licence) == ("site 3", True, licence_id(3))
    assert registry.epoch(chain.now_ms).seed == SEED
    assert registry.height == 37
    assert [change.kind for change in registry.changes(0)] == [ChangeKind.EVERYTHING]


def test_who_was_merged_is_himself_and_is_written_to_as_the_other(chain: LightChain, tmp_path: Path) -> None:
    """His devices hold certificates of his own master; what is written to him is sealed for the one who is left."""
    registry = light(chain)
    assert registry.user(MERGED.master.id) == of_words(MERGED)
    assert registry.addressee(MERGED.master.id) == registry.addressee(LEFT.master.id) == LEFT.master.id
    home = UserHome.create(tmp_path / "home", new_words(), "a sender's", b"passphrase", now_ms=chain.now_ms)
    plan = Plan(home, registry, lambda: chain.now_ms)
    # Named twice is written to once.
    assert plan.recipients([MERGED.master.id, LEFT.master.id]) == [(LEFT.master.id, LEFT.hpke.public)]
    with pytest.raises(QuStreamError, match="E-REGISTRY-UNKNOWN"):
        plan.recipients([b"\x01" * 32])


def test_an_account_and_the_figures_of_the_chain_are_proven() -> None:
    other = LightChain()
    other.put(Table.ACCOUNT, b"a" * 20, Account(4, 77))
    registry = light(other)
    assert registry.account(b"a" * 20) == Account(4, 77)
    assert registry.account(b"b" * 20) == Account(0, 0)  # that there is none is proven as well
    assert registry.parameters().fee_gas == PARAMETERS.fee_gas

    def richer(_: Any, answer: Any) -> Any:
        if not isinstance(answer, Proofs):
            return answer
        return replace(answer, entries=tuple(replace(each, value=encode(Account(4, 78))) for each in answer.entries))

    with pytest.raises(QuStreamError, match="E-CHAIN-STALE"):
        light(other, other.node(richer)).account(b"a" * 20)


def test_what_the_chain_does_not_have_is_unknown(chain: LightChain) -> None:
    registry = light(chain)
    for look in (registry.node, registry.qrng_server, registry.user, registry.grant):
        with pytest.raises(QuStreamError) as caught:
            look(b"\x01" * 32)
        assert caught.value.code == "E-REGISTRY-UNKNOWN"
    with pytest.raises(QuStreamError):
        registry.epoch_at(5)


def test_an_assignment_is_the_one_of_the_rule(chain: LightChain) -> None:
    for j in range(4):
        found = light(chain).assignment(a_grant(), j)
        for node_class in NodeClass:
            wanted = ranked(records(chain), a_grant(), j, node_class, SEED)
            assert [node.key.id for node in found[node_class]] == [node.key.id for node in wanted]


def test_nodes_that_are_made_up_are_struck_off(chain: LightChain) -> None:
    def invents(_: Any, answer: Any) -> Any:
        if not isinstance(answer, NodesListed) or not answer.nodes:
            return answer
        more = [ListedNode(key("invented", n).id, NodeClass.COMMUNITY, f"nobody {n}", licence_id(200 + n), (), 0) for n in range(40)]
        return NodesListed(tuple(sorted([*answer.nodes, *more], key=lambda node: node.id)))

    found = light(chain, chain.node(invents)).assignment(a_grant(), 0)
    wanted = ranked(records(chain), a_grant(), 0, NodeClass.COMMUNITY, SEED)
    assert [node.key.id for node in found[NodeClass.COMMUNITY]] == [node.key.id for node in wanted]


def test_one_honest_list_of_three_makes_it_whole(chain: LightChain) -> None:
    def hides(_: Any, answer: Any) -> Any:
        return NodesListed(()) if isinstance(answer, NodesListed) else answer

    registry = light(chain, chain.node(hides), chain.node(hides), chain.node())
    assert len(registry.nodes(NodeClass.FOUNDATION)) == 8
    assert len(registry.assignment(a_grant(), 1)[NodeClass.FOUNDATION]) == 5


def test_lists_without_order_or_end_are_refused(chain: LightChain) -> None:
    always = ListedNode(bytes(31) + b"\x01", NodeClass.COMMUNITY, "", licence_id(1), (), 0)

    def repeats(_: Any, answer: Any) -> Any:
        return NodesListed(answer.nodes or (always,)) if isinstance(answer, NodesListed) else answer

    with pytest.raises(QuStreamError) as caught:
        light(chain, chain.node(repeats)).assignment(a_grant(), 0)
    assert caught.value.code == "E-PROOF"


def test_a_node_that_lies_is_passed_over_for_one_that_does_not(chain: LightChain) -> None:
    def forges(_: Any, answer: Any) -> Any:
        if not isinstance(answer, Proofs):
            return answer
        return replace(answer, entries=tuple(replace(each, value=None) for each in answer.entries))

    assert light(chain, chain.node(forges), chain.node()).grant(a_grant().grant) == a_grant()
    with pytest.raises(QuStreamError) as caught:
        light(chain, chain.node(forges)).grant(a_grant().grant)
    assert caught.value.code == "E-CHAIN-STALE"


def test_grants_of_others_are_not_passed_off(chain: LightChain) -> None:
    def mixes(_: Any, answer: Any) -> Any:
        return GrantsListed((*answer.grants, b"\x09" * 32, a_grant().grant)) if isinstance(answer, GrantsListed) else answer

    assert light(chain, chain.node(mixes)).grants_of(USER.id) == [a_grant(), a_grant(b"h")]


def test_what_is_proven_is_kept_until_it_is_told_to_look_again(chain: LightChain) -> None:
    node = chain.node()
    registry = light(chain, node)
    registry.grant(a_grant().grant)
    before = node.asked
    registry.grant(a_grant().grant)
    assert node.asked == before
    registry.refresh(chain.now_ms)
    registry.grant(a_grant().grant)
    assert node.asked > before


def test_it_follows_when_the_rotation_turns_under_it() -> None:
    chain = LightChain(rotations=2)
    remembered: list[Known] = []
    registry = light(chain, remember=remembered.append)
    registry.epoch(chain.now_ms)
    chain.rotations, chain.now_ms = 4, chain.now_ms + 2 * ROTATION_MS
    registry.refresh(chain.now_ms)
    assert registry.epoch(chain.now_ms).number == 0
    assert [known.rotation for known in remembered] == [2, 4]


def test_an_epoch_without_a_block_yet_is_the_one_before(chain: LightChain) -> None:
    length_ms = 3 * 86_400_000
    assert light(chain).epoch(START_MS + length_ms + 1).number == 0


def test_another_chain_is_refused(chain: LightChain) -> None:
    registry = LightRegistry("other", chain.pinned, chain.node(), verify=holds, clock_ms=lambda: chain.now_ms)
    with pytest.raises(QuStreamError, match="other"):
        registry.epoch(chain.now_ms)


def test_hand_overs_that_never_end_are_cut_off(chain: LightChain) -> None:
    def again(_: Any, answer: Any) -> Any:
        return HandOvers(()) if isinstance(answer, HandOvers) else answer

    with pytest.raises(QuStreamError):  # stuck in an old rotation, whose proofs are of a later one
        light(chain, chain.node(again)).epoch(chain.now_ms)


def test_progress_is_read_from_the_chain(chain: LightChain) -> None:
    other = LightChain()
    other.put(Table.EPOCH, (2).to_bytes(8, "big"), EpochEntry(50, START_MS, b"\x08" * 32))
    other.put(Table.PROGRESS, b"", Progress(98, bytes(32), other.now_ms, 2, 3, 9, bytes(32), False))
    later_ms = START_MS + 9 * 3 * 86_400_000
    assert light(other).epoch(later_ms).seed == b"\x08" * 32


def says_of_nodes(change: Callable[[ListedNode], ListedNode | None]) -> Callable[[Any, Any], Any]:
    """A node that tells of nodes what is not so."""

    def lie(_: Any, answer: Any) -> Any:
        if not isinstance(answer, NodesListed):
            return answer
        return NodesListed(tuple(changed for each in answer.nodes if (changed := change(each)) is not None))

    return lie


@pytest.mark.parametrize(
    "change",
    [
        lambda node: replace(node, operator="all one"),
        lambda node: replace(node, since_epoch=1 << 40),
        lambda node: replace(node, licence=b"\x09" * 16),
        lambda node: replace(node, node_class=NodeClass.FOUNDATION if node.node_class is NodeClass.COMMUNITY else NodeClass.COMMUNITY),
    ],
)
def test_who_says_false_things_of_nodes_does_not_keep_them_out(chain: LightChain, change: Callable[[ListedNode], ListedNode]) -> None:
    own = {key("light node", number).id for number in range(5)}
    lie = says_of_nodes(lambda node: node if node.id in own else change(node))
    found = light(chain, chain.node(lie), chain.node(lie), chain.node()).assignment(a_grant(), 2)
    for node_class in NodeClass:
        wanted = ranked(records(chain), a_grant(), 2, node_class, SEED)
        assert [node.key.id for node in found[node_class]] == [node.key.id for node in wanted]


def test_an_inventor_of_thousands_is_listened_to_no_more_after_a_few(chain: LightChain) -> None:
    def invents(question: Any, answer: Any) -> Any:
        if not isinstance(answer, NodesListed):
            return answer
        more = [
            ListedNode(bytes([n // 256 + 1, n % 256]) * 16, NodeClass.COMMUNITY, f"nobody {n}", licence_id(n), (), 0) for n in range(8_000)
        ]
        return NodesListed(tuple(sorted((each for each in more if each.id > question.after), key=lambda node: node.id))[:400])

    liar, honest = chain.node(invents), chain.node()
    found = light(chain, liar, honest).assignment(a_grant(), 0)
    wanted = ranked(records(chain), a_grant(), 0, NodeClass.COMMUNITY, SEED)
    assert [node.key.id for node in found[NodeClass.COMMUNITY]] == [node.key.id for node in wanted]
    assert liar.asked + honest.asked < 100  # 22 pages, and what it takes to see through some of them


def test_a_list_of_pages_of_one_is_not_read_to_its_end(chain: LightChain) -> None:
    def drips(question: Any, answer: Any) -> Any:
        if not isinstance(answer, NodesListed):
            return answer
        following = (int.from_bytes(question.after, "big") + 1).to_bytes(32, "big")
        return NodesListed((ListedNode(following, NodeClass.COMMUNITY, "", licence_id(1), (), 0),))

    liar = chain.node(drips)
    assert len(light(chain, liar, chain.node()).assignment(a_grant(), 1)[NodeClass.FOUNDATION]) == 5
    assert liar.asked < 100


def test_where_all_lists_are_refuted_there_are_not_no_nodes(chain: LightChain) -> None:
    lie = says_of_nodes(lambda node: None)

    def invents(question: Any, answer: Any) -> Any:
        more = tuple(ListedNode(bytes([9, n]) * 16, NodeClass.COMMUNITY, f"nobody {n}", licence_id(7), (), 0) for n in range(200))
        return NodesListed(more if question.after < more[0].id else ()) if isinstance(answer, NodesListed) else lie(question, answer)

    with pytest.raises(QuStreamError) as caught:
        light(chain, chain.node(invents)).assignment(a_grant(), 0)
    assert caught.value.code == "E-CHAIN-STALE"


def test_a_node_that_speaks_of_a_rotation_to_come_and_knows_no_way_to_it_is_passed_over(chain: LightChain) -> None:
    def is_ahead(_: Any, answer: Any) -> Any:
        if isinstance(answer, HandOvers):
            raise fault("E-NOT-HELD", "it is the present rotation")
        if not isinstance(answer, Proofs):
            return answer
        return replace(answer, headers=(*answer.headers[:-1], replace(answer.headers[-1], rotation=1 << 40)))

    assert light(chain, chain.node(is_ahead), chain.node()).grant(a_grant().grant) == a_grant()
    with pytest.raises(QuStreamError) as caught:
        light(chain, chain.node(is_ahead)).grant(a_grant().grant)
    assert caught.value.code == "E-CHAIN-STALE"


def test_a_node_that_says_it_holds_nothing_is_passed_over(chain: LightChain) -> None:
    def holds_nothing(_: Any, answer: Any) -> Any:
        raise fault("E-NOT-HELD", "nothing")

    registry = light(chain, chain.node(holds_nothing), chain.node())
    assert registry.grant(a_grant().grant) == a_grant()
    assert registry.grants_of(USER.id) == [a_grant(), a_grant(b"h")]
    with pytest.raises(QuStreamError) as caught:
        light(chain, chain.node(holds_nothing)).grant(a_grant().grant)
    assert caught.value.code == "E-NOT-HELD"


def test_whoever_hides_grants_is_not_the_one_who_is_asked_the_next_time(chain: LightChain) -> None:
    def hides(_: Any, answer: Any) -> Any:
        return GrantsListed(()) if isinstance(answer, GrantsListed) else answer

    registry = light(chain, chain.node(hides), chain.node())
    assert registry.grants_of(USER.id) == []
    registry.refresh(chain.now_ms)
    assert registry.grants_of(USER.id) == [a_grant(), a_grant(b"h")]
