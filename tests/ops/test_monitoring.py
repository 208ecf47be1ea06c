"""Rules, dashboards and samples speak of what there is: metrics, labels, codes, runbooks; and Prometheus' own tools agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.chain_circle import ChainCircle
from support.daemon import until
from support.filled import sample
from support.node import QNode
from support.pusher import Alertmanager, Prometheus, Pusher
from support.qrng_server import Server, node_key
from support.watched import DEPLOY, FOREIGN, PROMETHEUS, TARGET_LABELS, Watched, only, tool

import qnode.api.metrics
import qnode.api.status
import qrngd.metrics
import qrngd.status
from qrngd.alerts.conditions import CONDITIONS, SETTLE_MS
from qrngd.alerts.config import load_alert_config
from qrngd.appliance.report import Figures, metrics_text
from qustream.errors import CODES, Family

SPEC = (DEPLOY.parent / "proto" / "spec" / "monitoring.md").read_text()
# What only days of history show, what no server can say, and what another process shows.
RULES_ALONE = {"QrngdNotScraped", "QrngdDeviceAlarmsRising", "QrngdReaderFails", "QrngdReaderQuota"}
READER_PAGE = metrics_text(Figures())


def server_pages() -> list[bytes]:
    """Of a QRNG server, and of an appliance's reader."""
    return [qrngd.metrics.MetricsPage(lambda: sample(qrngd.status.StatusSnapshot)).render(), READER_PAGE]


def node_pages() -> list[bytes]:
    return [qnode.api.metrics.MetricsPage(lambda: sample(qnode.api.status.StatusSnapshot)).render()]


QRNGD, QNODE = Watched("qrngd", server_pages), Watched("qnode", node_pages)
WATCHED = (QRNGD, QNODE)
both = pytest.mark.parametrize("watched", WATCHED, ids=repr)


# -- rules


@pytest.mark.parametrize(("watched", "expression"), [(each, expression) for each in WATCHED for expression in each.rule_expressions])
def test_rules_speak_of_metrics_and_labels_that_exist(watched: Watched, expression: str) -> None:
    watched.check_names(expression)


@pytest.mark.parametrize(("watched", "name"), [(each, name) for each in WATCHED for name in each.alerts])
def test_an_alert_has_all_that_somebody_woken_by_it_needs(watched: Watched, name: str) -> None:
    text = watched.alerts[name]
    expression = text.partition("expr:")[2].partition("labels:")[0]
    [(severity, code)] = re.findall(r"labels: \{severity: (\w+)(?:, code: ([A-Z-]+))?\}", text)
    assert severity in ("critical", "warning")
    [runbook] = re.findall(r"runbook_url: (.+)", text)
    if code:
        assert runbook == f"deploy/runbooks/{code}.md"
        assert CODES[code].family is not Family.PEER
    else:  # it has the condition's
        assert runbook == "deploy/runbooks/{{ $labels.code }}.md"
    assert all((DEPLOY / "runbooks" / f"{each}.md").is_file() for each in ([code] if code else codes_of(expression)))
    for part in ("summary", "description"):
        assert len(re.findall(rf"^ +{part}: \S.+", text, re.MULTILINE)) == 1
    known = {label for metric in watched.names_in(expression) for label in watched.metrics.get(metric, ())}
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= known | TARGET_LABELS


def codes_of(expression: str) -> list[str]:
    """The codes whose condition raises an alert."""
    [pattern] = re.findall(r'qnode_condition\{code=~"([^"]+)"\}', expression)
    found = [code for code in CODES if re.fullmatch(pattern, code)]
    assert len(found) > 1
    return found


def test_the_pusher_and_the_rules_watch_for_the_same() -> None:
    assert {each.name for each in CONDITIONS} | RULES_ALONE == set(QRNGD.alerts)
    for each in CONDITIONS:
        text = QRNGD.alerts[each.name]
        assert f"labels: {{severity: {each.severity}, code: {each.code}}}" in text
        spans = re.findall(r"^ +for: (\d+)([mh])", text, re.MULTILINE)
        held_ms = sum(int(count) * {"m": 60_000, "h": 3_600_000}[unit] for count, unit in spans)
        assert held_ms == each.hold_ms
        assert "keep_firing_for: 1m" in text
    assert SETTLE_MS == 60_000


@both
def test_the_specification_lists_every_alert(watched: Watched) -> None:
    rows = dict(re.findall(rf"^\| `({watched.daemon.capitalize()}\w+)` \| (\w+) \|", SPEC, re.MULTILINE))
    assert rows == {name: re.findall(r"severity: (\w+)", text)[0] for name, text in watched.alerts.items()}
    for name, text in watched.alerts.items():
        [row] = re.findall(rf"^\| `{name}` .*", SPEC, re.MULTILINE)
        codes = re.findall(r"labels: .* code: ([A-Z-]+)", text) or ["the condition's"]
        assert f"| {codes[0]} |" in row
        held = "".join(re.findall(r"^ +for: (\d+[mh])", text, re.MULTILINE))
        words = held.replace("m", " min").replace("h", " h") or "at once"
        assert f"| {words} |" in row


@both
def test_every_alert_is_tested(watched: Watched) -> None:
    tests = "".join(each.read_text() for each in watched.rule_tests)
    assert set(re.findall(r'\{alertname="(\w+)"', tests)) == set(watched.alerts)


@pytest.mark.needs("promtool")
@both
def test_promtool_finds_the_rules_right_and_each_alert_where_it_should_be(watched: Watched) -> None:
    rules = f"{watched.daemon}.rules.yml"
    for what in (["check", "rules", rules], ["check", "config", "prometheus.yml"], ["test", "rules", *map(str, watched.rule_tests)]):
        done = tool("promtool", *what)
        assert done.returncode == 0, done.stdout + done.stderr
    count = len(watched.alerts) + len(watched.recorded)
    assert f"{count} rules found" in tool("promtool", "check", "rules", rules).stdout


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("watched", "right", "wrong"),
    [
        (QRNGD, "qrngd_device_latched == 1", "qrngd_device_latched == 2"),
        (QRNGD, "> 2 + sum", "> 1 + sum"),
        (QRNGD, "+ 5 * sqrt", "+ 0 * sqrt"),
        (QRNGD, "for: 1h", "for: 1m"),
        (QRNGD, "< 0.7 *", "< 0.6 *"),
        (QRNGD, 'state=~"live|failed"', 'state=~"live"'),
        (QRNGD, "and qrngd_stock_bytes < 262398", ""),
        (QRNGD, "and qrngd_ready == 1", ""),
        (QRNGD, "/ 259200", "/ 259200 * 0 + avg_over_time(up[3d])"),
        (QNODE, "and on (job, instance) qnode_ready == 0", ""),
        (QNODE, 'code=~"E-DISK-FULL|E-NODE-READONLY"', 'code="E-NODE-READONLY"'),
        (QNODE, "for: 15m", "for: 5m"),
        (QNODE, "< 4", "< 3"),
        (QNODE, "< 4", "< 5"),
        (QNODE, 'unless on (job, instance) qnode_condition{code="E-NO-PEERS"} == 1', ""),
        (QNODE, "and on (job, instance) qnode_known_nodes >= 12", ""),
        (QNODE, "max by (job) (qnode_registry_height)", "min by (job) (qnode_registry_height)"),
        (QNODE, "> 0.9 * qnode_held_capacity_blocks", "> 0.95 * qnode_held_capacity_blocks"),
        (QNODE, "/ 259200", "/ 259200 * 0 + avg_over_time(up[3d])"),
        (QNODE, "qnode_chain_final_age_seconds > 30", "qnode_chain_final_age_seconds > 300"),
        (QNODE, "+ 60 < on", "+ 61 < on"),
        (QNODE, "executed_height > 32", "executed_height > 33"),
        (QNODE, "3 * 86400", "2 * 86400"),
        (QNODE, "3 * 86400", "6 * 86400"),
        (QNODE, "qnode_chain_disk_free_bytes < 1e9", "qnode_chain_disk_free_bytes < 1e8"),
        (QNODE, "> 0.9 * qnode_mempool_capacity_bytes", "> 0.99 * qnode_mempool_capacity_bytes"),
        (QNODE, "> 8\n", "> 40\n"),
        (QNODE, "> 8\n", "> 1\n"),
        (QNODE, "and on (job, instance) qnode_validator_seated == 1", ""),
        (QNODE, "and on (job, instance) qnode_chain_final_age_seconds < 30", ""),
        (QNODE, "missed_views >= 2", "missed_views >= 1"),
        (QNODE, 'and on (job, instance) qnode_validator_duty{state=~"waits|votes"} == 1', ""),
        (QNODE, 'state=~"waits|votes"', 'state="votes"'),
    ],
)
def test_the_tests_of_the_rules_notice_a_wrong_rule(tmp_path: Path, watched: Watched, right: str, wrong: str) -> None:
    assert right in watched.rules
    rule = rule_with(watched, right)

    def passes(test: str, rules: str) -> bool:
        (tmp_path / f"{watched.daemon}.rules.yml").write_text(only(rules, watched.rules_for(rule + test)))
        (tmp_path / "one.test.yml").write_text(test)
        done = tool("promtool", "test", "rules", tmp_path / "one.test.yml")
        assert (done.returncode, "FAILED" in done.stdout + done.stderr) in ((0, False), (1, True)), done.stdout + done.stderr
        return done.returncode == 0

    # One of them has to notice. Only this rule and those that it names are there: promtool takes up to a second for all of them.
    noticing = next((test for test in watched.tests_of(rule) if not passes(test, watched.rules.replace(right, wrong))), None)
    assert noticing is not None, "no test of the rules notices"
    assert passes(noticing, watched.rules)


def rule_with(watched: Watched, text: str) -> str:
    """The first alert or recorded metric whose rule has this text."""
    return re.findall(r"^ +- (?:alert|record): (\S+)", watched.rules.partition(text)[0], re.MULTILINE)[-1]


@pytest.mark.needs("alertmanager")
def test_the_sample_of_an_alertmanager_is_right() -> None:
    done = tool("amtool", "check-config", "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_samples_agree_on_ports() -> None:
    scraped = re.findall(r'targets: \["127\.0\.0\.1:(73\d\d)"\]', (PROMETHEUS / "prometheus.yml").read_text())
    socket = re.findall(r"^ListenStream=127\.0\.0\.1:(\d+)$", (DEPLOY / "systemd" / "qrngd-pages.socket").read_text(), re.MULTILINE)
    watched = [str(each.target.port) for each in load_alert_config(DEPLOY / "qrngd-alert.toml").watch]
    assert scraped == socket == watched


# -- the dashboard


@pytest.mark.parametrize(("watched", "expression"), [(each, expression) for each in WATCHED for expression in each.panel_expressions])
def test_panels_speak_of_metrics_and_labels_that_exist(watched: Watched, expression: str) -> None:
    watched.check_names(expression)


@both
def test_a_dashboard_is_one_of_its_own_and_names_its_rules(watched: Watched) -> None:
    assert watched.dashboard["uid"] == f"qustream-{watched.daemon}"
    assert watched.dashboard["description"].endswith(f"Alerts: deploy/prometheus/{watched.daemon}.rules.yml.")


@both
def test_panels_have_a_place_of_their_own_and_say_what_they_show(watched: Watched) -> None:
    places: set[tuple[int, int]] = set()
    for panel in watched.dashboard["panels"]:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not places & cells, panel["title"]
        assert all(x < 24 for x, _ in cells)
        places |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in watched.dashboard["panels"]}) == len(watched.dashboard["panels"])


@pytest.mark.needs("promtool")
@both
def test_every_panel_is_a_query_prometheus_understands(tmp_path: Path, watched: Watched) -> None:
    ours = [each.replace("$__rate_interval", "5m") for each in watched.panel_expressions]
    rules = [{"record": f"panel_{number}", "expr": each} for number, each in enumerate(ours)]
    # YAML takes JSON as it is.
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = tool("promtool", "check", "rules", tmp_path / "panels.yml")
    assert (done.returncode, f"{len(ours)} rules found" in done.stdout) == (0, True), done.stdout + done.stderr


# -- daemons that run


def names_of(watched: Watched) -> set[str]:
    """Every metric of the daemon that its rules and panels speak of."""
    expressions = (*watched.rule_expressions, *watched.panel_expressions)
    return {name for expression in expressions for name in watched.names_in(expression)} - watched.recorded


NODE = node_key(1)
STUCK = 'kind = "emulator"\nname = "bad"\nfaults = "stuck@bytes=400000"\n[[device]]\nkind = "emulator"\nname = "good"'


@pytest.mark.e2e
@pytest.mark.needs("promtool")
def test_the_page_of_a_running_server_is_clean(tmp_path: Path) -> None:
    with Server(tmp_path, allow=[NODE], device=STUCK).running() as server:
        until(lambda: [each.state for each in server.status().devices] == ["failed", "live"])
        page = server.page("/metrics")[1].decode()
    done = tool("promtool", "check", "metrics", stdin=page)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    families = {family.name for family in text_string_to_metric_families(page)}
    shown = {line.name for family in text_string_to_metric_families(page) for line in family.samples}
    for name in names_of(QRNGD):
        # An emulator has no status bits; their family is there all the same.
        assert name in shown or name in families or name in FOREIGN or name.startswith("qrngd_reader_"), name


# Of nodes on a chain alone.
CHAIN_METRICS = ("qnode_chain_", "qnode_mempool_", "qnode_validator_", "qnode_sync_", "qnode_snapshot_", "qnode_strangers_")


def not_shown(page: str) -> set[str]:
    """The metrics that rules and runbooks name and a node's page has not; a family without lines is there all the same."""
    done = tool("promtool", "check", "metrics", stdin=page)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    families = {family.name for family in text_string_to_metric_families(page)}
    shown = {line.name for family in text_string_to_metric_families(page) for line in family.samples}
    return {name for name in names_of(QNODE) - shown - set(FOREIGN) if name.removesuffix("_total") not in families}


@pytest.mark.e2e
@pytest.mark.needs("promtool")
def test_the_page_of_a_running_node_is_clean(tmp_path: Path) -> None:
    with QNode(tmp_path, others=[("127.0.0.1:1", bytes(32))]).running() as node:
        node.until(lambda status: any(each.code for each in status.links))
        page = node.page("/metrics")[1].decode()
    assert {name for name in not_shown(page) if not name.startswith(CHAIN_METRICS)} == set()


@pytest.mark.e2e
@pytest.mark.needs("promtool")
def test_the_page_of_a_validator_is_clean(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 1) as circle:
        circle.start()
        circle.until_height(3)
        page = circle.nodes[0].page("/metrics")[1].decode()
    assert {name for name in not_shown(page) if name.startswith(CHAIN_METRICS)} == set()


@pytest.mark.needs("promtool")
def test_the_page_of_a_reader_is_clean() -> None:
    done = tool("promtool", "check", "metrics", stdin=READER_PAGE.decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.e2e
@pytest.mark.needs("prometheus", "alertmanager")
def test_a_failure_reaches_an_alertmanager_by_both_ways_as_one_alert(tmp_path: Path) -> None:
    """qrngd → Prometheus with these rules → Alertmanager, and qrngd → qrngd alert → the same Alertmanager."""
    manager, real = Alertmanager(tmp_path / "manager"), Server(tmp_path / "qrngd", allow=[NODE], device=STUCK)
    with manager.running(), real.running() as server:
        (tmp_path / "prometheus").mkdir()
        for each in WATCHED:
            (tmp_path / "prometheus" / f"{each.daemon}.rules.yml").write_text(each.rules)
        config = (PROMETHEUS / "prometheus.yml").read_text().replace("15s", "1s")
        config = config.replace("127.0.0.1:9093", manager.address).replace("127.0.0.1:7390", server.pages)
        with Prometheus(tmp_path / "prometheus", config).running() as prometheus:
            until(lambda: "QrngdDeviceFailed" in manager.alerts())
            by_rules = manager.alerts()["QrngdDeviceFailed"]
            watch = f'[[watch]]\nurl = "http://{server.pages}"\n'
            to = f'[[receiver]]\nname = "manager"\nkind = "alertmanager"\nurl = "http://{manager.address}"\nrenew_s = 1\n'
            with Pusher(tmp_path / "pusher", watch + to).running():
                until(lambda: "Remedy: " in manager.alerts()["QrngdDeviceFailed"]["annotations"]["description"])
                by_pusher = manager.alerts()["QrngdDeviceFailed"]
            assert by_rules["labels"] == by_pusher["labels"]
            assert by_rules["fingerprint"] == by_pusher["fingerprint"]
            assert by_rules["labels"]["device"] == "bad"
            rules: list[dict[str, Any]] = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
            until(lambda: all(rule["health"] == "ok" for group in prometheus.ask("rules")["groups"] for rule in group["rules"]))
            assert {rule["name"] for rule in rules} == {name for each in WATCHED for name in (*each.alerts, *each.recorded)}
