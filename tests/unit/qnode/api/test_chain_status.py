"""The line of a validator says what becomes of its views."""

from __future__ import annotations

import pytest

from qnode.api.chain_status import ChainStatus, MempoolStatus, VotingStatus, chain_lines


@pytest.mark.parametrize(
    ("suspended", "leads", "said"),
    [
        (False, True, "missed 3 of 10 views"),
        (False, False, "missed 3 of 10 views, leads nothing in this rotation yet"),  # it has come back from a suspension
        (True, False, "missed 3 of 10 views, suspended and leads nothing"),
        # Somebody has to, where more than a third are suspended; and a suspension takes effect in the rotation after next.
        (True, True, "missed 3 of 10 views, suspended and leads in this rotation all the same"),
    ],
)
def test_who_is_suspended_leads_nothing_unless_it_has_to(suspended: bool, leads: bool, said: str) -> None:
    voting = VotingStatus(2, "", 9, 3, 10, suspended, "votes", leads=leads)
    status = ChainStatus(
        final=7, final_ms=1_000, executed=7, epoch=0, rotation=3, view=5, validators=4, views=8, skipped=1, voting=voting,
        mempool=MempoolStatus(0, 0, {}, {}), transactions=0, verified=0, accusations=(), store_bytes=0,
    )  # fmt: skip
    [line] = [line for line in chain_lines(status, 2_000) if line.startswith("validator ")]
    assert line.endswith(said)
