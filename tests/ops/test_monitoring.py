"""Rules, dashboard and samples speak of what there is: metrics, labels, codes, runbooks; and Prometheus' own tools agree."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import until
from support.debian import program
from support.filled import sample
from support.pusher import Alertmanager, Prometheus, Pusher
from support.qrng_server import Server, node_key

from qrngd.alerts.conditions import CONDITIONS, SETTLE_MS
from qrngd.alerts.config import load_alert_config
from qrngd.appliance.report import Figures, metrics_text
from qrngd.metrics import MetricsPage
from qrngd.status import StatusSnapshot
from qustream.errors import CODES, Family

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULE_TESTS = sorted(PROMETHEUS.glob("*.test.yml"))
RULES = (PROMETHEUS / "qrngd.rules.yml").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana" / "qrngd.json").read_text())
SPEC = (DEPLOY.parent / "proto" / "spec" / "monitoring.md").read_text()
# What only days of history show, what no server can say, and what another process shows.
RULES_ALONE = {"QrngdNotScraped", "QrngdDeviceAlarmsRising", "QrngdReaderFails", "QrngdReaderQuota"}
# What Prometheus adds itself, and the rules make.
FOREIGN = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
READER_PAGE = metrics_text(Figures())
TARGET_LABELS = {"job", "instance"}


def tool(name: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    found = program(name)
    assert found is not None
    return subprocess.run([found, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=120, cwd=PROMETHEUS)


@cache
def metrics() -> dict[str, set[str]]:
    """Every sample a server or an appliance's reader shows, with its labels."""
    found: dict[str, set[str]] = {}
    for text in (MetricsPage(lambda: sample(StatusSnapshot)).render(), READER_PAGE):
        for family in text_string_to_metric_families(text.decode()):
            for line in family.samples:
                found.setdefault(line.name, set()).update(line.labels)
    return found


def alerts() -> dict[str, str]:
    """The text of each alert's rule."""
    parts = re.split(r"^ +- (?=alert: |record: )", RULES, flags=re.MULTILINE)[1:]
    return {part.split()[1]: part for part in parts if part.startswith("alert: ")}


def recorded() -> set[str]:
    return set(re.findall(r"- record: (\S+)", RULES))


def rule_expressions() -> list[str]:
    found = re.findall(r"^ +expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", RULES, re.MULTILINE)
    return [block or line for block, line in found]


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def names_in(expression: str) -> set[str]:
    """The metrics of an expression."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", expression)
    return set(re.findall(r"\b(?:qrngd_\w+|process_\w+|up|ALERTS|device:[\w:]+)\b", bare))


def labels_in(expression: str) -> set[str]:
    """The labels of its matchers and of its clauses."""
    matchers = [re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", part) for part in re.findall(r"\{([^}]*)\}", re.sub(r'"[^"]*"', '""', expression))]
    clauses = re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression)
    return {label for found in matchers for label in found} | {label.strip() for each in clauses for label in each.split(",")}


def check_names(expression: str) -> None:
    """Raises AssertionError for a metric or a label that is not there."""
    known: set[str] = set(TARGET_LABELS)
    for name in names_in(expression):
        if name in recorded():
            known |= {"device"}
        else:
            assert name in metrics() or name in FOREIGN, f"no metric {name}"
            known |= metrics().get(name, FOREIGN.get(name, set()))
    assert names_in(expression)
    assert labels_in(expression) <= known, expression


# -- rules


@pytest.mark.parametrize("expression", rule_expressions())
def test_rules_speak_of_metrics_and_labels_that_exist(expression: str) -> None:
    check_names(expression)


@pytest.mark.parametrize("name", alerts())
def test_an_alert_has_all_that_somebody_woken_by_it_needs(name: str) -> None:
    text = alerts()[name]
    [(severity, code)] = re.findall(r"labels: \{severity: (\w+), code: ([A-Z-]+)\}", text)
    assert severity in ("critical", "warning")
    assert CODES[code].family is not Family.PEER
    [runbook] = re.findall(r"runbook_url: (\S+)", text)
    assert runbook == f"deploy/runbooks/{code}.md"
    assert (DEPLOY.parent / runbook).is_file()
    for part in ("summary", "description"):
        assert len(re.findall(rf"^ +{part}: \S.+", text, re.MULTILINE)) == 1
    known = {label for metric in names_in(text.partition("expr:")[2].partition("labels:")[0]) for label in metrics().get(metric, ())}
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= known | TARGET_LABELS


def test_the_pusher_and_the_rules_watch_for_the_same() -> None:
    assert {each.name for each in CONDITIONS} | RULES_ALONE == set(alerts())
    for each in CONDITIONS:
        text = alerts()[each.name]
        assert f"labels: {{severity: {each.severity}, code: {each.code}}}" in text
        spans = re.findall(r"^ +for: (\d+)([mh])", text, re.MULTILINE)
        held_ms = sum(int(count) * {"m": 60_000, "h": 3_600_000}[unit] for count, unit in spans)
        assert held_ms == each.hold_ms
        assert "keep_firing_for: 1m" in text
    assert SETTLE_MS == 60_000


def test_the_specification_lists_every_alert() -> None:
    rows = dict(re.findall(r"^\| `(Qrngd\w+)` \| (\w+) \|", SPEC, re.MULTILINE))
    assert rows == {name: re.findall(r"severity: (\w+)", text)[0] for name, text in alerts().items()}
    for name, text in alerts().items():
        [row] = re.findall(rf"^\| `{name}` .*", SPEC, re.MULTILINE)
        assert re.findall(r"code: ([A-Z-]+)", text)[0] in row


def test_every_alert_is_tested() -> None:
    tests = "".join(each.read_text() for each in RULE_TESTS)
    assert set(re.findall(r'\{alertname="(\w+)"', tests)) == set(alerts())


@pytest.mark.needs("promtool")
def test_promtool_finds_the_rules_right_and_each_alert_where_it_should_be() -> None:
    for what in (["check", "rules", "qrngd.rules.yml"], ["check", "config", "prometheus.yml"], ["test", "rules", *map(str, RULE_TESTS)]):
        done = tool("promtool", *what)
        assert done.returncode == 0, done.stdout + done.stderr
    count = len(alerts()) + len(recorded())
    assert f"{count} rules found" in tool("promtool", "check", "rules", "qrngd.rules.yml").stdout


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("qrngd_device_latched == 1", "qrngd_device_latched == 2"),
        ("> 2 + sum", "> 1 + sum"),
        ("+ 5 * sqrt", "+ 0 * sqrt"),
        ("for: 1h", "for: 1m"),
        ("< 0.7 *", "< 0.6 *"),
        ('state=~"live|failed"', 'state=~"live"'),
        ("and qrngd_stock_bytes < 262398", ""),
        ("and qrngd_ready == 1", ""),
        ("/ 259200", "/ 259200 * 0 + avg_over_time(up[3d])"),
    ],
)
def test_the_tests_of_the_rules_notice_a_wrong_rule(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in RULES
    (tmp_path / "qrngd.rules.yml").write_text(RULES.replace(right, wrong))
    for each in RULE_TESTS:
        (tmp_path / each.name).write_text(each.read_text())
    done = tool("promtool", "test", "rules", *(tmp_path / each.name for each in RULE_TESTS))
    assert (done.returncode, "FAILED" in done.stdout + done.stderr) == (1, True)


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


@pytest.mark.parametrize("expression", panel_expressions())
def test_panels_speak_of_metrics_and_labels_that_exist(expression: str) -> None:
    check_names(expression)


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not places & cells, panel["title"]
        assert all(x < 24 for x, _ in cells)
        places |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.needs("promtool")
def test_every_panel_is_a_query_prometheus_understands(tmp_path: Path) -> None:
    ours = [each.replace("$__rate_interval", "5m") for each in panel_expressions()]
    rules = [{"record": f"panel_{number}", "expr": each} for number, each in enumerate(ours)]
    # YAML takes JSON as it is.
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = tool("promtool", "check", "rules", tmp_path / "panels.yml")
    assert (done.returncode, f"{len(ours)} rules found" in done.stdout) == (0, True), done.stdout + done.stderr


# -- a server that runs

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
    for name in {each for expression in (*rule_expressions(), *panel_expressions()) for each in names_in(expression)}:
        # An emulator has no status bits; their family is there all the same.
        assert name in shown or name in families or name in FOREIGN or name in recorded() or name.startswith("qrngd_reader_"), name


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
        (tmp_path / "prometheus" / "qrngd.rules.yml").write_text(RULES)
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
            assert {rule["name"] for rule in rules} == set(alerts()) | recorded()
