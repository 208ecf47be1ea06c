"""The pages about the chain, over HTTP, of a chain on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from support.chain_pages import Site, shown
from support.ledger_world import QST, LedgerWorld, key, signed
from support.stored_chain import StoredChain

from qnode.api.chain import PAGES, SubmitLimits
from qnode.service.light import first_checkpoint
from qustream.errors import CODES
from qustream.model.ids import IdKind, account_id, licence_text, to_text
from qustream.model.state import Table
from qustream.rules.radix import Proof, verify
from qustream.wire import chain_entries, chain_json
from qustream.wire.bundle import BUNDLE_MAX_BYTES, Bundle
from qustream.wire.chain import genesis_digest
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import Certificate, ChainHeader, header_digest
from qustream.wire.light import checkpoint_digest
from qustream.wire.transactions import BuyLicence, Delegate, ListLicence, Transfer, Undelegate, transaction_id


def account(role: str, number: int = 0) -> str:
    return to_text(IdKind.ACCOUNT, account_id(key(role, number).id))


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[StoredChain]:
    made = StoredChain(tmp_path / "chain", LedgerWorld(validators=4, nodes=1, idle=2, people=3))
    yield made
    made.store.close()


@pytest.fixture
def busy(chain: StoredChain) -> StoredChain:
    """Five blocks: a transfer, a refused one, a licence that is listed and sold, a delegation."""
    world, idle = chain.world, chain.world.licences[5]
    chain.block(chain.transfer(0, 1, 5 * QST))
    chain.block(world.checked(world.owners[5], ListLicence(idle, 7 * QST)), world.checked(world.people[2], BuyLicence(idle, 6 * QST)))
    chain.block(world.checked(world.people[0], BuyLicence(idle, 7 * QST)))
    chain.block(world.checked(world.people[1], Delegate(world.licences[0], 50 * QST)))
    chain.block(world.checked(world.people[1], Undelegate(world.licences[0], 20 * QST)))
    return chain


async def pages(site: Site, path: str, lines: str, **query: str) -> list[Any]:
    """All lines of all pages, one line a page."""
    found: list[Any] = []
    cursor = ""
    name = "before" if path.startswith(("blocks", "market/sales")) or path.endswith("history") else "after"
    while True:
        asked = "&".join(f"{k}={v}" for k, v in ({"limit": "1"} | query | ({name: cursor} if cursor else {})).items())
        status, page = await site.get(f"{path}?{asked}")
        assert status == 200, page
        found += page[lines]
        cursor = page["next"]
        if not cursor:
            return found


async def test_status(busy: StoredChain) -> None:
    async with shown(busy) as site:
        status, page = await site.get("status")
    final = busy.store.final
    assert status == 200
    assert (page["chain"], page["genesis"]) == ("ledger-test", genesis_digest(busy.world.genesis).hex())
    assert (page["height"], page["digest"], page["executed"]) == (5, final.digest.hex(), 5)
    assert (page["root"], page["certified"], page["rotation"], page["waiting"]) == ((busy.store.root(5) or b"").hex(), 2, 1, 0)
    assert page["edge_ms"] > page["time_ms"]


async def test_a_chain_that_has_just_begun(chain: StoredChain) -> None:
    async with shown(chain) as site:
        for path in (
            "status",
            "blocks",
            "supply",
            "rotation",
            "market",
            "market/sales",
            "incidents",
            "qrng",
            f"accounts/{account('person')}",
        ):
            assert (await site.get(path))[0] == 200, path
        assert (await site.get("status"))[1]["certified"] == -1
        assert (await site.get("blocks"))[1] == {"blocks": [], "next": ""}
        assert (await site.get("blocks/0"))[0] == 404
        assert (await site.get("proof/supply/-"))[0] == 400
        assert (await site.get("proof/totals/-"))[0] == 404


async def test_blocks_by_height_by_digest_and_in_pages(busy: StoredChain) -> None:
    async with shown(busy) as site:
        listed = await pages(site, "blocks", "blocks")
        assert [line["height"] for line in listed] == [5, 4, 3, 2, 1]
        _, page = await site.get("blocks/2")
        assert page == (await site.get(f"blocks/{page['digest']}"))[1]
        assert (page["count"], len(page["transactions"]), page["is_executed"]) == (2, 2, True)
        assert [receipt["code"] for receipt in page["receipts"]] == ["", "E-LEDGER-PRICE"]
        assert page["receipts"][0]["events"] == [
            {"name": "licence-listed", "subject": licence_text(busy.world.licences[5]), "other": account("owner", 5),
             "amount": {"qst": "7.000000000", "units": "7000000000"}, "number": None}
        ]  # fmt: skip
        assert page["proposer"] in {licence_text(licence) for licence in busy.world.licences[:4]}
        assert page["parent"] == (await site.get("blocks/1"))[1]["digest"]
        _, header = await site.get("blocks/2/header")
        assert header_digest(decode(header, ChainHeader, max_bytes=9999)).hex() == page["digest"]
        _, certificate = await site.get("blocks/2/finalisation")
        assert decode(certificate, Certificate, max_bytes=1 << 20).rotation == 1
        # A transaction's id is no block's.
        assert (await site.get(f"blocks/{page['transactions'][0]}"))[0] == 404
        assert (await site.get("blocks/6"))[0] == 404


async def test_transactions_that_were_executed(busy: StoredChain) -> None:
    async with shown(busy) as site:
        names = (await site.get("blocks/2"))[1]["transactions"]
        _, listing = await site.get(f"transactions/{names[0]}")
        _, refused = await site.get(f"transactions/{names[1]}")
        _, raw = await site.get(f"transactions/{names[0]}/raw")
    assert (listing["state"], listing["height"], listing["index"], listing["code"]) == ("executed", 2, 0, "")
    assert (listing["action"], listing["sender"], listing["size"]) == ("list-licence", account("owner", 5), len(raw))
    assert listing["fields"] == {
        "licence": licence_text(busy.world.licences[5]), "price": {"qst": "7.000000000", "units": "7000000000"},
    }  # fmt: skip
    assert (refused["index"], refused["code"], refused["action"], refused["events"]) == (1, "E-LEDGER-PRICE", "buy-licence", [])
    assert raw == busy.store.transaction(bytes.fromhex(names[0]))


async def test_accounts_with_what_they_own_and_have_on_its_way(busy: StoredChain) -> None:
    async with shown(busy) as site:
        _, buyer = await site.get(f"accounts/{account('person', 0)}")
        _, delegator = await site.get(f"accounts/{account('person', 1)}")
        _, nobody = await site.get(f"accounts/{account('nobody')}")
        _, validator = await site.get(f"accounts/{account('owner', 0)}")
        delegations = await pages(site, f"accounts/{account('person', 1)}/delegations", "delegations")
        theirs = await pages(site, f"validators/{licence_text(busy.world.licences[0])}/delegations", "delegations")
        path = f"accounts/{account('person', 1)}/delegations"
        assert (await site.get(f"{path}/{licence_text(busy.world.licences[0])}"))[1] == delegations[0]
        assert (await site.get(f"{path}/{licence_text(busy.world.licences[1])}"))[0] == 404
    assert (buyer["nonce"], buyer["next_nonce"], buyer["known"]) == (2, 2, True)
    assert [line["id"] for line in buyer["licences"]] == [licence_text(busy.world.licences[5])]
    assert int(delegator["balance"]["units"]) == busy.world.liquid(busy.world.account(1))
    [part] = delegator["unbonding"]
    assert (part["licence"], part["amount"]["qst"]) == (licence_text(busy.world.licences[0]), "20.000000000")
    assert (nobody["balance"]["units"], nobody["known"], nobody["licences"]) == ("0", False, [])
    assert validator["staked"]["qst"] == "200000.000000000"
    assert delegations == theirs
    assert [(line["account"], line["amount"]["qst"]) for line in delegations] == [(account("person", 1), "30.000000000")]


async def test_histories_of_accounts_licences_and_the_market(busy: StoredChain) -> None:
    name = licence_text(busy.world.licences[5])
    async with shown(busy) as site:
        buyer = await pages(site, f"accounts/{account('person', 0)}/history", "entries")
        licence = await pages(site, f"licences/{name}/history", "entries")
        sales = await pages(site, "market/sales", "sales")
    assert [(entry["height"], entry["index"], entry["code"]) for entry in buyer] == [(3, 0, ""), (1, 0, "")]
    assert [(entry["height"], entry["events"][0]["name"]) for entry in licence] == [(3, "licence-bought"), (2, "licence-listed")]
    [sale] = sales
    assert (sale["height"], sale["licence"], sale["buyer"], sale["price"]["qst"]) == (3, name, account("person", 0), "7.000000000")
    assert sale["time_ms"] == busy.world.genesis.time_ms + 3000


async def test_licences_nodes_validators_in_pages_and_one_by_one(busy: StoredChain) -> None:
    world = busy.world
    async with shown(busy) as site:
        licences = await pages(site, "licences", "licences")
        owned = await pages(site, "licences", "licences", owner=account("person", 0))
        nodes = await pages(site, "nodes", "nodes")
        validators = await pages(site, "validators", "validators")
        for path, lines in (("licences", licences), ("nodes", nodes)):
            for line in lines:
                assert (await site.get(f"{path}/{line['id']}"))[1] == line
        for line in validators:
            assert (await site.get(f"validators/{line['licence']}"))[1] == line
        assert (await site.get(f"validators/{licence_text(world.licences[5])}"))[0] == 404
        _, rotation = await site.get("rotation")
        assert rotation == (await site.get("rotations/1"))[1]
    assert [line["id"] for line in licences] == [licence_text(name) for name in world.licences]
    assert [line["id"] for line in owned] == [licence_text(world.licences[5])]
    assert [line["status"] for line in licences] == ["active"] * 5 + ["idle"] * 2
    assert (licences[0]["node_class"], licences[0]["validates"], licences[4]["validates"]) == ("foundation", True, False)
    assert len(nodes) == 5
    assert [line["seat"] for line in validators] == [0, 1, 2, 3]
    assert validators[0]["delegated"]["qst"] == "30.000000000"
    assert sum(int(line["weight"]["units"]) for line in rotation["seats"]) == int(rotation["weight"]["units"]) == 4 * 200_000 * QST
    assert sum(line["views"] for line in rotation["seats"]) == len(rotation["order"]) == 64


async def test_the_market(busy: StoredChain) -> None:
    world = busy.world
    busy.block(world.checked(world.owners[6], ListLicence(world.licences[6], 9 * QST)),
               world.checked(world.people[0], ListLicence(world.licences[5], 8 * QST)))  # fmt: skip
    async with shown(busy) as site:
        _, page = await site.get("market")
        site.block(world.checked(world.people[2], BuyLicence(world.licences[5], 8 * QST)))
        _, after = await site.get("market")
    assert [(line["licence"], line["price"]["qst"]) for line in page["listings"]] == [
        (licence_text(world.licences[5]), "8.000000000"), (licence_text(world.licences[6]), "9.000000000"),
    ]  # fmt: skip
    assert page["fee_bp"] == 100
    assert [line["licence"] for line in after["listings"]] == [licence_text(world.licences[6])]


async def test_money_and_figures(busy: StoredChain) -> None:
    async with shown(busy) as site:
        _, supply = await site.get("supply")
        _, parameters = await site.get("parameters")
        _, epoch = await site.get("epochs/0")
    parts = {name: int(supply[name]["units"]) for name in ("liquid", "staked", "unbonding", "pools", "minted", "burned")}
    assert parts["minted"] - parts["burned"] == parts["liquid"] + parts["staked"] + parts["unbonding"] + parts["pools"]
    assert sum(int(pool["units"]) for pool in supply["each"].values()) == parts["pools"]
    assert parameters["parameters"] == msgspec.structs.asdict(busy.world.parameters)
    assert parameters["amounts"]["stake"]["qst"] == "200000.000000000"
    assert (epoch["height"], epoch["seed"]) == (0, busy.world.genesis.seed.hex())


async def test_a_checkpoint_to_begin_from(busy: StoredChain) -> None:
    async with shown(busy) as site:
        _, page = await site.get("checkpoint")
    first = first_checkpoint(busy.world.genesis)
    assert page["checkpoint"] == to_text(IdKind.CHECKPOINT, checkpoint_digest(first))
    assert (page["rotation"], page["set"], page["time_ms"]) == (1, first.set.hex(), busy.world.genesis.time_ms)


@pytest.mark.parametrize("there", [True, False])
async def test_entries_are_proved_under_a_root_that_a_final_header_names(busy: StoredChain, there: bool) -> None:
    name = account("person" if there else "nobody", 0)
    raw = account_id(key("person" if there else "nobody", 0).id)
    async with shown(busy) as site:
        _, page = await site.get(f"proof/account/{name}")
        assert page == (await site.get(f"proof/5/{raw.hex()}"))[1]
    header = decode(bytes.fromhex(page["header"]), ChainHeader, max_bytes=9999)
    assert (header.executed, header.executed_root.hex(), header.height) == (page["height"], page["root"], page["named_at"])
    assert header == busy.store.header_at(page["named_at"])
    value = bytes.fromhex(page["value"]) if page["value"] is not None else None
    proof = Proof(tuple(bytes.fromhex(node) for node in page["inner"]), bytes.fromhex(page["bucket"]))
    assert (value is not None) is there
    assert verify(header.executed_root, bytes([Table.ACCOUNT]) + raw, value, proof)
    assert not verify(header.executed_root, bytes([Table.ACCOUNT]) + raw, b"\x92\x00\x01", proof)


async def test_a_transaction_is_sent_waits_and_is_executed(chain: StoredChain) -> None:
    world = chain.world
    raw = signed(world.people[0], world.body(world.people[0], Transfer(world.account(1), 5)))
    async with shown(chain) as site:
        status, sent = await site.post("transactions", raw)
        assert status == 202
        _, waiting = await site.get(f"transactions/{sent['id']}")
        _, before = await site.get(f"accounts/{account('person', 0)}")
        assert (await site.get("status"))[1]["waiting"] == 1
        assert (await site.get(f"transactions/{sent['id']}/raw"))[1] == raw
        chain.raws[bytes.fromhex(sent["id"])] = site.pool.waiting[bytes.fromhex(sent["id"])][1]
        chain.store.keep_transactions([(bytes.fromhex(sent["id"]), raw)]).result()
        block = chain.next_block(site.pool.take())
        chain.finalise(block)
        _, final = await site.get(f"transactions/{sent['id']}")
        chain.execute(block)
        _, executed = await site.get(f"transactions/{sent['id']}")
        again = await site.post("transactions", raw)
    assert (waiting["state"], waiting["height"], waiting["index"]) == ("waiting", -1, -1)
    assert (before["nonce"], before["next_nonce"], before["known"]) == (0, 1, False)
    assert (final["state"], final["height"]) == ("final", 1)
    assert (executed["state"], executed["events"][0]["name"]) == ("executed", "transferred")
    assert again[0] == 422
    assert again[1]["code"] == "E-LEDGER-NONCE"
    assert again[1]["remedy"] == CODES["E-LEDGER-NONCE"].remedy


async def test_several_are_sent_at_once_and_each_is_answered(chain: StoredChain) -> None:
    world = chain.world
    bodies = [world.body(world.people[0], Transfer(bytes(20), 5)) for _ in range(3)]
    raws = [signed(world.people[0], body) for body in (*bodies, world.body(world.people[0], Transfer(bytes(20), 5), nonce=9))]
    async with shown(chain) as site:
        status, page = await site.post("transactions/bundle", encode(Bundle((*raws, b"garbage"))))
        assert status == 200
        assert [line["id"] for line in page["transactions"]] == [transaction_id(raw).hex() for raw in (*raws, b"garbage")]
        assert [line["code"] for line in page["transactions"]] == ["", "", "", "E-LEDGER-NONCE", "E-WIRE-MALFORMED"]
        assert all(bool(line["detail"]) == bool(line["code"]) for line in page["transactions"])
        assert (await site.get("status"))[1]["waiting"] == 3


@pytest.mark.parametrize("body", [b"", b"garbage", encode(Bundle(())), encode(Bundle((b"",))), encode(Bundle((b"x",) * 25))])
async def test_what_is_no_bundle_is_refused_as_a_whole(chain: StoredChain, body: bytes) -> None:
    async with shown(chain) as site:
        status, page = await site.post("transactions/bundle", body)
        assert (status, page["code"]) == (422, "E-LEDGER-FORM")
        assert (await site.post("transactions/bundle", bytes(BUNDLE_MAX_BYTES + 1)))[0] == 413


async def test_a_bundle_counts_as_what_is_in_it(chain: StoredChain) -> None:
    # Here and below nothing comes back with time, however long the questions take.
    async with shown(chain, submits=SubmitLimits(burst_per_address=10, rate_per_address_per_s=0, burst=100)) as site:
        assert (await site.post("transactions/bundle", encode(Bundle((b"x",) * 8))))[0] == 200
        status, page = await site.post("transactions/bundle", encode(Bundle((b"x",) * 8)))
        assert (status, page["code"]) == (429, "E-PEER-LIMIT")
        assert (await site.post("transactions/bundle", encode(Bundle((b"x",) * 2))))[0] == 200
        assert (await site.post("transactions/check", b"x"))[0] == 429


async def test_who_sends_too_much_is_told_to_wait(chain: StoredChain) -> None:
    async with shown(chain, submits=SubmitLimits(burst_per_address=3, rate_per_address_per_s=0, burst=100)) as site:
        codes = [(await site.post("transactions/check", b"x"))[1]["code"] for _ in range(4)]
        assert codes == ["E-LEDGER-FORM"] * 3 + ["E-PEER-LIMIT"]
        head = b"POST /v1/chain/transactions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n"
        status, headers, _ = await site.raw(head + b"Content-Length: 1\r\n\r\nx")
        assert (status, headers["retry-after"]) == (429, "5")
        assert (await site.get("status"))[0] == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 404), ("nothing", 404), ("accounts", 404), ("accounts/", 400), ("accounts/x", 400), ("accounts/qn1abc", 400),
        ("accounts/" + "q" * 7000, 400), ("status/", 404), ("blocks/-1", 400), ("blocks/1e3", 400), ("blocks/01", 400),
        ("blocks/" + "f" * 64, 404), ("blocks/" + "F" * 64, 400), ("blocks/99999999999999999999", 400), ("blocks/" + "9" * 16, 400),
        ("blocks/٣", 400), ("rotations/1000000", 404), ("rotations/9007199254740991", 404), ("transactions/" + "0" * 64, 404),
        ("transactions/00", 400), ("licences/ABC", 400), ("epochs/5", 404), ("blocks?limit=0", 400), ("blocks?limit=101", 400),
        ("blocks?limit=x", 400), ("blocks?before=-1", 400), ("blocks?before=0", 200), ("blocks?colour=red", 400),
        ("blocks?limit=1&limit=2", 200), ("blocks?" + "a" * 600, 400), ("blocks?" + "&" * 20, 400), ("licences?after=zz", 400),
        ("licences?after=" + "00" * 65, 400), ("licences?after=" + "ff" * 64, 200), ("licences?owner=qst1", 400),
        ("market/sales?before=5", 400), ("market/sales?before=5.0", 200), ("market/sales?before=0.9007199254740991", 200),
        ("market/sales?before=5.0.0", 400), ("proof/account/zz", 400), ("proof/0/-", 400), ("proof/24/-", 400),
        ("proof/5/" + "00" * 97, 400), ("proof/5/" + "00" * 96, 200), ("events?after=x", 400), ("events?after=-1", 400),
        ("events?before=1", 200),
        ("incidents/" + "0" * 64, 404), ("%61ccounts/x", 404), ("../status", 404), ("accounts//history", 400),
    ],
)  # fmt: skip
async def test_paths_and_queries_of_every_kind(busy: StoredChain, path: str, status: int) -> None:
    async with shown(busy) as site:
        if path.startswith("events"):
            async with await site.connect() as stream:
                await stream.send_all(f"GET /v1/chain/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                with trio.fail_after(60):
                    assert (await stream.receive_some(1000)).startswith(f"HTTP/1.1 {status} ".encode())
            return
        found, page = await site.get(path)
        assert found == status, page
        if status >= 400:
            assert page["error"]
            assert set(page) <= {"error", "code", "remedy"}


async def test_every_page_is_what_its_shape_says(busy: StoredChain) -> None:
    """Each page decodes as one of the shapes, no field more or less."""
    names = {
        "<account>": account("person", 1), "<licence>": licence_text(busy.world.licences[0]), "<block>": "2", "<number>": "1",
        "<node>": to_text(IdKind.NODE, key("node", 0).id), "<table>": "licence", "<name>": licence_text(busy.world.licences[0]),
    }  # fmt: skip
    shapes = [getattr(module, name) for module in (chain_json, chain_entries) for name in module.__all__ if name != "amount"]
    async with shown(busy) as site:
        names["<digest>"] = (await site.get("blocks/2"))[1]["transactions"][0]
        for template in PAGES:
            path = "/".join(names.get(part, part) for part in template.split("/"))
            if "<" in path or template in ("epochs/<number>", "incidents/<digest>", "evidence/<digest>", "users/<user>"):
                continue
            status, page = await site.get(path)
            assert status == 200, (path, page)
            assert isinstance(page, bytes) or any(_fits(page, shape) for shape in shapes), path


def _fits(page: dict[str, Any], shape: type[msgspec.Struct]) -> bool:
    if set(page) != set(shape.__struct_fields__):
        return False
    msgspec.convert(page, shape, strict=True)
    return True
