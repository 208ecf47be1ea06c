"""How a node gets the chain from others, and what strangers have of it. Rendered as JSON, text and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

__all__ = ["StrangersStatus", "SyncStatus", "sync_lines", "sync_metrics"]


class SyncStatus(Struct, frozen=True):
    """`licensed`: the chain, as far as it is here, lists the node as an active one. `behind`: final blocks that others speak of and that
    are not here. By how a node is asked (`link`, `stranger`): `nodes` that can be asked, blocks `fetched`, questions `refused` or without
    an answer. `known`: nodes that could be asked as a stranger; `charged`: who lied; `given`: own transactions that others took without a
    link, `given_refused`: what was said the last time that nobody did. Of a state that is being taken in: its `chunks`, those `missing`."""

    licensed: bool = True
    behind: int = 0
    nodes: Mapping[str, int] = field(default_factory=dict)
    fetched: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    known: int = 0
    charged: int = 0
    given: int = 0
    given_refused: str = ""
    chunks: int = 0
    missing: int = 0


class StrangersStatus(Struct, frozen=True):
    """What nodes without a licence asked here. `answered`, `refused`: by kind; `waiting`: questions that wait for a block; `shed`: those
    that had to give way; `sent_bytes`: of answers."""

    answered: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    shed: int = 0
    sent_bytes: int = 0


def sync_lines(status: SyncStatus) -> list[str]:
    """For people; nothing if it is as it is mostly."""
    strangers = status.nodes.get("stranger", 0)
    lines = []
    if not status.licensed:
        lines += [
            f"unlicensed  no licence is active for this node; {_asking(status, strangers)}",
            f"next        {_next(status, strangers)}",
        ]
    elif strangers:
        lines.append(f"asks        {strangers} nodes as a stranger, for nobody is linked")
    if status.given_refused:
        lines.append(f"given       no node has taken a transaction of this node: {status.given_refused}")
    return lines


def _asking(status: SyncStatus, strangers: int) -> str:
    if strangers or status.nodes.get("link", 0):
        behind = f", {status.behind} blocks behind them" if status.behind else ""
        return f"it follows the chain by asking {strangers} nodes as a stranger{behind}"
    return f"none of the {status.known} nodes that it could ask answers"


def _next(status: SyncStatus, strangers: int) -> str:
    if not strangers:
        return 'name nodes that are up in the configuration: nodes = ["qn1…@host:port"]'
    return "qnode licence activate LICENCE, when the chain is here" if status.behind else "qnode licence activate LICENCE"


def sync_metrics(status: SyncStatus, strangers: StrangersStatus) -> Iterator[Metric]:
    """All families about it."""
    yield _gauge("chain_licensed", "1 if the chain lists this node as an active one", int(status.licensed))
    yield _gauge("sync_behind_blocks", "Final blocks that others speak of and that are not here", status.behind)
    yield _labelled_gauge("sync_nodes", "Nodes that can be asked for the chain, by how", "source", status.nodes)
    yield _labelled("sync_blocks", "Blocks that came from others, by how they are asked", "source", status.fetched)
    yield _labelled("sync_refused", "Questions without an answer, by how", "source", status.refused)
    yield _counter("sync_charged_nodes", "Nodes that told what is not true", status.charged)
    yield _counter("sync_given_transactions", "Own transactions that others took without a link", status.given)
    yield _gauge("snapshot_chunks", "Chunks of the state that is being taken in", status.chunks)
    yield _gauge("snapshot_missing_chunks", "Of these, chunks that are not here yet", status.missing)
    yield _labelled("strangers_answered", "Answers to nodes without a licence, by kind", "kind", strangers.answered)
    yield _labelled("strangers_refused", "Questions of theirs that were refused, by kind", "kind", strangers.refused)
    yield _gauge("strangers_waiting", "Questions of theirs that wait for a block", strangers.waiting)
    yield _counter("strangers_shed", "Of these, those that gave way to others", strangers.shed)
    yield _counter("strangers_sent_bytes", "Bytes of answers to them", strangers.sent_bytes)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qnode_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"qnode_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"qnode_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _labelled_gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"qnode_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
