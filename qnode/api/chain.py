"""The pages about the chain, `/v1/chain/…` (`proto/spec/chain-api.md`): which path is which page, who may ask how often, what is refused.

Pages are made in threads, a few at a time, of a state that stands still meanwhile: neither a large page nor a slow disk holds up consensus.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from qnode.api import chain_blocks, chain_evidence, chain_state, chain_validators
from qnode.api.chain_asked import BadRequest, Query, Template, read_height, read_query
from qnode.api.chain_check import check_page, sender_of
from qnode.api.chain_events import Events
from qnode.api.chain_proof import proof_page
from qnode.api.chain_source import ChainSource, Held, View
from qnode.api.chain_text import node_text
from qnode.core.ledger.state import State
from qustream.aio.admission import Bucket
from qustream.aio.http import Answer, Asked, Folder, Stream
from qustream.errors import CODES, Family, QuStreamError, fault
from qustream.model.network import Grant
from qustream.model.state import Incident, Licence, NodeEntry, Table, Validator
from qustream.wire.bundle import BUNDLE_MAX_BYTES, Bundle
from qustream.wire.chain_json import SubmittedBundlePage, SubmittedLine, SubmittedPage
from qustream.wire.codec import decode, encode
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, transaction_id

__all__ = ["PREFIX", "SubmitLimits", "chain_folders"]

PREFIX = "/v1/chain/"
_JSON, _BYTES = "application/json", "application/octet-stream"
# Pages made at once: two cores are most machines, and consensus has to have its part of them.
THREADS = 2
# Pages that look at everything are made once a block.
KEPT_PAGES = 16
_STATUSES = {"E-LEDGER-UNKNOWN": 404, "E-ID-TEXT": 400, "E-PEER-LIMIT": 429, "E-NOT-HELD": 503, "E-DATA-CORRUPT": 500}
# What a program should wait before it asks again for what time may mend.
RETRY_S = 5


@dataclass(frozen=True, slots=True)
class SubmitLimits:
    """What transactions one address, and all together, may send or have checked. Each costs up to a millisecond in a process of its own."""

    # A tenth of a core for an address; a service that sends more runs a node of its own, which is asked by nobody else.
    burst_per_address: int = 400
    rate_per_address_per_s: int = 100
    # A third of a core for everybody.
    burst: int = 1200
    rate_per_s: int = 300
    # Addresses remembered; the longest unseen is forgotten first, which only gives it a full bucket again.
    addresses: int = 4096


@dataclass(frozen=True, slots=True)
class Ask:
    """What a page is made of. `names`: read from the path; `waiting`: of the mempool, what belongs to it."""

    source: ChainSource
    view: View
    state: State
    names: tuple[Any, ...]
    query: Query
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Waiting:
    """Looked up in the event loop, before the page is made. `count`: of transactions; `raw`: of the one asked for; `nonce`: the account's
    next; `held`: evidence."""

    count: int
    raw: bytes | None = None
    nonce: int = 0
    held: Sequence[Held] = ()


Make = Callable[[Ask], Any]


def _range(ask: Ask, *names: bytes) -> tuple[Any, ...]:
    return (*names, ask.query.after_name, ask.query.limit)


def _history(ask: Ask) -> Any:
    return chain_blocks.history_page(ask.source, ask.names[0], ask.query.before_place, ask.query.limit)


def _licence(ask: Ask) -> Any:
    licence = ask.state.get(Table.LICENCE, ask.names[0], Licence)
    if licence is None:
        raise chain_state.missing("licence")
    return chain_state.licence_line(ask.state, ask.names[0], licence)


def _node(ask: Ask) -> Any:
    entry = ask.state.get(Table.NODE, ask.names[0], NodeEntry)
    if entry is None:
        raise chain_state.missing(f"node {node_text(ask.names[0])}")
    return chain_state.node_line(ask.state, ask.names[0], entry)


def _validator(ask: Ask) -> Any:
    validator = ask.state.get(Table.VALIDATOR, ask.names[0], Validator)
    if validator is None:
        raise chain_state.missing("validator")
    return chain_validators.validator_line(ask.state, ask.names[0], validator)


def _grant(ask: Ask) -> Any:
    grant = ask.state.get(Table.GRANT, ask.names[0], Grant)
    if grant is None:
        raise chain_state.missing("grant; it may have ended long ago")
    return chain_state.grant_line(grant)


def _incident(ask: Ask) -> Any:
    incident = ask.state.get(Table.INCIDENT, ask.names[0], Incident)
    if incident is None:
        raise chain_state.missing("incident")
    return chain_state.incident_line(ask.names[0], incident)


def _height(ask: Ask) -> int:
    if isinstance(ask.names[0], int):
        return ask.names[0]
    place = ask.source.store.place_of(ask.names[0])
    header = ask.source.store.header_at(place[0]) if place is not None else None
    if place is None or header is None or place[1] != header.count:
        raise chain_state.missing("final block")
    return place[0]


def _header(ask: Ask) -> bytes:
    header = ask.source.store.header_at(_height(ask))
    if header is None:
        raise chain_state.missing("final block")
    return encode(header)


def _finalisation(ask: Ask) -> bytes:
    found = ask.source.store.finalisation_at(_height(ask))
    if found is None:
        raise chain_state.missing("finalisation at or above this height")
    return encode(found[1])


def _raw(ask: Ask) -> bytes:
    found = ask.source.store.transaction(ask.names[0]) or ask.waiting.raw
    if found is None:
        raise chain_state.missing("transaction")
    return found


PAGES: dict[str, Make] = {
    "status": lambda ask: chain_blocks.chain_status(ask.source, ask.view, ask.waiting.count),
    "checkpoint": lambda ask: chain_blocks.checkpoint_page(ask.source, ask.state),
    "blocks": lambda ask: chain_blocks.blocks_page(ask.source, ask.state, ask.query.before_height, ask.query.limit),
    "blocks/<block>": lambda ask: chain_blocks.block_page(ask.source, ask.state, _height(ask)),
    "blocks/<block>/header": _header,
    "blocks/<block>/finalisation": _finalisation,
    "transactions/<digest>": lambda ask: chain_blocks.transaction_page(ask.source, ask.names[0], ask.waiting.raw),
    "transactions/<digest>/raw": _raw,
    "accounts/<account>": lambda ask: chain_state.account_page(ask.state, ask.names[0], ask.waiting.nonce),
    "accounts/<account>/history": _history,
    "accounts/<account>/delegations": lambda ask: chain_validators.delegations_of(ask.state, *_range(ask, ask.names[0])),
    "accounts/<account>/delegations/<licence>": lambda ask: chain_validators.delegation_line(ask.state, *ask.names),
    "licences": lambda ask: chain_state.licences_page(ask.state, *_range(ask), owner=ask.query.owner_account),
    "licences/<licence>": _licence,
    "licences/<licence>/history": _history,
    "nodes": lambda ask: chain_state.nodes_page(ask.state, *_range(ask)),
    "nodes/<node>": _node,
    "validators": lambda ask: chain_validators.validators_page(ask.state, *_range(ask)),
    "validators/<licence>": _validator,
    "validators/<licence>/delegations": lambda ask: chain_validators.delegations_to(ask.state, *_range(ask, ask.names[0])),
    "rotation": lambda ask: chain_validators.rotation_page(ask.state, chain_validators.running_rotation(ask.state)),
    "rotations/<number>": lambda ask: chain_validators.rotation_page(ask.state, ask.names[0]),
    "epochs/<number>": lambda ask: chain_state.epoch_page(ask.state, ask.names[0]),
    "market": lambda ask: chain_state.market_page(ask.state),
    "market/sales": lambda ask: chain_blocks.sales_page(ask.source, ask.query.before_place, ask.query.limit),
    "grants/<grant>": _grant,
    "users/<user>": lambda ask: chain_state.user_page(ask.state, ask.names[0]),
    "users/<user>/grants": lambda ask: chain_state.grants_page(ask.state, *_range(ask, ask.names[0])),
    "qrng": lambda ask: chain_state.servers_page(ask.state, *_range(ask)),
    "evidence": lambda ask: chain_evidence.evidence_page(ask.source.chain, ask.waiting.held),
    "evidence/<digest>": lambda ask: chain_evidence.evidence_of(ask.source.chain, ask.waiting.held, ask.names[0]),
    "incidents": lambda ask: chain_state.incidents_page(ask.state, *_range(ask)),
    "incidents/<digest>": _incident,
    "parameters": lambda ask: chain_state.parameters_page(ask.state),
    "supply": lambda ask: chain_state.supply_page(ask.state),
    "proof/<table>/<name>": lambda ask: proof_page(ask.source, *ask.names),
}
_ONCE_A_BLOCK = {"market", "parameters", "supply", "rotation"}
_TEMPLATES = {Template(text): make for text, make in PAGES.items()}
POSTS = {"transactions": TRANSACTION_MAX_BYTES, "transactions/bundle": BUNDLE_MAX_BYTES, "transactions/check": TRANSACTION_MAX_BYTES}


def chain_folders(source: ChainSource, limits: SubmitLimits | None = None) -> Mapping[str, Folder]:
    """For `qustream.aio.http.serve_http`."""
    return {PREFIX: Folder(ChainPages(source, limits or SubmitLimits()).answer, POSTS)}


class ChainPages:
    """All pages below the prefix."""

    def __init__(self, source: ChainSource, limits: SubmitLimits) -> None:
        self._source, self._limits = source, limits
        self._threads = trio.CapacityLimiter(THREADS)
        self._events = Events(source, self._threads)
        self._made: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._submits: OrderedDict[str, Bucket] = OrderedDict()
        self._all_submits = Bucket(limits.burst, limits.rate_per_s, trio.current_time())

    async def answer(self, asked: Asked) -> Answer | Stream | None:
        """None: there is no such page."""
        try:
            if asked.method == "POST":
                return await self._posted(asked)
            query = asked.query
            if asked.path == "events":
                return self._events.stream(_resume(asked))
            found = _found(asked.path)
            return None if found is None else await self._page(*found, read_query(query))
        except BadRequest as error:
            return _refusal(400, str(error))
        except QuStreamError as error:
            return _coded(error)

    async def _page(self, template: Template, names: tuple[Any, ...], query: Query) -> Answer:
        height, kept = self._source.store.executed.height, template.text in _ONCE_A_BLOCK
        made = self._made.get((template.text, height)) if kept else None
        if made is not None:
            return Answer(200, made, _JSON)
        waiting = self._waiting(template.text, names)
        page = await trio.to_thread.run_sync(self._make, _TEMPLATES[template], names, query, waiting, limiter=self._threads)
        if isinstance(page, bytes):
            return Answer(200, page, _BYTES)
        made = msgspec.json.encode(page)
        if kept and height == self._source.store.executed.height:
            self._made[template.text, height] = made
            while len(self._made) > KEPT_PAGES:
                self._made.popitem(last=False)
        return Answer(200, made, _JSON)

    def _waiting(self, template: str, names: tuple[Any, ...]) -> Waiting:
        pool = self._source.pool
        if template.startswith("transactions/"):
            found = pool.get(names[0])
            return Waiting(len(pool), found[0] if found is not None else None)
        if template.startswith("evidence"):
            return Waiting(len(pool), held=tuple(self._source.held()))
        return Waiting(len(pool), nonce=pool.next_nonce(names[0]) if template == "accounts/<account>" else 0)

    def _make(self, make: Make, names: tuple[Any, ...], query: Query, waiting: Waiting) -> Any:
        with self._source.store.state() as view:
            return make(Ask(self._source, view, State(view), names, query, waiting))

    # -- transactions that are sent -------------------------------------------------------------------------------------

    async def _posted(self, asked: Asked) -> Answer:
        if asked.path == "transactions/bundle":
            return await self._posted_bundle(asked)
        self._spend(asked.client)
        if asked.path == "transactions":
            name = await self._source.pool.submit(asked.body)
            return Answer(202, msgspec.json.encode(SubmittedPage(name.hex())), _JSON)
        nonce = self._source.pool.next_nonce(sender_of(asked.body))
        page = await trio.to_thread.run_sync(self._check, asked.body, nonce, limiter=self._threads)
        return Answer(200, msgspec.json.encode(page), _JSON)

    async def _posted_bundle(self, asked: Asked) -> Answer:
        try:
            raws = decode(asked.body, Bundle, max_bytes=BUNDLE_MAX_BYTES).transactions
        except QuStreamError as error:
            self._spend(asked.client)
            raise fault("E-LEDGER-FORM", f"no bundle of transactions: {error.detail}") from None
        self._spend(asked.client, len(raws))
        lines = []
        for raw, answer in zip(raws, await self._source.pool.submit_all(raws), strict=True):
            refused = answer if isinstance(answer, QuStreamError) else None
            why = ("", "") if refused is None else (refused.code, refused.detail or refused.row.meaning)
            lines.append(SubmittedLine(transaction_id(raw).hex(), *why))
        return Answer(200, msgspec.json.encode(SubmittedBundlePage(tuple(lines))), _JSON)

    def _check(self, raw: bytes, nonce: int) -> Any:
        with self._source.store.state() as view:
            return check_page(self._source, view, raw, nonce)

    def _spend(self, client: str, count: int = 1) -> None:
        """Of so many transactions, all or none. Errors: `E-PEER-LIMIT`."""
        now_s, limits = trio.current_time(), self._limits
        bucket = self._submits.pop(client, None) or Bucket(limits.burst_per_address, limits.rate_per_address_per_s, now_s)
        self._submits[client] = bucket
        while len(self._submits) > limits.addresses:
            self._submits.popitem(last=False)
        if not bucket.take(now_s, count):
            raise fault("E-PEER-LIMIT", f"at most {limits.rate_per_address_per_s} transactions a second from one address")
        if not self._all_submits.take(now_s, count):
            raise fault("E-PEER-LIMIT", "too many transactions are being sent to this node")


def _found(path: str) -> tuple[Template, tuple[Any, ...]] | None:
    parts = path.split("/")
    for template in _TEMPLATES:
        names = template.match(parts)
        if names is not None:
            return template, names
    return None


def _resume(asked: Asked) -> int | None:
    """A browser that was cut off says what it has had; whoever begins says it in the query."""
    if asked.last_event_id:
        return read_height(asked.last_event_id)
    query = read_query(asked.query)
    return read_height(query.after) if query.after else None


def _coded(error: QuStreamError) -> Answer:
    status = _STATUSES.get(error.code) or (503 if CODES[error.code].family is Family.UNAVAILABLE else 422)
    body = {"error": error.detail or error.row.meaning, "code": error.code, "remedy": error.remedy}
    return Answer(status, msgspec.json.encode(body) + b"\n", _JSON, RETRY_S if status in (429, 503) else 0)


def _refusal(status: int, why: str) -> Answer:
    return Answer(status, msgspec.json.encode({"error": why}) + b"\n", _JSON)
