"""What is said of a block's leaf and a log; the commands as processes are in tests/integration/client/test_leaf_log.py."""

from __future__ import annotations

import pytest

from qustream.cli.leaf_log import _looked_up
from qustream.client.reports import BlockReport
from qustream.leaflog.audit import AuditedLog
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass

SERVER = b"s" * 32
BLOCK = BlockReport(
    node=bytes(32),
    node_class=NodeClass.COMMUNITY,
    operator="somebody",
    server=SERVER,
    server_name="lab",
    device="chardev",
    emulated=False,
    attested_from_ms=1,
    attested_to_ms=2,
    samples=3,
    maker="",
    maker_pinned=False,
    device_serial="7",
    batch=9,
    leaf="4c" * 32,
    doubt="",
)


def log(first_segment: int = 0, first_batch: int = 1, last_batch: int = 20, *, found: bool = False) -> AuditedLog:
    made = AuditedLog("leaves", "chain", SERVER, first_segment, first_batch=first_batch, last_batch=last_batch)
    made.found = {bytes.fromhex(BLOCK.leaf)} if found else set()
    return made


@pytest.mark.parametrize(
    ("given", "holds", "said"),
    [
        (None, None, "not looked up: the log of"),
        (log(found=True), True, "stands in the log of"),
        (log(), False, "attested in batch 9, and not published"),
        (log(first_segment=4, first_batch=10), False, "batch 9 is older than this log"),
        (log(first_segment=4, first_batch=9), False, "attested in batch 9, and not published"),
        (log(first_batch=10), False, "attested in batch 9, and not published"),
        (log(last_batch=8), False, "which ends before batch 9"),
        (log(first_batch=-1, last_batch=-1), False, "which ends before batch 9"),
    ],
)
def test_what_a_log_says_of_a_block(given: AuditedLog | None, holds: bool | None, said: str) -> None:
    looked_up = _looked_up(BLOCK, given)
    assert looked_up.holds is holds
    assert said in looked_up.said
    assert to_text(IdKind.QRNG, SERVER) in str(looked_up)
