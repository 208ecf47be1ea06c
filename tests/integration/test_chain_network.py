"""A local network with a chain as its operator and its users have it: real daemons, real commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.network import BIN, ROOT, Network, User, run
from support.places import free_base_port

pytestmark = pytest.mark.e2e
# Blocks that a loaded machine with two processors needs at most so many seconds for.
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with free_base_port() as base_port:
        made = Network(tmp_path_factory.mktemp("chain") / "network")
        try:
            made.testnet("up", "--base-port", str(base_port), "--rotation", "20")
            made.layout = json.loads((made.directory / "layout.json").read_text())
            yield made
        finally:
            run(ROOT / "scripts" / "testnet.py", "down", "--dir", made.directory, "--forget")


def status(network: Network, name: str) -> dict[str, object]:
    done = run(BIN / "qnode", "status", "--json", "--config", network.directory / name / "qnode.toml")
    return done.json if done.code == 0 else {"height": -1}


def height(network: Network, name: str) -> int:
    return int(str(status(network, name)["height"]))


def above(network: Network, least: int, *names: str) -> None:
    until(lambda: all(height(network, name) > least for name in names), patience_s=PATIENCE_S)


def entered(network: Network, name: str) -> User:
    """A user of his own, entered in the chain, with money and a grant."""
    user = User(network, name)
    ids, port = network.layout["nodes"], network.layout["base_port"]
    nodes = [f"--node={ids[each]}@127.{each[4:]}.0.1:{port}" for each in ("node1", "node4", "node6")]
    where = ("--chain", network.layout["chain"], "--checkpoint", network.layout["checkpoint"], *nodes)
    made = user("init", *where, "--label", name)
    assert made.code == 0, made.err
    user.id = made.out.strip()
    words = user.home.parent / f"{name}.words"
    words.write_text(next(line.strip() for line in made.err.splitlines() if line.startswith("    ")))
    network.testnet("enrol", user.home, "--credential", user.credential, "--words-file", words)
    network.testnet("grant", user.home, "--credential", user.credential, "--count", "32")
    return user


def sent(sender: User, to: User, folder: Path, name: str) -> Path:
    """An envelope."""
    plain, envelope = folder / name, folder / f"{name}.qs"
    plain.write_bytes(name.encode() * 1000)
    done = sender("encrypt", plain, "--to", to.id, "-o", envelope)
    assert done.code == 0, done.err
    return envelope


def opens(user: User, envelope: Path) -> None:
    opened = envelope.with_suffix(".opened")
    done = user("open", envelope, "-o", opened)
    assert done.code == 0, done.err
    assert opened.read_bytes() == envelope.with_suffix("").read_bytes()


def test_users_are_entered_and_served_while_nodes_fail_and_come_back(network: Network, tmp_path: Path) -> None:
    alice, bob = entered(network, "alice"), entered(network, "bob")
    first = sent(alice, bob, tmp_path, "first")
    network.testnet("kill", "node2", "node6")  # a validator, and a follower; two of three of each class are left
    above(network, height(network, "node1") + 3, "node1", "node3", "node4", "node5")
    opens(bob, first)
    network.testnet("restart", "node2", "node6")
    above(network, height(network, "node1"), "node2", "node6")  # they have caught up, and go on
    opens(alice, sent(bob, alice, tmp_path, "second"))


def test_a_network_that_was_down_goes_on_where_it_was(network: Network) -> None:
    before = height(network, "node5")
    network.testnet("down")
    network.testnet("up")
    above(network, before + 2, *(f"node{number}" for number in range(1, 7)))
    for name in ("node1", "node6"):
        assert status(network, name)["ready"] is True


def test_money_is_paid_and_what_needs_a_user_is_refused(network: Network) -> None:
    wallet = User(network, "somebody")
    made = wallet("wallet", "new", "--chain", network.layout["chain"], "--api", f"http://127.1.0.1:{network.layout['base_port'] + 80}")
    assert made.code == 0, made.err
    network.testnet("pay", made.out.strip(), "7")
    assert wallet("wallet", "balance", "--json").json["balance"]["units"] == str(7 * 10**9)
    refused = network.testnet("revoke", "qu1x", "qd1x", ok=False)
    assert refused.code == 1
    assert "revoke-device" in refused.err


def test_who_was_merged_goes_on_with_what_he_has_and_is_written_to_as_the_other(network: Network, tmp_path: Path) -> None:
    chain = network.layout["chain"]
    carol, dave = entered(network, "carol"), entered(network, "dave")
    early = sent(dave, carol, tmp_path, "early")
    files = []
    for user, name in ((carol, "carol"), (dave, "dave")):
        words, file = user.home.parent / f"{name}.words", tmp_path / f"{name}.consent"
        words.chmod(0o600)
        done = user("user", "agree-merge", carol.id, dave.id, "-o", file, "--chain", chain, "--words-file", words)
        assert done.code == 0, done.err
        files.append(file)
    done = carol("user", "merge", *files, "--yes")
    assert done.code == 0, done.err
    # Her device spends the grant she has, and collects what was written to her.
    opens(dave, sent(carol, dave, tmp_path, "hers"))
    opens(carol, early)
    # What is written to her now is his, as soon as proofs stand on a block after that: an idle chain makes one a second.
    for number in range(20):
        late = sent(dave, carol, tmp_path, f"late{number}")
        if "E-NOT-RECIPIENT" in carol("open", late, "-o", tmp_path / f"hers{number}").err:
            break
    opens(dave, late)
    refused = carol("open", late, "-o", tmp_path / "none")
    assert refused.code == 1
    assert "E-NOT-RECIPIENT" in refused.err
