"""Files that are carried: what they say is what is signed. The way of each as a whole: `tests/unit/qustream/cli`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from support.every_action import ACTIONS
from support.ledger_world import PARAMETERS

from qustream.errors import QuStreamError
from qustream.identity import carried, consents
from qustream.identity.wallet import OFFLINE_BLOCKS, Terms, Wallet
from qustream.identity.words import UserSecrets
from qustream.model.keys import PublicKey
from qustream.wire.action_text import action_name
from qustream.wire.transactions import AnyAction

CHAIN = "a-chain"
ONE, OTHER, THIRD = (UserSecrets(bytes([number]) * 64) for number in (1, 2, 3))
NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize("action", ACTIONS, ids=action_name)
@pytest.mark.parametrize("knows_key", [False, True])
def test_every_action_goes_there_and_back(tmp_path: Path, action: AnyAction, knows_key: bool) -> None:
    account = Wallet(ONE.account, CHAIN)
    draft = account.draft(action, Terms(7, 100, knows_key, PARAMETERS), OFFLINE_BLOCKS)
    carried.write(tmp_path / "there", carried.to_sign(draft, NOW_MS))
    found = carried.read_to_sign(tmp_path / "there", NOW_MS + carried.OLD_MS)
    assert found == draft
    signed = account.sign_draft(found)
    # What was said about the fee before the key was there is right.
    least = PARAMETERS.fee_byte * len(signed.raw)
    assert 0 <= signed.fee - least <= 3 * PARAMETERS.fee_gas
    carried.write(tmp_path / "back", carried.to_send(signed, draft.body))
    assert carried.read_to_send(tmp_path / "back") == (signed, draft.body)
    assert json.loads((tmp_path / "back").read_bytes())["action"] == action_name(action)
    with pytest.raises(QuStreamError, match="E-FILE-EXISTS"):
        carried.write(tmp_path / "back", carried.to_send(signed, draft.body))


def agreed(
    who: UserSecrets, user: UserSecrets = ONE, into: UserSecrets = OTHER, chain: str = CHAIN
) -> tuple[carried.MergeConsent, PublicKey]:
    names = {"user": user.master.id, "into": into.master.id}
    consent = consents.agree_to_merge(chain, who.master, **names)
    return carried.agreed(chain, who.master.public, consent, **names), who.master.public


def test_two_consents_make_a_merge_in_either_order(tmp_path: Path) -> None:
    pair = [agreed(ONE), agreed(OTHER)]
    for number, (thing, _) in enumerate(pair):
        carried.write(tmp_path / str(number), thing)
    read = [carried.read_consent(tmp_path / str(number)) for number in (1, 0)]
    assert carried.merge_of(CHAIN, read) == carried.merge_of(CHAIN, pair)
    assert carried.merge_of(CHAIN, pair).master == ONE.master.public


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [
        (agreed(ONE), agreed(ONE), "E-LEDGER-FORM"),
        (agreed(ONE), agreed(THIRD), "E-LEDGER-FORM"),
        (agreed(ONE), agreed(OTHER, OTHER, ONE), "E-LEDGER-FORM"),
        (agreed(ONE, chain="x"), agreed(OTHER, chain="x"), "E-LEDGER-FORM"),
        (
            agreed(ONE),
            (msgspec.structs.replace(agreed(OTHER)[0], consent=agreed(ONE)[0].consent), OTHER.master.public),
            "E-LEDGER-SIGNATURE",
        ),
        ((msgspec.structs.replace(agreed(ONE)[0], consent=b""), ONE.master.public), agreed(OTHER), "E-LEDGER-SIGNATURE"),
    ],
)
def test_what_is_no_merge(one: tuple[carried.MergeConsent, PublicKey], other: tuple[carried.MergeConsent, PublicKey], code: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        carried.merge_of(CHAIN, [one, other])
    assert caught.value.code == code


def test_a_consent_with_no_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(msgspec.json.encode(msgspec.structs.replace(agreed(ONE)[0], key=b"none")))
    with pytest.raises(QuStreamError, match="E-LEDGER-FORM"):
        carried.read_consent(tmp_path / "file")
