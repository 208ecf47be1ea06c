"""Address records: judged, kept, said when they are to be said, asked for after a start."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from support.peers_town import CHAIN, EPOCH_MS, Town, TownNode, town, until

from qnode.service import peers_records as module
from qnode.service.gossip import Verdict
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.base import Signed
from qustream.model.network import AddressRecord
from qustream.wire.codec import encode

STRANGER = SigningKey(b"stranger" * 4)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.05)
    monkeypatch.setattr(module, "ASK_PAUSE_S", 0.05)


def record(t: Town, node: TownNode, address: str = "192.0.2.1:7400", *, ago_ms: int = 0) -> AddressRecord:
    return AddressRecord(CHAIN, node.id, t.clock_ms() - ago_ms, (address,))


def signed(key: SigningKey, what: AddressRecord) -> bytes:
    return encode(key.sign_noun("address", what))


async def test_what_is_bad_what_is_useless_and_what_is_good(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        await t.start(t.nodes[0])
        one, other, third = t.nodes
        judge = one.service.records.judge
        good = record(t, other)

        async def verdict(body: bytes) -> Verdict:
            return await judge(body, third.id)

        assert await verdict(b"nonsense") is Verdict.BAD
        assert await verdict(encode(Signed(b"nonsense", bytes(3373)))) is Verdict.BAD
        assert await verdict(signed(other.key, replace(good, chain="another"))) is Verdict.BAD
        assert await verdict(signed(other.key, replace(good, addresses=("unix:/x",)))) is Verdict.BAD
        assert await verdict(signed(third.key, good)) is Verdict.BAD
        assert await verdict(encode(replace(other.key.sign_noun("address", good), signature=bytes(3373)))) is Verdict.BAD
        assert await verdict(signed(STRANGER, replace(good, node=STRANGER.id))) is Verdict.USELESS
        assert await verdict(signed(other.key, record(t, other, ago_ms=-125_000))) is Verdict.USELESS
        assert await verdict(signed(other.key, record(t, other, ago_ms=6 * EPOCH_MS))) is Verdict.USELESS
        assert one.service.records.addresses(other.id) == (other.listen,)
        assert await verdict(signed(other.key, good)) is Verdict.GOOD
        assert one.service.records.addresses(other.id) == ("192.0.2.1:7400",)
        assert one.service.core.addresses(other.id) == ("192.0.2.1:7400", other.listen)
        assert await verdict(signed(other.key, replace(good, issued_ms=good.issued_ms + 59_000))) is Verdict.USELESS
        assert await verdict(signed(other.key, replace(good, issued_ms=good.issued_ms + 60_000))) is Verdict.GOOD


async def test_many_at_once_are_all_verified(tmp_path: Path) -> None:
    """More than one visit to a thread takes, good and bad mixed, the same one several times."""
    async with town(tmp_path, 2) as t:
        await t.start(t.nodes[0])
        signatures = module.Signatures()
        key = t.nodes[1].key
        good = key.sign_noun("address", record(t, t.nodes[1]))
        bad = replace(good, signature=bytes(3373))
        found: dict[int, bool] = {}

        async def check(number: int) -> None:
            found[number] = await signatures.hold(key.public, bad if number % 3 == 0 else good)

        async with trio.open_nursery() as nursery:
            for number in range(150):
                nursery.start_soon(check, number)
        assert found == {number: number % 3 != 0 for number in range(150)}


async def test_of_two_records_that_come_together_the_newer_stays(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start(t.nodes[0])
        records = t.nodes[0].service.records
        old = signed(t.nodes[1].key, record(t, t.nodes[1], "192.0.2.1:1", ago_ms=100_000))
        new = signed(t.nodes[1].key, record(t, t.nodes[1], "192.0.2.2:2"))
        verdicts: dict[str, Verdict] = {}

        async def judge(name: str, body: bytes) -> None:
            verdicts[name] = await records.judge(body, t.nodes[1].id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(judge, "new", new)
            nursery.start_soon(judge, "old", old)
        assert records.addresses(t.nodes[1].id) == ("192.0.2.2:2",)
        assert verdicts["new"] is Verdict.GOOD


async def test_a_node_that_moved_says_so_and_all_know(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        mover = t.nodes[0]
        mover.told = ("192.0.2.7:7400", mover.listen)
        await t.start()
        await until(lambda: all(node.service.records.addresses(mover.id) == mover.told for node in t.nodes[1:]), "all know")
        await until(lambda: all(mover.id in node.keeper.records_of([mover.id]) for node in t.nodes), "it is on every disk")
        kept = t.nodes[1].keeper.records_of([mover.id])[mover.id]
        assert open_signed(kept, AddressRecord, mover.key.public, "address").addresses == mover.told
        assert mover.keeper.issued_ms() > 0


async def test_who_is_where_the_network_says_is_silent(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start()
        await t.linked()
        for node in t.nodes:
            assert node.service.records._to_say() == ()
            node.told = (node.listen,)
        assert t.nodes[0].keeper.records() == []


async def test_nobody_says_what_others_would_charge(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        mover, other = t.nodes
        mover.told = ("0.0.0.0:7400", "192.0.2.7:7400", "127.1:7400")
        await t.start()
        await until(lambda: other.service.records.addresses(mover.id) == ("192.0.2.7:7400",))
        assert other.service.network.bad == 0


async def test_what_is_said_is_said_once_an_epoch_and_later_than_before(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        mover, other = t.nodes
        mover.told = ("192.0.2.7:7400",)
        await t.start()
        await until(lambda: other.service.records.addresses(mover.id) == mover.told)
        first_ms = mover.keeper.issued_ms()
        assert mover.service.records._to_say() == ()
        t.skew_ms = 120_000
        assert mover.service.records._to_say() == ()  # the same addresses in the same epoch
        t.skew_ms = EPOCH_MS
        t.registry.refresh(t.clock_ms())
        await until(lambda: mover.keeper.issued_ms() >= first_ms + EPOCH_MS, "it is said again in the next epoch")
        await mover.stop()
        t.skew_ms = EPOCH_MS + 61_000
        mover.told = ()
        await mover.start()
        await until(lambda: other.service.records.addresses(mover.id) == (mover.listen,), "it is back where the network says")
        assert mover.keeper.issued_ms() >= first_ms + EPOCH_MS + 60_000


async def test_a_clock_that_was_set_back_does_not_make_records_older(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        mover = t.nodes[0]
        mover.keeper.keep_issued_ms(t.clock_ms() + 50_000)
        mover.told = ("192.0.2.7:7400",)
        await t.start()
        await until(lambda: mover.keeper.records_of([mover.id]))
        assert mover.keeper.issued_ms() >= t.clock_ms() + 90_000


async def test_a_clock_that_was_far_ahead_does_not_silence_a_node_until_that_time(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        mover, other = t.nodes
        ahead = record(t, mover, "192.0.2.7:7400", ago_ms=-100 * EPOCH_MS)
        mover.keeper.keep_issued_ms(ahead.issued_ms)
        mover.keeper.keep_records({mover.id: mover.key.sign_noun("address", ahead)})
        mover.told = ("192.0.2.7:7400",)
        await t.start()
        await until(lambda: other.service.records.addresses(mover.id) == mover.told)
        assert mover.keeper.issued_ms() <= t.clock_ms()


async def test_an_old_copy_of_the_disk_is_noticed(tmp_path: Path) -> None:
    """Others have a newer record of ours than we remember: what we say next is newer than that."""
    async with town(tmp_path, 2) as t:
        one, other = t.nodes
        await t.start(one)
        newer = record(t, one, "192.0.2.9:9", ago_ms=-60_000)
        records = one.service.records
        forged = replace(newer, issued_ms=newer.issued_ms + 1)
        assert await records.judge(signed(other.key, forged), other.id) is Verdict.BAD
        assert await records.judge(signed(one.key, newer), other.id) is Verdict.USELESS
        assert records._issued_ms == newer.issued_ms
        assert await records.judge(signed(one.key, replace(newer, issued_ms=newer.issued_ms - 9)), other.id) is Verdict.USELESS
        assert records._issued_ms == newer.issued_ms


async def test_a_newcomer_asks_for_all_records_a_page_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("qnode.service.peers_records", "qnode.net.answers"):
        monkeypatch.setattr(f"{place}.RECORDS_MAX", 2, raising=False)
    async with town(tmp_path, 7) as t:
        old, new = t.nodes[:2], t.nodes[2]
        await t.start(*old)
        await t.linked(*old)
        expected = {}
        for node in t.nodes[3:]:
            said = record(t, node, f"192.0.2.{node.key.id[0]}:7")
            expected[node.id] = said.addresses
            for each in old:
                assert await each.service.records.judge(signed(node.key, said), b"") is Verdict.GOOD
        await new.start()
        await until(lambda: all(new.service.records.addresses(node) == where for node, where in expected.items()), "it knows all of them")


async def test_who_answers_with_lies_is_charged_and_not_asked_again(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        liar, asker, third = t.nodes

        async def lies(_node: bytes, _within_s: int) -> list[Signed]:
            return [liar.key.sign_noun("address", record(t, third))]

        await t.start(liar)
        liar.service.records.after = lies  # type: ignore[method-assign]
        await t.start(asker)
        await until(lambda: liar.id in asker.service.records._asked)
        link = asker.service.gossip.core.links[liar.id]
        assert link.score < -50
        assert asker.service.records.addresses(third.id) == (third.listen,)


async def test_who_is_struck_off_is_forgotten(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        one, gone, _ = t.nodes
        await t.start(one)
        assert await one.service.records.judge(signed(gone.key, record(t, gone)), b"") is Verdict.GOOD
        await until(lambda: one.keeper.records_of([gone.id]))
        t.writer.set_node_active(gone.id, False)
        t.write()
        one.service.network_changed()
        await until(lambda: not one.keeper.records_of([gone.id]))
        assert await one.service.records.after(bytes(32)) == []


async def test_what_the_disk_had_counts_after_a_restart_and_what_was_not_written_is_at_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 2) as t:
        one, other = t.nodes
        await t.start(one)
        monkeypatch.setattr(module, "FLUSH_S", 1000)
        assert await one.service.records.judge(signed(other.key, record(t, other)), b"") is Verdict.GOOD
        await one.stop()
        assert one.keeper.records_of([other.id])
        await one.start()
        assert one.service.core.addresses(other.id)[0] == "192.0.2.1:7400"


async def test_what_is_put_on_the_disk_while_a_page_is_read_stands_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(tmp_path, 3) as t:
        one, other, third = t.nodes
        monkeypatch.setattr(module, "FLUSH_S", 1000)
        await t.start(one)
        records = one.service.records
        assert await records.judge(signed(other.key, record(t, other)), b"") is Verdict.GOOD
        await records._flush()
        assert await records.judge(signed(third.key, record(t, third)), b"") is Verdict.GOOD
        read = one.keeper.records_of

        def records_of(nodes: list[bytes]) -> dict[bytes, Signed]:
            found = read(nodes)
            trio.from_thread.run(records._flush)
            return found

        monkeypatch.setattr(one.keeper, "records_of", records_of)
        page = await records.after(bytes(32))
        nodes = sorted((other, third), key=lambda node: node.id)
        for each, node in zip(page, nodes, strict=True):
            assert open_signed(each, AddressRecord, node.key.public, "address").node == node.id
