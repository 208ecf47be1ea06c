"""Whatever a node answers a light client: what is believed is true, or nothing is believed and a coded error says so.

True answers are changed in one or two places each, as bytes or as what they say; so most of what is changed still decodes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.ledger_world import key, licence_id
from support.light_chain import CHAIN, LightChain, Several, Told, holds

from qustream.errors import CODES, QuStreamError
from qustream.light.registry import LightRegistry
from qustream.light.trust import Later, Trust
from qustream.model.ids import account_id
from qustream.model.network import Grant, NodeClass
from qustream.model.state import Licence, LicenceStatus, NodeEntry, Table
from qustream.wire.codec import encode
from qustream.wire.light import CheckpointAsk, HandOversAsk, KeysAsk, LightAsk, SetAsk

TIMES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
USER = key("light user").id
GRANT = Grant(b"g" * 32, USER, b"r" * 32, 64, 1, 0, 60_000, None)


def a_chain(rotations: int = 3) -> LightChain:
    chain = LightChain(rotations=rotations)
    for number in range(12):
        owner, node = account_id(key("light owner", number).id), key("light node", number)
        node_class, site = (NodeClass.FOUNDATION, f"site {number}") if number % 2 else (NodeClass.COMMUNITY, "")
        chain.put(Table.NODE, node.id, NodeEntry(licence_id(number), node.public, ("192.0.2.1:7400",)))
        chain.put(Table.LICENCE, licence_id(number), Licence(node_class, owner, site, LicenceStatus.ACTIVE, node.id, owner, *[0] * 11))
    chain.put(Table.GRANT, GRANT.grant, GRANT)
    return chain


@pytest.fixture(scope="module")
def chain() -> LightChain:
    return a_chain()


# -- changing an answer ---------------------------------------------------------------------------------------------------------


def places(value: Any, at: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """The way to every value in a message."""
    inner = [place for number, each in enumerate(value) for place in places(each, (*at, number))] if isinstance(value, list) else []
    return [at, *inner]


def other(data: st.DataObject, value: Any) -> Any:
    """Something else of the same kind, most of the time."""
    if isinstance(value, bool) or value is None:
        return data.draw(st.sampled_from([True, False, None, b"", 0]))
    if isinstance(value, int):
        return data.draw(st.sampled_from([value + 1, max(0, value - 1), 0, (1 << 63) - 1, value ^ 64]))
    if isinstance(value, bytes) and value:
        at, bit = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(0, 7))
        flipped = value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]
        return data.draw(st.sampled_from([flipped, bytes(len(value)), value[:-1], None]))
    if isinstance(value, str):
        return data.draw(st.sampled_from(["", value + "x", "other"]))
    if isinstance(value, list) and value:
        at = data.draw(st.integers(0, len(value) - 1))
        return data.draw(st.sampled_from([value[:at] + value[at + 1 :], [*value[: at + 1], *value[at:]], value[::-1], []]))
    return data.draw(st.sampled_from([b"x", 1, []]))


def changed(data: st.DataObject, answer: bytes) -> bytes:
    """The answer with one or two of its values made others, or a bit of its bytes flipped."""
    if data.draw(st.integers(0, 7)) == 0:
        at = data.draw(st.integers(0, len(answer) - 1))
        return answer[:at] + bytes([answer[at] ^ 1 << data.draw(st.integers(0, 7))]) + answer[at + 1 :]
    message = msgpack.unpackb(answer)
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([place for place in places(message) if place]))
        holder = message
        for number in way:
            holder = holder[number]
        holder[last] = other(data, holder[last])
    return msgpack.packb(message)


# -- following and proofs -------------------------------------------------------------------------------------------------------


def followed(chain: LightChain, *, until: type[Any] | None = None) -> tuple[Trust, LightAsk | None]:
    """A client that was told the truth, up to a question of this kind."""
    trust, node = Trust(chain.pinned, verify=holds, now_ms=chain.now_ms), chain.node()
    return trust, go_on(trust, node, until)


def go_on(trust: Trust, node: Told, until: type[Any] | None = None) -> LightAsk | None:
    while (question := trust.question()) is not None and (until is None or not isinstance(question, until)):
        code = code_of(partial(answered, trust, node, question))
        assert code in ("", "E-NOT-HELD")
        if code:
            trust.is_newest()
    return question


def answered(trust: Trust, node: Told, question: LightAsk) -> None:
    trust.take(question, node.ask(0, encode(question)))


def code_of(does: Callable[[], object]) -> str:
    """The code it ends with, empty if it ends well."""
    try:
        does()
    except QuStreamError as error:
        return error.code
    return ""


@pytest.mark.parametrize("kind", [CheckpointAsk, SetAsk, KeysAsk, HandOversAsk])
@TIMES
@given(st.data())
def test_nothing_leads_a_client_to_another_set(chain: LightChain, kind: type[Any], data: st.DataObject) -> None:
    trust, question = followed(chain, until=kind)
    assert question is not None
    before = trust.known
    code = code_of(lambda: trust.take(question, changed(data, chain.node().ask(0, encode(question)))))
    assert code in ("", *CODES)
    assert not code or trust.known == before
    if trust.rotation:
        assert (trust.chain, trust.known.set) == (CHAIN, chain.set_hash(trust.rotation))
    trust.follow(chain.now_ms)
    go_on(trust, chain.node())
    assert trust.rotation == chain.rotations


ASKED = [bytes([Table.GRANT]) + GRANT.grant, bytes([Table.GRANT]) + b"?" * 32, bytes([Table.LICENCE]) + licence_id(3)]


@settings(TIMES, max_examples=150)
@given(st.data())
def test_no_changed_proof_shows_another_value(chain: LightChain, data: st.DataObject) -> None:
    trust, _ = followed(chain)
    height, answer = trust.height, changed(data, encode(chain.proofs(ASKED)))
    values: list[bytes | None] = []

    def ask() -> None:
        with contextlib.suppress(Later):
            values.extend(trust.values(ASKED, answer, chain.now_ms))

    code = code_of(ask)
    assert code in ("", *CODES)
    assert values == [chain.entries.get(name) for name in ASKED] if values else trust.height == height


def test_a_proof_of_another_key_and_one_of_another_state_show_nothing(chain: LightChain) -> None:
    trust, _ = followed(chain)
    later = a_chain()
    later.put(Table.GRANT, GRANT.grant, replace(GRANT, count=65))
    mixed = replace(chain.proofs(ASKED), entries=later.proofs(ASKED).entries)
    with pytest.raises(QuStreamError):
        trust.values(ASKED, encode(mixed), chain.now_ms)
    with pytest.raises(QuStreamError):
        trust.values(ASKED[::-1], encode(chain.proofs(ASKED)), chain.now_ms)


# -- the registry ---------------------------------------------------------------------------------------------------------------


@TIMES
@given(st.data())
def test_beside_an_honest_node_a_liar_changes_no_answer(chain: LightChain, data: st.DataObject) -> None:
    true = LightRegistry(CHAIN, chain.pinned, chain.node(), verify=holds, clock_ms=lambda: chain.now_ms)

    def lie(_: Any, answer: Any) -> Any:
        raw = encode(answer)
        return changed(data, raw) if data.draw(st.booleans()) else raw

    nodes = Several(chain.node(lie), chain.node())
    asked = LightRegistry(CHAIN, chain.pinned, nodes, verify=holds, clock_ms=lambda: chain.now_ms)
    assert asked.grant(GRANT.grant) == true.grant(GRANT.grant)
    j = data.draw(st.integers(0, 63))
    assert asked.assignment(GRANT, j) == true.assignment(GRANT, j)
    assert set(asked.grants_of(USER)) <= {GRANT}


@TIMES
@given(st.data())
def test_a_liar_alone_gives_the_truth_or_a_code(chain: LightChain, data: st.DataObject) -> None:
    node = chain.node(lambda _, answer: changed(data, encode(answer)) if data.draw(st.integers(0, 3)) == 0 else answer)
    asked = LightRegistry(CHAIN, chain.pinned, node, verify=holds, clock_ms=lambda: chain.now_ms)
    told: list[Grant] = []
    for _ in range(3):
        assert code_of(lambda: told.append(asked.grant(GRANT.grant))) in ("", *CODES)
    assert set(told) <= {GRANT}
