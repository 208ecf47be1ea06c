"""What people do with a chain, by the commands as real processes and nodes as real daemons: send, buy a licence, register, buy requests."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.chain_circle import CHAIN, QST, ChainCircle, ChainNodeProcess
from support.living_chain import BUYER, OPERATOR
from support.shell import Person

from qustream.model.genesis import Genesis, GenesisAccount, GenesisLicence
from qustream.model.ids import IdKind, from_text, licence_text, to_text
from qustream.model.network import NodeClass
from qustream.model.state import Parameters, Table
from qustream.rules.radix import Proof, verify
from qustream.wire.codec import decode
from qustream.wire.consensus import Certificate, ChainHeader

pytestmark = [pytest.mark.e2e]

BIN = Path(sys.executable).parent
IDLE = 7
PRICE = 7500


class Market(ChainCircle):
    """One validator, one node that follows, two people with twelve words, and a licence for sale."""

    def _genesis(self, parameters: Parameters) -> Genesis:
        made = super()._genesis(parameters)
        accounts = [*made.accounts, *(GenesisAccount(holder.account, 1_000_000 * QST) for holder in (OPERATOR, BUYER))]
        idle = GenesisLicence(self.licence(IDLE), NodeClass.COMMUNITY, OPERATOR.account, "", PRICE * QST, None)
        held = tuple(sorted(accounts, key=lambda each: each.account))
        return msgspec.structs.replace(made, accounts=held, licences=(*made.licences, idle))


def events(node: ChainNodeProcess, after: int, last_id: str = "") -> Any:
    """The next block behind `after`, as the stream of a node has it."""
    host, port = node.pages.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("GET", f"/v1/chain/events?after={after}", headers={"Last-Event-ID": last_id} if last_id else {})
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/event-stream"
        while not (line := answer.readline()).startswith(b"data: "):
            assert line
        return json.loads(line.removeprefix(b"data: "))
    finally:
        connection.close()


def test_people_deal_with_a_chain_by_commands(tmp_path: Path) -> None:
    with Market(tmp_path, 1, followers=1, people=1) as circle:
        circle.start()
        circle.until_height(4)
        validator, follower = circle.nodes
        # What the follower is told goes to the validator by gossip, and comes back in a block.
        buyer = Person(BUYER, tmp_path / "buyer", f"http://{follower.pages}")
        operator = Person(OPERATOR, tmp_path / "operator", f"http://{validator.pages}")

        sent = buyer.json("qustream", "wallet", "send", OPERATOR.name, "12.5", "--yes")
        assert (sent["state"], sent["code"]) == ("executed", "")
        assert operator.json("qustream", "wallet", "balance")["balance"]["qst"] == "1000012.500000000"
        assert "nobody is there to be asked" in buyer("qustream", "wallet", "send", OPERATOR.name, "1", code=2)
        assert "E-LEDGER-FUNDS" in buyer("qustream", "wallet", "send", OPERATOR.name, "5000000", "--yes", code=1)

        name = licence_text(circle.licence(IDLE))
        assert f"{PRICE} QST" in buyer("qnode", "licence", "list", "--for-sale")
        bought = buyer.json("qnode", "licence", "buy", name, "--price", PRICE, "--yes")
        assert bought["events"][0]["name"] == "licence-bought"
        circle.until(lambda node: node.chain_page(f"licences/{name}")["owner"] == BUYER.name)
        assert operator("qnode", "licence", "list", "--for-sale") == ""
        assert validator.chain_page("market/sales")["sales"][0]["transaction"] == bought["id"]

        _requests(buyer, circle)
        _proved(circle)
        _followed(circle)


def _requests(buyer: Person, circle: ChainCircle) -> None:
    """A user begins from the chain's checkpoint alone, and buys requests."""
    checkpoint = buyer("qnode", "genesis", "checkpoint", circle.folder / "genesis.bin").strip()
    assert circle.nodes[0].chain_page("checkpoint")["checkpoint"] == checkpoint
    node = circle.nodes[1]
    asked = f"{to_text(IdKind.NODE, node.key.id)}@{node.listen}"
    user = buyer(
        "qustream", "init", "--chain", CHAIN, "--checkpoint", checkpoint, "--node", asked, "--restore", typed=BUYER.words + "\n"
    ).strip()  # fmt: skip
    assert "E-LEDGER-UNKNOWN" in buyer("qustream", "grant", "buy", 20, "--yes", code=1)
    buyer("qustream", "user", "register", "--yes", typed=BUYER.words + "\n")
    bought = buyer.json("qustream", "grant", "buy", 20, "--yes")
    [grant] = buyer.json("qustream", "grant", "list")
    assert (grant["id"], grant["owner"], grant["left"]) == (bought["grant"], user, 20)
    assert circle.nodes[0].chain_page(f"users/{user}/grants")["grants"][0]["id"] == grant["id"]
    pools = circle.nodes[0].chain_page("supply")["each"]
    assert int(pools["nodes"]["units"]) == 2 * int(pools["operations"]["units"]) > 0
    _second_device(buyer, circle, ("--chain", CHAIN, "--checkpoint", checkpoint, "--node", asked))


def _second_device(buyer: Person, circle: ChainCircle, network: tuple[str, ...]) -> None:
    """What was bought on one device serves on another, which asks the chain what it is; and the words rotate and renew."""
    words = BUYER.words + "\n"
    phone = Person(BUYER, circle.folder / "phone", f"http://{circle.nodes[0].pages}")
    phone("qustream", "init", *network, "--restore", "--stripe", 1, typed=words)
    device, file = phone.json("qustream", "whoami")["device"], circle.folder / "grant.share"
    for person in (buyer, phone):
        assert person("qustream", "rotate", typed=words) == "rUID key number 1\n"
    name = buyer.json("qustream", "grant", "buy", 9, "--stripes", 2, "--yes")["grant"]
    assert "E-DEVICE-UNKNOWN" in buyer("qustream", "grant", "share", name, "--to", device, "-o", file, code=1)
    buyer("qustream", "user", "add-device", device, "--yes", typed=words)
    circle.until(lambda _: phone.json("qustream", "whoami")["enrolled"])  # what is proven is a block behind what is executed
    buyer("qustream", "grant", "share", name, "--to", device, "-o", file)
    assert "E-GRANT-SHARE" in buyer("qustream", "grant", "adopt", file, code=78)
    assert "4 requests for this device" in phone("qustream", "grant", "adopt", file)
    assert "E-GRANT-SHARE" in phone("qustream", "grant", "adopt", file, code=78)
    left = {each["grant"]: each["left"] for each in phone.json("qustream", "whoami")["grants"]}
    assert left == {name: 4}
    assert "certificate until" in phone("qustream", "renew", typed=words)


def _proved(circle: ChainCircle) -> None:
    """What the follower says of an account is what a quorum has signed."""
    page = circle.nodes[1].chain_page(f"proof/account/{BUYER.name}")
    header = decode(bytes.fromhex(page["header"]), ChainHeader, max_bytes=9999)
    proof = Proof(tuple(map(bytes.fromhex, page["inner"])), bytes.fromhex(page["bucket"]))
    value = bytes.fromhex(page["value"])
    assert verify(header.executed_root, bytes([Table.ACCOUNT]) + from_text(BUYER.name, IdKind.ACCOUNT), value, proof)
    assert circle.nodes[0].chain_page(f"blocks/{page['named_at']}")["executed_root"] == page["root"]
    _, raw = circle.nodes[1].page(f"/v1/chain/blocks/{page['named_at']}/finalisation")
    assert decode(raw, Certificate, max_bytes=1 << 20).rotation == header.rotation


def _followed(circle: ChainCircle) -> None:
    """A reader that loses one node goes on at another, and has every block."""
    first = events(circle.nodes[0], 1)
    second = events(circle.nodes[1], 0, last_id=str(first["height"]))
    assert (first["height"], second["height"]) == (2, 3)
    assert second["parent"] == first["digest"]
    head = circle.nodes[1].chain_page("status")["executed"]
    assert events(circle.nodes[1], head)["height"] == head + 1  # it waits for it
