"""A new node that joins a running chain with the state of others (`proto/spec/sync.md`, §7): real daemons on loopback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from support.chain_circle import PATIENCE_S, QST, ChainCircle, ChainNodeProcess, fast, named
from support.daemon import until

from qnode.service.chain_node import FOLDER
from qnode.store.chain import ChainStore
from qustream.model.genesis import Genesis, GenesisAccount
from qustream.model.ids import IdKind, to_text
from qustream.model.state import Parameters
from qustream.wire.light import Checkpoint, checkpoint_digest

pytestmark = [pytest.mark.e2e]

# So many accounts that the state has some hundred chunks' worth of inner nodes, and sixteen chunks.
ACCOUNTS = 12_000
NEW = 4


class WealthyCircle(ChainCircle):
    """With accounts that nobody uses."""

    def _genesis(self, parameters: Parameters) -> Genesis:
        genesis = super()._genesis(parameters)
        others = [GenesisAccount(named("holder", number)[:20], 1) for number in range(ACCOUNTS)]
        return replace(genesis, accounts=tuple(sorted((*genesis.accounts, *others), key=lambda account: account.account)))


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainCircle]:
    """Four validators past their third rotation, and a fifth node that has not been started."""
    folder = tmp_path_factory.mktemp("circle")
    with WealthyCircle(folder, 4, followers=1, parameters=fast(rotation_ms=10_000)) as circle:
        circle.start(0, 1, 2, 3)
        circle.until(lambda node: node.ledger.rotation >= 3 and node.ledger.given)
        raw = circle.transfer(0, 1, 0, 7 * QST)
        assert circle.nodes[0].submit(raw)[0] < 300
        yield circle


def checkpoint_of(node: ChainNodeProcess) -> str:
    return str(node.chain_page("checkpoint")["checkpoint"])


def begun(node: ChainNodeProcess) -> bool:
    return any(line["event"] == "a state is being taken in" for line in node.log())


def joined(node: ChainNodeProcess) -> bool:
    """It has started anew, with the chain."""
    lines = [line["event"] for line in node.log()]
    return "the state is here" in lines and lines.index("the state is here") < len(lines) - 1 - lines[::-1].index("listening")


def fresh(circle: ChainCircle, name: str, checkpoint: str) -> ChainNodeProcess:
    """The fifth node, on a disk that has nothing."""
    node = circle.nodes[NEW]
    node.stop()
    made = ChainNodeProcess(circle.folder / name, NEW, node.genesis_file, votes=False)
    made.listen, made.status_listen = node.listen, node.status_listen
    made.configure(checkpoint=checkpoint)
    circle.nodes[NEW] = made
    return made


def test_a_new_node_joins_with_the_state_of_others_killed_in_the_middle(circle: ChainCircle) -> None:
    pinned = checkpoint_of(circle.nodes[0])
    for attempt in range(5):  # where it is when it is killed is a matter of milliseconds
        node = fresh(circle, f"new{attempt}", pinned)
        node.start()
        until(lambda node=node: begun(node), patience_s=PATIENCE_S)
        node.kill()
        with ChainStore.open(node.data_dir / FOLDER, circle.genesis) as store:
            incoming, missing = store.snapshots.incoming(), len(store.snapshots.missing(1000))
        if incoming is not None and missing:
            break
    assert incoming is not None, "it was always through before it was killed"
    assert missing, "it had always all of it before it was killed"
    node.start()
    circle.until(joined, [node])
    circle.until_height(max(peer.height for peer in circle.validators) + 2, [node])
    first = node.ledger.first
    assert first >= incoming.block.header.height > 1  # a newer one, if the others have let go of that meanwhile
    # It has what the others have, and says what it has not.
    assert circle.agree(node.height)["height"] >= first
    code, said = node.page(f"/v1/chain/blocks/{first - 1}")
    assert (code, f"began with block {first}" in json.loads(said)["error"]) == (404, True)
    assert node.chain_page("status")["first"] == first
    assert circle.nodes[0].page(f"/v1/chain/blocks/{first - 1}")[0] == 200
    assert json.loads(node.page("/v1/status")[1])["ledger"]["first"] == first
    # A start with a chain on the disk looks at no checkpoint.
    node.configure(checkpoint=to_text(IdKind.CHECKPOINT, bytes(32)))
    assert node.stop() == 0
    node.start()
    circle.until_height(max(peer.height for peer in circle.validators) + 1, [node])
    assert node.ledger.first == first
    # And it gives others what it was given, once there is a newer one.
    circle.until(lambda node: node.ledger.given, [node])


def test_a_checkpoint_that_nobody_knows_or_that_is_old_begins_nothing(circle: ChainCircle) -> None:
    unknown = Checkpoint(circle.genesis.chain, 2, bytes(32), circle.genesis.time_ms)
    node = fresh(circle, "lost", to_text(IdKind.CHECKPOINT, checkpoint_digest(unknown)))
    node.start()

    def reasons() -> list[str]:
        return [found.detail for found in node.status().conditions if found.code == "E-CHAIN-STALE" and found.stops]

    until(lambda: any("no such checkpoint" in why for why in reasons()), patience_s=PATIENCE_S)
    assert not node.status().ready
    assert not begun(node)
    assert node.ledger.taking
    assert node.stop() == 0
    with ChainStore.open(node.data_dir / FOLDER, circle.genesis) as store:
        assert store.executed.height == 0


def test_a_validator_that_lost_its_chain_joins_and_votes_again(circle: ChainCircle) -> None:
    """What it has signed is kept elsewhere, and holds."""
    node = circle.nodes[3]
    node.configure(checkpoint=checkpoint_of(circle.nodes[0]))
    assert node.stop() == 0
    shutil.rmtree(node.data_dir / FOLDER)
    node.start()
    circle.until(joined, [node])
    circle.until_height(max(peer.height for peer in circle.nodes[:3]) + 1, [node])
    assert node.ledger.first > 1
    circle.until(lambda node: node.ledger.voting is not None and node.ledger.voting.signed > 0, [node])
    assert node.ledger.voting is not None
    assert not node.ledger.voting.silent
    assert not any(peer.ledger.accusations for peer in circle.validators)
