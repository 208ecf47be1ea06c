"""Commands against real daemons: what is proven of an account, what is signed without a network, merging users, rolling a grant over,
reporting an offence."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from support.chain_circle import CHAIN, QST, ChainCircle, fast
from support.daemon import until
from support.living_chain import BUYER, OPERATOR
from support.shell import Person

from qustream.client.settings import load_config, now_ms
from qustream.identity.voting import verify_vote
from qustream.light.nodes import ChannelNodes
from qustream.light.registry import LightRegistry
from qustream.model.genesis import Genesis, GenesisAccount, GenesisLicence
from qustream.model.ids import IdKind, licence_text, to_text
from qustream.model.network import NodeClass
from qustream.model.state import Parameters
from qustream.wire.chain_entries import EvidenceLine
from qustream.wire.codec import encode
from qustream.wire.consensus import Kind, Statement
from qustream.wire.transactions import DoubleSign

pytestmark = [pytest.mark.e2e]

IDLE = 7
EPOCH_MS = 10_000


class Town(ChainCircle):
    """One validator, one node that follows, two people with twelve words; one of them has a licence."""

    def _genesis(self, parameters: Parameters) -> Genesis:
        made = super()._genesis(parameters)
        accounts = [*made.accounts, *(GenesisAccount(holder.account, 1_000_000 * QST) for holder in (OPERATOR, BUYER))]
        idle = GenesisLicence(self.licence(IDLE), NodeClass.COMMUNITY, OPERATOR.account, "", 0, None)
        held = tuple(sorted(accounts, key=lambda each: each.account))
        return msgspec.structs.replace(made, accounts=held, licences=(*made.licences, idle))


def begun(person: Person, circle: Town) -> str:
    """A user of the person's words, who knows the chain by its checkpoint, and is entered in it."""
    node = circle.nodes[1]
    checkpoint, asked = circle.nodes[0].chain_page("checkpoint")["checkpoint"], f"{to_text(IdKind.NODE, node.key.id)}@{node.listen}"
    words = person.holder.words + "\n"
    user = person("qustream", "init", "--chain", CHAIN, "--checkpoint", checkpoint, "--node", asked, "--restore", typed=words).strip()
    person("qustream", "user", "register", "--yes", typed=words)
    return user


def test_what_is_proven_carried_merged_rolled_over_and_reported(tmp_path: Path) -> None:
    with Town(tmp_path, 1, followers=1, people=1, parameters=fast(epoch_ms=EPOCH_MS)) as circle:
        circle.start()
        circle.until_height(4)
        validator, follower = circle.nodes
        buyer = Person(BUYER, tmp_path / "buyer", f"http://{follower.pages}")
        operator = Person(OPERATOR, tmp_path / "operator", f"http://{validator.pages}")
        assert buyer.json("qustream", "wallet", "balance")["proven"] is None
        first, into = begun(buyer, circle), begun(operator, circle)
        bought = buyer.json("qustream", "grant", "buy", 20, "--yes")["grant"]

        _proven(buyer)
        _carried(operator, circle, tmp_path)
        _merged(buyer, operator, tmp_path, first=first, into=into)
        _rolled_over(buyer, circle, bought)
        _reported(buyer, circle, tmp_path)


def _proven(buyer: Person) -> None:
    """The state that is proven is a few blocks old: what the account had then is what it has now."""

    def is_proven() -> bool:
        page = buyer.json("qustream", "wallet", "balance")
        return bool(page["proven"]["balance"] == page["balance"] and page["proven"]["nonce"] == page["nonce"] == 2)

    until(is_proven, patience_s=60)
    assert "proven after block" in buyer("qustream", "wallet", "balance")


def _carried(operator: Person, circle: Town, folder: Path) -> None:
    """The machine that speaks with the chain has no key; the one with the key is given no node."""
    name, online, file = licence_text(circle.licence(IDLE)), folder / "online", folder / "sell.json"
    api = f"http://{circle.nodes[0].pages}"
    operator("qustream", "--home", online, "wallet", "watch", OPERATOR.name, "--chain", CHAIN, "--api", api)
    operator("qnode", "licence", "sell", name, 7000, "--wallet", online, "--unsigned", file)
    vault = folder / "vault"
    operator("qustream", "--home", vault, "wallet", "restore", "--chain", CHAIN, typed=OPERATOR.words)
    assert f"licence {name}" in operator("qustream", "--home", vault, "wallet", "sign", file, code=2)
    operator("qustream", "--home", vault, "wallet", "sign", file, "--yes")
    sent = operator.json("qustream", "--home", online, "wallet", "submit", f"{file}.signed")
    assert (sent["state"], sent["action"]) == ("executed", "list-licence")
    assert circle.nodes[0].chain_page(f"licences/{name}")["price"]["units"] == str(7000 * QST)
    # Once more it is the same transaction; another of that nonce is refused.
    assert operator.json("qustream", "--home", online, "wallet", "submit", f"{file}.signed")["id"] == sent["id"]
    said = json.loads(file.read_bytes())
    operator("qnode", "licence", "unsell", name, "--wallet", online, "--unsigned", folder / "late.json", "--nonce", said["nonce"])
    operator("qustream", "--home", vault, "wallet", "sign", folder / "late.json", "--yes")
    assert "E-LEDGER-NONCE" in operator("qustream", "--home", online, "wallet", "submit", folder / "late.json.signed", code=1)


def _merged(buyer: Person, operator: Person, folder: Path, *, first: str, into: str) -> None:
    """Each agrees where his words are. Whoever asks by proofs is told whom to write to."""
    files = [folder / "buyer.consent", folder / "operator.consent"]
    for person, file in zip((buyer, operator), files, strict=True):
        person("qustream", "user", "agree-merge", first, into, "-o", file, typed=person.holder.words)
    assert operator.json("qustream", "user", "merge", *files, "--yes")["action"] == "merge-users"
    assert f"merged   into {into}" in buyer("qustream", "user", "show", first)
    one, other = (holder.secrets.master.id for holder in (BUYER, OPERATOR))

    config = load_config(buyer.home)
    nodes = ChannelNodes(config.asked, CHAIN)
    registry = LightRegistry(CHAIN, config.pinned, nodes, verify=verify_vote, clock_ms=now_ms)

    def is_told() -> bool:
        registry.refresh(now_ms())
        assert [entry.revoked for entry in registry.user(one).devices] == [False]
        return registry.addressee(one) == registry.addressee(other) == other

    try:
        until(is_told, patience_s=60)
    finally:
        nodes.close()


def _rolled_over(buyer: Person, circle: Town, old: str) -> None:
    """What a merged user had paid for stays his."""
    epoch = circle.nodes[0].chain_page(f"grants/{old}")["epoch"]
    circle.until(lambda node: node.chain_page("status")["epoch"] >= epoch + 2)
    new = buyer.json("qustream", "grant", "roll-over", old, "--count", 15, "--yes")["grant"]
    page = circle.nodes[0].chain_page(f"grants/{new}")
    assert (page["count"], page["owner"]) == (15, circle.nodes[0].chain_page(f"grants/{old}")["owner"])
    assert "E-LEDGER-KNOWN" in buyer("qustream", "grant", "roll-over", old, "--yes", code=1)
    assert "E-LEDGER-STATUS" in buyer("qustream", "grant", "buy", 5, "--yes", code=1)


def _reported(buyer: Person, circle: Town, folder: Path) -> None:
    """Evidence in a file, as a node that saw it would have given it."""
    assert circle.nodes[1].chain_page("evidence") == {"evidence": []}
    vote = circle.nodes[0].vote_key
    said = [Statement(CHAIN, 1, 9_999, Kind.NOTAR, bytes([number]) * 32) for number in (1, 2)]
    action = DoubleSign(vote.public, said[0], vote.sign(said[0]), said[1], vote.sign(said[1]))
    licence, file = licence_text(circle.licence(0)), folder / "offence.json"
    file.write_bytes(msgspec.json.encode(EvidenceLine(CHAIN, "", licence, 1, 9_999, "", "", "", encode(action).hex())))
    done = buyer.json("qnode", "validator", "report", file, "--wallet", buyer.home, "--yes")
    assert [event["name"] for event in done["events"]] == ["validator-slashed", "licence-removed"]
    assert circle.nodes[0].chain_page(f"licences/{licence}")["status"] == "removed"
