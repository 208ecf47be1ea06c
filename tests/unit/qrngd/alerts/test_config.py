"""The file of `qrngd alert`: what it may say, and that it says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrngd.alerts.config import AlertConfig, load_alert_config
from qustream.errors import QuStreamError

WATCH = '[[watch]]\nurl = "127.0.0.1:7390"\n'
ROOT = Path(__file__).resolve().parents[4]


def load(folder: Path, text: str) -> AlertConfig:
    (folder / "alert.toml").write_text(text)
    return load_alert_config(folder / "alert.toml")


def receiver(*lines: str, kind: str = "webhook", url: str = "https://hooks.example/x") -> str:
    return "\n".join(["[[receiver]]", 'name = "ops"', f'kind = "{kind}"', f'url = "{url}"', *lines, ""])


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    config = load(tmp_path, WATCH)
    assert (config.interval_s, config.settle_s, config.receiver, config.log_level) == (5, 60, (), "info")
    assert (config.watch[0].name, f"{config.watch[0].target}{config.watch[0].target.path}") == (
        "127.0.0.1:7390", "http://127.0.0.1:7390/v1/status",
    )  # fmt: skip


def test_addresses(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:7390", "http://127.0.0.1:7390/", "127.0.0.1:7390", "http://127.0.0.1:7390/v1/status"):
        assert load(tmp_path, f'[[watch]]\nurl = "{url}"\n').watch[0].target.path == "/v1/status"
    named = load(tmp_path, '[[watch]]\nurl = "https://qrng.example/pages"\ninstance = "lab"\n').watch[0]
    assert (named.name, named.target.path) == ("lab", "/pages/v1/status")
    manager = load(tmp_path, WATCH + receiver(kind="alertmanager", url="http://127.0.0.1:9093/")).receiver[0]
    assert (manager.target.path, manager.renew_ms, manager.lasts_ms) == ("/api/v2/alerts", 60_000, 240_000)
    hook = load(tmp_path, WATCH + receiver("renew_s = 10")).receiver[0]
    assert (hook.target.path, hook.renew_ms) == ("/x", 10_000)
    assert load(tmp_path, WATCH + receiver('bearer_file = "token"')).receiver[0].bearer_file == tmp_path / "token"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "watch"),
        ("watch = []", "watch"),
        (WATCH + WATCH, "watched already"),
        ('[[watch]]\nurl = "http://192.0.2.1:7390"\n', "https"),
        ('[[watch]]\nurl = "ftp://x"\n', "http"),
        (WATCH + receiver() + receiver(), "is taken"),
        (WATCH + receiver(url="http://hooks.example/x"), "plain_http"),
        (WATCH + receiver(url="https://me:secret@hooks.example/"), "no user or password"),
        (WATCH + receiver(kind="pager"), "kind"),
        (WATCH + receiver("sign = true", kind="alertmanager", url="http://127.0.0.1:1"), "sign"),
        (WATCH + receiver("bearr = true"), "did you mean bearer"),
        ('labels = {severity = "x"}\n' + WATCH, "labels.severity"),
        ('labels = {"a b" = "x"}\n' + WATCH, "labels.a b"),
        ("interval_s = 0\n" + WATCH, "interval_s"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(QuStreamError, match="E-CONFIG") as refused:
        load(tmp_path, text)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_plain_http_may_be_asked_for(tmp_path: Path) -> None:
    text = '[[watch]]\nurl = "http://192.0.2.1:7390"\nplain_http = true\n' + receiver("plain_http = true", url="http://hooks.example/x")
    assert load(tmp_path, text).receiver[0].target.port == 80


def test_the_sample_is_right() -> None:
    config = load_alert_config(ROOT / "deploy" / "qrngd-alert.toml")
    assert [each.kind for each in config.receiver] == ["alertmanager", "webhook"]
