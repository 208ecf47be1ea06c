"""Runbooks say what is true: every code, command, option, metric, key, journal event and heading they name is there."""

from __future__ import annotations

import ast
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import click.testing
import msgspec
import pytest
from msgspec import inspect as shapes
from prometheus_client.parser import text_string_to_metric_families
from support.filled import sample

import qnode.api.metrics
import qnode.cli
import qnode.config
import qrngd.alerts.config
import qrngd.appliance.config
import qrngd.appliance.report
import qrngd.cli
import qrngd.config
import qrngd.metrics
import qustream.cli
from qnode.api.status import StatusSnapshot as NodeSnapshot
from qnode.api.status import status_text as node_text
from qrngd.status import StatusSnapshot as ServerSnapshot
from qrngd.status import status_text as server_text
from qustream.client.settings import HomeConfig, write_config
from qustream.errors import CODES, Family
from qustream.identity import keystore
from qustream.identity.signing import SigningKey
from qustream.identity.user import UserHome
from qustream.identity.words import new_words
from qustream.model.ids import IdKind, to_text
from qustream.registry import NetworkFileRegistry
from qustream.registry.rows import GrantRow, NodeRow, QrngServerRow, UserRow
from qustream.registry.writer import NetworkFileWriter

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/runbooks"
README = FOLDER / "README.md"
BOOKS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md"))}
PAGES = {name: text for name, text in BOOKS.items() if name != "README"}
PARTS = ("What it means.", "How to see it.", "What to do.", "When to worry.", "Never.")
GROUPS: dict[str, click.Group] = {"qnode": qnode.cli.cli, "qrngd": qrngd.cli.cli, "qustream": qustream.cli.cli}
# Other programs' options whose value may be the name of one of ours.
FOREIGN_OPTIONS = {"-u", "--uid", "--name", "-p"}
OTHER_PROGRAMS = {"mdb_copy"}
PREFIXES = {"sudo", "env", "systemd-run", "sh"}


# -- what runbooks say -------------------------------------------------------------------------------------------------


def fences(text: str, language: str) -> list[str]:
    """The code blocks of a language ('' for commands)."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def spans(text: str) -> Iterator[str]:
    """Everything set as code: the lines of command blocks and what stands between backquotes."""
    for block in fences(text, ""):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def invocations(span: str) -> Iterator[list[str]]:
    """The words of every call of one of our programs in a span, the program's name first."""
    for inner in re.findall(r"\$\(([^)]*)\)", span):
        yield from invocations(inner)
    for part in re.split(r"&&|\|\||[|;<>]", span):
        words = shlex.split(part, comments=True) if part.count("'") % 2 == part.count('"') % 2 == 0 else part.split()
        names = [Path(word).name for word in words]
        while names and re.fullmatch(r"\w+=.*", words[0]):
            names, words = names[1:], words[1:]
        starts = range(1) if names and names[0] not in PREFIXES else range(1, len(names))
        for at in starts:
            if at < len(names) and names[at] in GROUPS and (at == 0 or words[at - 1] not in FOREIGN_OPTIONS):
                yield [names[at], *words[at + 1 :]]
                break


def check_invocation(words: list[str]) -> None:
    """Raises AssertionError for a command or an option that is not there."""
    command: click.Command = GROUPS[words[0]]
    left = list(words[1:])
    while left:
        word = left.pop(0)
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            parameter = option_of(command, name)
            assert parameter is not None, f"{shlex.join(words)}: {command.name} has no option {name}"
            if not equals and isinstance(parameter, click.Option) and not parameter.is_flag and left:
                left.pop(0)
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            assert found is not None, f"{shlex.join(words)}: no command {word}"
            command = found


def commands_of(group: click.Group) -> list[click.Command]:
    """Groups may load a command when it is named."""
    context = click.Context(group)
    return [found for name in group.list_commands(context) if (found := group.get_command(context, name)) is not None]


def option_of(command: click.Command, name: str) -> click.Parameter | None:
    context = click.Context(command, **command.context_settings)
    return next((each for each in command.get_params(context) if name in each.opts), None)


# -- what there is -----------------------------------------------------------------------------------------------------


@cache
def metrics() -> dict[str, set[str]]:
    """Every metric the daemons and the appliance's reader show, with its labels."""
    pages = [qnode.api.metrics.MetricsPage(lambda: sample(NodeSnapshot)), qrngd.metrics.MetricsPage(lambda: sample(ServerSnapshot))]
    figures = qrngd.appliance.report.Figures(failures=Counter(x=1))
    texts = [*(page.render() for page in pages), qrngd.appliance.report.metrics_text(figures)]
    found: dict[str, set[str]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text.decode()):
            found.setdefault(family.name, set())
            for line in family.samples:
                found.setdefault(line.name, set()).update(line.labels)
    return found


@cache
def journal_events() -> set[str]:
    """What the daemons call the things they log."""
    events: set[str] = set()
    for path in (*(ROOT / "qnode").rglob("*.py"), *(ROOT / "qrngd").rglob("*.py")):
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "log" in ast.unparse(node.func)]
        events |= {call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)}
    return events


@cache
def cli_sources() -> str:
    """The commands' own code, for what they print."""
    return "".join(path.read_text() for package in ("qnode", "qrngd", "proto/qustream") for path in (ROOT / package / "cli").glob("*.py"))


def field_names(*kinds: type[Any]) -> set[str]:
    """The fields of structs and of the structs in them."""
    names: set[str] = set()
    left: list[shapes.Type] = [shapes.type_info(kind) for kind in kinds]
    while left:
        match left.pop():
            case shapes.StructType(fields=fields):
                for field in fields:
                    names.add(field.encode_name)
                    left.append(field.type)
            case shapes.VarTupleType(item_type=item) | shapes.ListType(item_type=item):
                left.append(item)
            case shapes.UnionType(types=types):
                left.extend(types)
    return names


KEYS = field_names(
    qnode.config.Config, qrngd.config.Config, qrngd.appliance.config.ReaderConfig, qrngd.alerts.config.AlertConfig,
    HomeConfig, NodeRow, QrngServerRow, UserRow, GrantRow, NodeSnapshot, ServerSnapshot
) | {"genesis_ms", "epoch_length_ms"}  # fmt: skip


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [code for code, row in CODES.items() if row.family is not Family.PEER])
def test_every_code_that_somebody_here_meets_has_a_runbook(code):
    assert code in PAGES


@pytest.mark.parametrize("code", PAGES)
def test_a_runbook_has_its_code_its_five_parts_and_a_length_one_can_read(code):
    heading, *lines = PAGES[code].splitlines()
    assert heading == f"# {code}: {CODES[code].meaning}"
    assert re.findall(r"^\*\*(.+?)\*\*", PAGES[code], re.MULTILINE) == list(PARTS)
    content = [line for line in lines if line]
    assert 8 <= len(content) <= 18
    assert max(map(len, lines)) <= 140


@pytest.mark.parametrize("name", BOOKS)
def test_codes_that_are_named_exist(name):
    for code in re.findall(r"\bE-[A-Z0-9]+(?:-[A-Z0-9]+)*(?![-…A-Z0-9])", BOOKS[name]):
        assert code in CODES


@pytest.mark.parametrize("name", BOOKS)
def test_commands_and_options_exist(name):
    for span in spans(BOOKS[name]):
        for words in invocations(span):
            check_invocation(words)
        if re.fullmatch(r"--[a-z-]+", span):
            subcommands = [command for group in GROUPS.values() for command in commands_of(group)]
            assert any(option_of(command, span) for command in subcommands), f"{name}: no command has {span}"


@pytest.mark.parametrize("name", BOOKS)
def test_metrics_exist_with_their_labels(name):
    known = metrics()
    for metric, labels in re.findall(r"\b((?:qnode|qrngd)_[a-z_]+)(?:\{([^}]*)\})?", BOOKS[name]):
        assert metric in known
        assert set(re.findall(r'(\w+)="', labels)) <= known[metric]


@pytest.mark.parametrize("name", BOOKS)
def test_configuration_keys_and_fields_exist(name):
    for span in spans(BOOKS[name]):
        if re.fullmatch(r"[a-z]+(_[a-z]+)+", span) and not re.match(r"(qnode|qrngd)_", span):
            assert span in KEYS or span in OTHER_PROGRAMS or f'"{span}"' in cli_sources(), f"{name}: {span}"
        for section in re.findall(r"\[\[([a-z_.]+)\]\]", span):
            assert section.split(".")[-1] in KEYS | {"users"}, f"{name}: {section}"


@pytest.mark.parametrize("name", BOOKS)
def test_journal_events_are_logged(name):
    for event in re.findall(r'"event": "([^"]+)"', BOOKS[name]):
        assert event in journal_events()


@pytest.mark.parametrize("name", BOOKS)
def test_lines_of_the_status_screens_exist(name):
    screens = node_text(sample(NodeSnapshot)) + "\n" + server_text(sample(ServerSnapshot))
    labels = {line.split("  ")[0].strip() for line in screens.splitlines()}
    for label in re.findall(r"[Ll]ine\s+`([a-z]+)(?: [a-z]+)*`", BOOKS[name]):
        assert label in labels or f'"{label}' in cli_sources(), f"{name}: no line {label}"


@pytest.mark.parametrize("name", BOOKS)
def test_references_lead_somewhere(name):
    headings = set(re.findall(r"^#+ (.+)$", BOOKS["README"], re.MULTILINE))
    for title in re.findall(r'README,\s+"([^"]+)"', BOOKS[name]):
        assert " ".join(title.split()) in headings
    for link in re.findall(r"\]\(([^)]+)\)", BOOKS[name]):
        assert (FOLDER / link).is_file()
    for path in re.findall(r"`((?:proto|scripts|deploy|qnode|qrngd)/[\w./-]+)", BOOKS[name]):
        assert (ROOT / path).exists()


def test_the_index_has_every_runbook():
    assert set(re.findall(r"\]\((E-[A-Z0-9-]+)\.md\)", BOOKS["README"])) == set(PAGES)


# -- the programs in the README ----------------------------------------------------------------------------------------


def example(name: str, language: str = "python") -> str:
    found = re.search(rf"<!-- example: {name} -->\n```{language}\n(.*?)```", BOOKS["README"], re.DOTALL)
    assert found, f"no example {name}"
    return found[1]


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """Passphrases for what the examples open, and the working directory and home they run in."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name in ("authority", "qustream"):
        (folder / name).write_text("correct horse")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return b"correct horse"


@pytest.fixture
def network(tmp_path, credentials):
    """A network file with one user, made by the keeper's key in `authority.keystore`."""
    seed = bytes(range(32))
    keystore.write(tmp_path / "authority.keystore", "authority", seed, credentials)
    writer = NetworkFileWriter.create(
        tmp_path / "network.toml", "test", SigningKey(seed), genesis_ms=0, epoch_length_ms=1000, seed=bytes(32)
    )
    words = new_words()
    home = UserHome.create(tmp_path / ".qustream", words, "laptop", credentials, now_ms=int(time.time() * 1000))
    writer.enrol(home.enrolment())
    writer.write()
    return writer, home, words


def test_the_keeper_can_revoke_a_device_and_change_the_key(network, tmp_path):
    writer, home, _ = network
    user, device = to_text(IdKind.USER, home.user), to_text(IdKind.DEVICE, home.device.id)
    program = example("keeper").replace('"qu1…"', repr(user)).replace('"qd1…"', repr(device))
    names: dict[str, Any] = {"new_key": SigningKey(bytes(32))}
    exec(program, names)
    registry = NetworkFileRegistry(tmp_path / "network.toml", writer.network_key_text)
    registry.load(0)
    assert [entry.revoked for entry in registry.user(home.user).devices] == [True]

    exec(example("new key"), names)
    second = NetworkFileRegistry(tmp_path / "network-2.toml", names["new_key"].public)
    second.load(0)
    assert (second.height, second.chain, second.epoch_at(5)) == (registry.height + 1, registry.chain, registry.epoch_at(5))
    assert second.user(home.user) == registry.user(home.user)


def test_every_change_the_keeper_is_told_of_can_be_made():
    for method in re.findall(r"network\.([a-z_]+)\(", BOOKS["README"]):
        assert callable(getattr(NetworkFileWriter, method))


def test_a_user_can_renew_the_certificate_and_rotate_the_key(network, monkeypatch, credentials):
    writer, home, words = network
    write_config(home.directory, writer.path, writer.network_key_text)
    later_ms = home.expires_ms + 86_400_000
    monkeypatch.setattr("qustream.cli.renewal.now_ms", lambda: later_ms)
    for name in ("renew", "rotate"):
        command = shlex.split(example(name, "sh"))
        assert command[0] == "qustream"
        done = click.testing.CliRunner().invoke(qustream.cli.cli, command[1:], input=words)
        assert done.exit_code == 0, done.exception
        renewed = UserHome.load(home.directory, credentials, now_ms=later_ms)
        assert renewed.expires_ms > home.expires_ms
        assert (renewed.ruid_key == home.ruid_key) == (name == "renew")


# -- the checks themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("qnode status --json", [["qnode", "status", "--json"]]),
        ("sudo -u qnode env A=1 /opt/bin/qnode init --dir x", [["qnode", "init", "--dir", "x"]]),
        ("systemctl restart qnode", []),
        ("journalctl -u qnode -n 5", []),
        ("sudo systemd-run --uid=qnode -p L=qnode:/x qnode doctor", [["qnode", "doctor"]]),
        ('grep -c "$(qnode id)" network.toml', [["qnode", "id"]]),
        ("qrngd status --json > before.json", [["qrngd", "status", "--json"]]),
        ("A=b qustream whoami | head", [["qustream", "whoami"]]),
    ],
)
def test_calls_of_our_programs_are_found(span, expected):
    assert list(invocations(span)) == expected


@pytest.mark.parametrize("call", ["qnode stauts", "qnode status --jsn", "qrngd --config x status", "qustream --homme x whoami"])
def test_wrong_calls_are_noticed(call):
    with pytest.raises(AssertionError):
        check_invocation(call.split())


def test_snapshots_hold_something_of_everything():
    for kind in (NodeSnapshot, ServerSnapshot):
        value = sample(kind)
        assert msgspec.json.decode(value.to_json(), type=kind) == value
