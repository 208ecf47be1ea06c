"""The metrics page: the snapshot's numbers under names that follow Prometheus' rules, with labels nobody outside can multiply."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.snapshots import snapshot

from qnode.api.metrics import MetricsPage
from qnode.api.status import StatusSnapshot, condition

Samples = dict[tuple[str, ...], float]


def page(shown: StatusSnapshot) -> str:
    return MetricsPage(lambda: shown).render().decode()


def samples(shown: StatusSnapshot) -> Samples:
    families = text_string_to_metric_families(page(shown))
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_every_number_is_the_snapshots() -> None:
    found = samples(snapshot())
    assert found["qnode_ready",] == 1
    assert found["qnode_start_time_seconds",] == 1000
    assert found["qnode_ready_seconds_total",] == 8000
    assert found["qnode_pool_units",] == 8
    assert found["qnode_pool_taken_units_total",] == 20
    assert found["qnode_held_blocks",] == 5
    assert found["qnode_spent_indices",] == 30
    assert found["qnode_erased_blocks_total",] == 25
    assert found["qnode_qrngd_live", "qr1abcdefghijklmnop"] == 1
    assert found["qnode_qrngd_units_total", "qr1abcdefghijklmnop"] == 29
    assert found["qnode_requests_answered_total", "key"] == 20
    assert found["qnode_requests_refused_total", "E-GRANT-SPENT"] == 2
    assert found["qnode_peer_failed_handshakes_total",] == 4
    assert found["qnode_info", "test", "community", "qn1xyz", "0.1.0"] == 1


def test_durations_are_a_histogram_that_adds_up() -> None:
    found = samples(snapshot())
    buckets = [found["qnode_request_duration_seconds_bucket", bound] for bound in ("0.002", "0.005", "0.01", "+Inf")]
    assert buckets == [0, 20, 25, 26]
    assert found["qnode_request_duration_seconds_count",] == 26
    assert found["qnode_request_duration_seconds_sum",] == pytest.approx(0.1305)


def test_conditions_are_shown_by_code_once_each() -> None:
    twice = (condition("E-PEER-UNREACHABLE", "a"), condition("E-PEER-UNREACHABLE", "b"), condition("E-CLOCK", "c", stops=True))
    found = samples(snapshot(ready=False, conditions=twice))
    assert found["qnode_ready",] == 0
    assert found["qnode_condition", "E-PEER-UNREACHABLE"] == 1
    assert found["qnode_condition", "E-CLOCK"] == 1
    assert "a" not in {name for key in found for name in key}


def test_names_follow_the_rules() -> None:
    text = page(snapshot(stopped=True))
    families = list(text_string_to_metric_families(text))
    for family in families:
        assert re.fullmatch(r"(qnode|process|python)_[a-z0-9_]+", family.name), family.name
        assert family.documentation, family.name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
        assert not family.name.endswith(("_ms", "_milliseconds", "_minutes"))
    assert {"process_resident_memory_bytes", "process_start_time_seconds"} <= {family.name for family in families}
    assert len({family.name for family in families}) == len(families)
