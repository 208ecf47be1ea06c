"""What a node that keeps the chain says of it: how far it is, what consensus does, what waits. Rendered as JSON, text and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from qnode.api.spans import span_text
from qnode.api.sync_status import StrangersStatus, SyncStatus, sync_lines, sync_metrics

__all__ = ["DUTIES", "AccusationStatus", "ChainStatus", "MempoolStatus", "VotingStatus", "chain_lines", "chain_metrics"]

_MS_PER_S = 1000  # a second, for metrics in base units
BASIS_POINTS = 10_000  # of one, for metrics in base units
# No licence votes with this node; one does, with another vote key; it waits for a seat; it has one; it goes.
DUTIES = ("none", "other-key", "waits", "votes", "leaves")
# Accusations on one screen; the others are in the JSON.
ACCUSATIONS_SHOWN_MAX = 4


class VotingStatus(Struct, frozen=True):
    """This validator. `seat`: its number in the rotation, −1 without one; `silent`: why it does not vote, empty if it does; `missed` of the
    last `led` views that it led; `suspended`: it shall lead nothing; `leads`: in the running rotation it does: a suspension takes effect
    two rotations later, and somebody has to where more than a third are suspended. By the executed state: `duty`, one of `DUTIES`; its
    `licence` and `commission_bp`; `links`: reveals left in the hash chain; `suspended_until_ms`; `slashed`: its licence was removed, or
    its stake is short; `top_up_by_ms`: 0, or when such a stake is taken off."""

    seat: int
    silent: str
    signed: int
    missed: int
    led: int
    suspended: bool
    duty: str = "none"
    licence: str = ""
    commission_bp: int = 0
    links: int = 0
    suspended_until_ms: int = 0
    slashed: bool = False
    top_up_by_ms: int = 0
    leads: bool = True


class MempoolStatus(Struct, frozen=True):
    """Transactions that wait, and how many may; what became of others, by code or reason."""

    transactions: int
    bytes: int
    refused: Mapping[str, int]
    dropped: Mapping[str, int]
    transactions_max: int = 0
    bytes_max: int = 0


class AccusationStatus(Struct, frozen=True):
    """A validator that has signed twice. `state`: `sent`, `known`, or why the proof was not sent from here."""

    licence: str
    rotation: int
    view: int
    state: str


class ChainStatus(Struct, frozen=True):
    """The chain here. `final`, `executed`: heights; `final_ms`: the time of the last final block; `view`: 0 for a node that does not vote;
    `views`, `skipped`: of this rotation, as executed; `voting`: None without a vote key; `verify_starts`: how often a process that checks
    signatures was started; `free_bytes`: of the disk that the chain is on; `first`: height of the lowest block here, `given`: of the blocks
    whose states are given to nodes that begin; `taking`: how far this node is that begins so, empty if it does not; `sync`: how the chain
    comes here, `strangers`: what those have of it whom nobody knows."""

    final: int
    final_ms: int
    executed: int
    epoch: int
    rotation: int
    view: int
    validators: int
    views: int
    skipped: int
    voting: VotingStatus | None
    mempool: MempoolStatus
    transactions: int
    verified: int
    accusations: tuple[AccusationStatus, ...]
    store_bytes: int
    free_bytes: int = 0
    verify_starts: int = 0
    first: int = 0
    given: tuple[int, ...] = ()
    taking: str = ""
    sync: SyncStatus = field(default_factory=SyncStatus)
    strangers: StrangersStatus = field(default_factory=StrangersStatus)


_WITHOUT_SEAT = {
    "none": "no licence votes with this node; qnode validator register",
    "other-key": "its licence is registered with another vote key; qnode validator register",
    "waits": "it waits for the rotation after next",
    "leaves": "its duty is over, or ends soon",
}


def chain_lines(status: ChainStatus, now_ms: int) -> list[str]:
    """For people, one screen's part."""
    if status.taking:
        return [f"chain       {status.taking}", *sync_lines(status.sync)]
    behind = f", executed to {status.executed}" if status.executed != status.final else ""
    lines = [
        f"chain       height {status.final}, {span_text(max(0, now_ms - status.final_ms))} old{behind}; "
        f"rotation {status.rotation} of {status.validators} validators, {status.skipped} of {status.views} views skipped",
        f"waiting     {status.mempool.transactions} transactions, {status.mempool.bytes >> 10} KiB; {status.transactions} executed "
        "since the start",
    ]
    if status.first > 1:
        lines.append(f"begins      with block {status.first}: what was before is not here")
    lines += sync_lines(status.sync)
    voting = status.voting
    if voting is not None:
        lines.append(f"validator   {_voting_text(voting, status)}")
        if voting.licence:
            lines.append(f"licence     {voting.licence}, commission {voting.commission_bp / 100:g} %, {voting.links} reveals left")
    for found in status.accusations[:ACCUSATIONS_SHOWN_MAX]:
        lines.append(f"accused     licence {found.licence}: signed twice in view {found.view} of rotation {found.rotation}; {found.state}")
    return lines


def _voting_text(voting: VotingStatus, status: ChainStatus) -> str:
    if voting.seat < 0:
        return f"no seat in this rotation: {_WITHOUT_SEAT.get(voting.duty, 'it has just got one')}"
    if voting.silent:
        return f"seat {voting.seat}, does not vote in this rotation: {voting.silent}"
    leading = ""
    if voting.suspended:
        leading = ", suspended and leads in this rotation all the same" if voting.leads else ", suspended and leads nothing"
    elif not voting.leads:
        leading = ", leads nothing in this rotation yet"
    return f"seat {voting.seat}, view {status.view}; {voting.signed} signatures; missed {voting.missed} of {voting.led} views{leading}"


def chain_metrics(status: ChainStatus, now_ms: int) -> Iterator[Metric]:
    """All families about the chain."""
    yield _gauge("chain_final_height", "Height of the last final block", status.final)
    yield _gauge("chain_executed_height", "Height of the last executed block", status.executed)
    yield _gauge("chain_final_age_seconds", "Age of the last final block", max(0, now_ms - status.final_ms) / _MS_PER_S)
    yield _gauge("chain_rotation", "Number of the running rotation", status.rotation)
    yield _gauge("chain_validators", "Validators of the running rotation", status.validators)
    yield _gauge("chain_view", "Current view of consensus, 0 where it does not run", status.view)
    yield _gauge("chain_rotation_views", "Views of the running rotation that were counted", status.views)
    yield _gauge("chain_rotation_skipped_views", "Of these, views without a block", status.skipped)
    yield _gauge("chain_first_height", "Height of the lowest block here", status.first)
    yield _gauge("chain_given_states", "States held for nodes that begin", len(status.given))
    yield _gauge("chain_store_bytes", "Bytes of the chain's database in use", status.store_bytes)
    yield _gauge("chain_disk_free_bytes", "Free bytes of the disk that it is on", status.free_bytes)
    yield _counter("chain_verify_starts", "Starts of processes that check signatures", status.verify_starts)
    yield _counter("chain_transactions", "Transactions executed since the start", status.transactions)
    yield _counter("chain_verified_signatures", "Jobs of signature checks since the start", status.verified)
    yield _gauge("chain_accusations", "Validators known to have signed twice", len(status.accusations))
    yield _gauge("mempool_transactions", "Transactions that wait for a block", status.mempool.transactions)
    yield _gauge("mempool_bytes", "Their bytes", status.mempool.bytes)
    yield _gauge("mempool_capacity_transactions", "Transactions that may wait", status.mempool.transactions_max)
    yield _gauge("mempool_capacity_bytes", "Bytes that may wait", status.mempool.bytes_max)
    yield _labelled("mempool_refused", "Transactions refused, by code", "code", status.mempool.refused)
    yield _labelled("mempool_dropped", "Transactions that wait no longer, by reason", "reason", status.mempool.dropped)
    yield from sync_metrics(status.sync, status.strangers)
    if (voting := status.voting) is not None:
        yield _gauge("validator_seated", "1 with a seat in the running rotation", int(voting.seat >= 0))
        yield _gauge("validator_silent", "1 if it has a seat and does not vote", int(bool(voting.silent)))
        yield _counter("validator_signatures", "What it has signed since the start", voting.signed)
        yield _gauge("validator_missed_views", "Views without its block, of the last that it led", voting.missed)
        yield _gauge("validator_suspended", "1 while it is suspended: it leads nothing, if two thirds are not", int(voting.suspended))
        yield _gauge("validator_reveals", "Reveals left in the hash chain that is registered", voting.links)
        yield _gauge("validator_commission_ratio", "Commission, of what delegators earn", voting.commission_bp / BASIS_POINTS)
        yield _gauge("validator_slashed", "1 if its licence was removed, or a part of its stake is gone", int(voting.slashed))
        yield _states(
            "validator_duty", "1 for what the chain says of this node's duty", {each: int(each == voting.duty) for each in DUTIES}
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qnode_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"qnode_{name}", text, value=value)


def _states(name: str, text: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"qnode_{name}", text, labels=["state"])
    for state, value in values.items():
        family.add_metric([state], value)
    return family


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"qnode_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
