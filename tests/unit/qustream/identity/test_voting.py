"""Vote keys: what they sign, what they never sign, and their keystore."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from msgspec.structs import replace as altered

from qustream.errors import QuStreamError
from qustream.identity import keystore, voting
from qustream.identity.voting import RevealSeed, VoteKey, VoteSecrets
from qustream.wire.codec import encode
from qustream.wire.consensus import Kind, Statement
from qustream.wire.transactions import ValidatorStatement

KEY = VoteKey(bytes(range(32)))
STATEMENT = Statement("chain", 3, 9, Kind.NOTAR, b"\x07" * 32)
REGISTRATION = ValidatorStatement("chain", bytes(16), bytes(20), KEY.public, bytes(32), 100, 0)
SECRETS = VoteSecrets(bytes(range(32)), (RevealSeed(b"\x01" * 32, 40), RevealSeed(b"\x02" * 32, 50)))


def test_a_vote_holds_for_exactly_what_was_signed() -> None:
    signature = KEY.sign(STATEMENT)
    assert voting.verify_vote(KEY.public, STATEMENT, signature)
    changes = ({"chain": "other"}, {"rotation": 4}, {"view": 10}, {"kind": Kind.FINAL}, {"digest": bytes(32)})
    assert not any(voting.verify_vote(KEY.public, altered(STATEMENT, **change), signature) for change in changes)
    assert not voting.verify_vote(VoteKey(bytes(32)).public, STATEMENT, signature)


def test_a_registration_is_no_vote_and_a_vote_no_registration() -> None:
    proof = KEY.sign_registration(REGISTRATION)
    assert voting.verify_registration(KEY.public, REGISTRATION, proof)
    assert not voting.verify_under(KEY.public, voting.VOTE_CONTEXT, encode(REGISTRATION), proof)
    assert not voting.verify_under(KEY.public, voting.REGISTRATION_CONTEXT, encode(STATEMENT), KEY.sign(STATEMENT))


@pytest.mark.parametrize("public", [b"", bytes(1312), bytes(1311), b"\xff" * 1312])
@pytest.mark.parametrize("signature", [b"", bytes(2420), bytes(2421), b"\xff" * 2420])
def test_hostile_bytes_only_do_not_hold(public: bytes, signature: bytes) -> None:
    assert not voting.verify_vote(public, STATEMENT, signature)


def test_a_key_follows_from_its_seed_and_says_nothing_of_it() -> None:
    again = VoteKey(KEY.seed)
    assert (again.public, again.id) == (KEY.public, KEY.id)
    assert repr(KEY) == f"<VoteKey {KEY.id.hex()[:12]}>"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(ValueError, match="32 bytes"):
        VoteKey(b"short")


def test_the_keystore_brings_back_what_was_sealed(tmp_path: Path) -> None:
    path = tmp_path / "vote.keystore"
    voting.write(path, SECRETS, b"words")
    assert voting.read(path, b"words") == SECRETS
    longer = SECRETS.with_chain(RevealSeed(b"\x03" * 32, 60))
    voting.replace(path, longer, b"words")
    assert voting.read(path, b"words") == longer
    with pytest.raises(QuStreamError, match="E-KEYSTORE-OPEN"):
        voting.read(path, b"other words")
    assert repr(SECRETS) == "<VoteSecrets>"


def test_the_newest_hash_chain_is_the_first_and_there_are_never_too_many() -> None:
    assert [chain.links for chain in SECRETS.chains()] == [50, 40]
    for number in range(3, 9):
        longer = SECRETS.with_chain(RevealSeed(bytes([number]) * 32, number))
        for _ in range(9):
            longer = longer.with_chain(RevealSeed(bytes([number]) * 32, number))
        assert len(longer.reveals) == voting.CHAINS_MAX
        assert longer.reveals[-1].links == number
    largest = VoteSecrets(b"\xff" * 32, (RevealSeed(b"\xff" * 32, 1 << 27),) * voting.CHAINS_MAX)
    assert len(encode(largest)) <= voting.SECRETS_MAX_BYTES


def test_another_keystore_is_no_vote_keystore(tmp_path: Path) -> None:
    node, odd = tmp_path / "node.keystore", tmp_path / "odd.keystore"
    keystore.write(node, "node", bytes(32), b"words")
    keystore.write(odd, voting.KIND, b"no secrets", b"words")
    for path in (node, odd):
        with pytest.raises(QuStreamError, match="E-KEYSTORE-OPEN"):
            voting.read(path, b"words")
