"""Real validators on loopback: they agree, outlive what is done to them, and what one is told is final at all (`consensus.md`)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from support.chain_circle import CHAIN, QST, ChainCircle, ChainNodeProcess, fast

from qnode.core.ledger.evidence import is_evidence
from qustream.identity.voting import verify_vote
from qustream.model.ids import IdKind, account_id, licence_text, to_text
from qustream.wire.codec import decode
from qustream.wire.transactions import DoubleSign

pytestmark = [pytest.mark.e2e]

TWIN = Path(__file__).parents[1] / "support" / "twin_child.py"


def nobody_accused(circle: ChainCircle) -> bool:
    return not any(node.ledger.accusations for node in circle.up)


def test_validators_agree_through_idleness_transactions_and_deaths(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 4) as circle:
        circle.start()
        # Nobody wants anything: the chain says that it is alive.
        circle.until_height(6)
        named = circle.agree(6)
        assert named["count"] == 0
        # What one is told is final at all.
        raw = circle.transfer(0, 1, 0, 7 * QST)
        status, said = circle.nodes[2].submit(raw)
        assert status in (200, 202), said
        circle.until(lambda node: node.has_executed(raw))
        to = to_text(IdKind.ACCOUNT, account_id(circle.people[1].id))
        assert {node.chain_page(f"accounts/{to}")["balance"]["units"] for node in circle.nodes} == {str(1_000_007 * QST)}
        # One is killed: three decide, and it comes back.
        circle.nodes[1].kill()
        height = circle.nodes[0].height
        circle.until_height(height + 3)
        circle.start(1)
        circle.until_height(max(node.height for node in circle.up) + 3)
        circle.until(lambda node: node.ledger.voting is not None and node.ledger.voting.signed > 0, [circle.nodes[1]])
        assert not circle.nodes[1].ledger.voting.silent  # type: ignore[union-attr]
        # Two are killed: nothing is decided any more.
        for node in circle.nodes[2:]:
            node.kill()
        circle.until(lambda node: node.status().now_ms - node.ledger.final_ms > 6_000)
        stood = {node.ledger.final for node in circle.up}
        circle.until(lambda node: node.status().now_ms - node.ledger.final_ms > 8_000)
        assert {node.ledger.final for node in circle.up} == stood
        # They are back, and it goes on.
        circle.start(2, 3)
        circle.until_height(max(stood) + 3)
        circle.agree(max(stood) + 3)
        assert circle.agree(6) == named
        assert nobody_accused(circle)


def test_rotations_pass_and_one_that_was_away_for_some_comes_back(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 4, followers=1, parameters=fast(rotation_ms=5_000)) as circle:
        circle.start()
        circle.until(lambda node: node.ledger.rotation >= 3)
        circle.nodes[3].kill()
        rotation = circle.nodes[0].ledger.rotation
        circle.until(lambda node: node.ledger.rotation >= rotation + 2)
        circle.start(3)
        # It is brought to where the others are, sits out the rotation it came into, and votes in the next.
        circle.until(lambda node: node.ledger.voting is not None and node.ledger.voting.signed > 0, [circle.nodes[3]])
        circle.agree(min(node.height for node in circle.nodes))
        assert nobody_accused(circle)


def voting(node: ChainNodeProcess) -> tuple[int, str]:
    """How much it has signed since its start, and why nothing."""
    found = node.ledger.voting
    assert found is not None
    return found.signed, found.silent


def test_who_was_given_an_old_memory_signs_nothing(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 4) as circle:
        circle.start()
        circle.until_height(3)
        old, other, node = tmp_path / "old", circle.nodes[2], circle.nodes[3]
        shutil.copy(node.sign_state.path, old)
        circle.until_height(node.height + 6)
        # Without a quorum nothing more becomes final: the others keep its votes, however long its start takes.
        other.kill()
        node.kill()
        shutil.copy(old, node.sign_state.path)
        circle.start(3)
        circle.until(lambda each: "does not remember" in voting(each)[1], [node])
        assert "E-VOTE-MEMORY" in {found.code for found in node.status().conditions}
        circle.start(2)
        circle.until_height(node.height + 4)  # it follows, and the others need it not
        signed, why = voting(node)
        assert signed == 0
        assert "does not remember" in why
        assert nobody_accused(circle)


def test_who_signs_twice_loses_a_tenth_and_its_place(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 4) as circle:
        twin = circle.nodes[2]
        twin.command_line, twin.program = [sys.executable], TWIN
        circle.start()
        honest = [node for node in circle.nodes if node is not twin]
        licence = licence_text(circle.licence(twin.number))
        circle.until(lambda node: node.chain_page(f"licences/{licence}")["status"] == "removed", honest)
        stake = circle.genesis.parameters.stake
        for node in honest:
            page = node.chain_page(f"licences/{licence}")
            assert page["staked"]["units"] == "0"
            assert page["unbonding"]["units"] == str(stake - stake // 10)
        incidents = honest[0].chain_page("incidents")["incidents"]
        assert [(each["licence"], each["escrow"]["units"]) for each in incidents] == [(licence, str(stake // 10))]
        assert [each.view for each in honest[0].ledger.accusations]
        held = honest[0].chain_page("evidence")["evidence"]
        assert incidents[0]["id"] in [each["id"] for each in held]
        shown = honest[0].chain_page(f"evidence/{incidents[0]['id']}")
        proof = decode(bytes.fromhex(shown["action"]), DoubleSign, max_bytes=1 << 16)
        assert is_evidence(CHAIN, proof.first, proof.second)
        assert verify_vote(twin.vote_key.public, proof.second, proof.second_signature)
        # Three of four are more than two thirds: the chain goes on without it.
        circle.until_height(max(node.height for node in honest) + 4, honest)
        circle.agree(min(node.height for node in honest), honest)
