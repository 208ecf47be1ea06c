"""Pages about evidence that this node holds (`proto/spec/chain-api.md`, §3): for whoever wants to report what it could not pay for."""

from __future__ import annotations

from collections.abc import Sequence

from qnode.api.chain_source import Held
from qustream.errors import fault
from qustream.model.ids import licence_text
from qustream.model.state import IncidentKind
from qustream.wire.chain import incident_id
from qustream.wire.chain_entries import EvidenceLine, EvidencePage
from qustream.wire.codec import encode

__all__ = ["evidence_of", "evidence_page"]


def _id(held: Held) -> bytes:
    return incident_id(IncidentKind.DOUBLE_SIGN, held.licence, held.rotation)


def _line(chain: str, held: Held, *, whole: bool) -> EvidenceLine:
    first, second = (f"{each.kind.name.lower()} {each.digest.hex()}" for each in (held.action.first, held.action.second))
    action = encode(held.action).hex() if whole else ""
    name, licence = _id(held).hex(), licence_text(held.licence)
    return EvidenceLine(chain, name, licence, held.rotation, held.view, first, second, held.state or "being sent", action)


def evidence_page(chain: str, held: Sequence[Held]) -> EvidencePage:
    """All of it, without the votes themselves."""
    return EvidencePage(tuple(_line(chain, each, whole=False) for each in held))


def evidence_of(chain: str, held: Sequence[Held], name: bytes) -> EvidenceLine:
    """What proves one incident. Errors: `E-LEDGER-UNKNOWN`."""
    for each in held:
        if _id(each) == name:
            return _line(chain, each, whole=True)
    raise fault("E-LEDGER-UNKNOWN", "this node has seen nothing that proves such an incident, since it was started")
