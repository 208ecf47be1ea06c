"""Request and response on the request channel (`proto/spec/transport.md`). Tags 10-19."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.errors import CODES, Family, QuStreamError, fault
from qustream.model.base import U63, Count32, Label, Text
from qustream.wire.codec import Message

__all__ = ["BODY_MAX_BYTES", "Refusal", "Request", "Response", "RpcMessage", "refusal_error"]

# A key answer: R' 262,504 bytes, attestation, receipt and proof ~9 KB; with room to grow.
BODY_MAX_BYTES = 524_288
# What an operator or user must mend and only a peer can tell him: he named somebody whom the network does not know.
ABOUT_THE_ASKER = frozenset({"E-REGISTRY-UNKNOWN"})


class Request(Message, frozen=True, tag=10):
    """`id`: chosen by the asker, unique among its open requests; `deadline_ms`: how long the asker will wait from now."""

    id: Count32
    deadline_ms: Count32
    body: Annotated[bytes, Meta(max_length=BODY_MAX_BYTES)]


class Response(Message, frozen=True, tag=11):
    """The result of the request with this id."""

    id: Count32
    body: Annotated[bytes, Meta(max_length=BODY_MAX_BYTES)]


class Refusal(Message, frozen=True, tag=12):
    """A coded refusal of the request with this id; `retry_after_ms` 0 means that the node does not say."""

    id: Count32
    code: Label
    detail: Text
    retry_after_ms: U63


RpcMessage = Request | Response | Refusal


def refusal_error(refusal: Refusal) -> QuStreamError:
    """Turn a peer's refusal into the exception its code names; an unknown code is the peer's fault, not ours.

    So is one that speaks of the peer's own disk, keys or configuration: nobody makes us believe that *our* operator must act on these.
    """
    if refusal.code not in CODES:
        return fault("E-ANSWER-INVALID", "the node refused with a code this version does not know")
    if CODES[refusal.code].family is Family.OPERATOR and refusal.code not in ABOUT_THE_ASKER:
        return fault("E-ANSWER-INVALID", "the node refused for a trouble of its own")
    detail = "".join(c if c.isprintable() else "?" for c in refusal.detail)
    return fault(refusal.code, detail, retry_after_ms=refusal.retry_after_ms or None)
