"""A status page is a stranger's word: what fits is taken, everything else is one error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alert_pages import device, page, snapshot
from support.filled import sample

from qrngd.alerts.picture import known_code, printable, read_picture
from qrngd.status import StatusFlag, StatusSnapshot


def test_what_a_daemon_says_of_itself_is_understood() -> None:
    seen = read_picture(page(device(name="one"), device(name="two", state="failed", code="E-DEV-LATCHED"), wanted=7))
    assert [(each.name, each.state, each.code) for each in seen.devices] == [("one", "live", ""), ("two", "failed", "E-DEV-LATCHED")]
    assert seen.wanted_units == 7
    assert seen.ready
    assert read_picture(sample(StatusSnapshot).to_json()).feed.attestations == 1


def test_a_newer_server_may_say_more() -> None:
    more = json.loads(page()) | {"colour": "blue"}
    more["devices"][0]["temperature"] = 41
    assert read_picture(json.dumps(more).encode()).devices[0].name == "card"


def changed(where: str, value: Any) -> bytes:
    said = json.loads(snapshot(device(flags=(StatusFlag("voltage_low", True),))).to_json())
    *path, last = where.split(".")
    place = said
    for each in path:
        place = place[int(each)] if each.isdigit() else place[each]
    place[last] = value
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("devices", None),
        ("devices", [{}]),
        ("devices.0.name", "a\nb"),
        ("devices.0.name", ""),
        ("devices.0.name", "x" * 65),
        ("devices.0.windows", -1),
        ("devices.0.windows", 1.5),
        ("devices.0.flags.0.name", "\u202e"),
        ("devices.0.flags", [{"name": "x", "on": True}] * 65),
        ("devices", [json.loads(page())["devices"][0]] * 17),
        ("feed.nodes", [{"credit": 1}] * 513),
        ("feed.nodes.0.credit", "many"),
        ("server", "q" * 129),
        ("ready", "yes"),
    ],
)
def test_what_does_not_fit_is_refused(where: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_picture(changed(where, value))


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode), st.just(b"[" * 100_000)))
def test_no_bytes_do_more_than_fail(said: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_picture(said)


def test_words_are_shown_without_what_could_harm() -> None:
    assert printable("a\x1b[31mb\n") == "a�[31mb�"
    assert len(printable("x" * 10_000)) == 512
    assert [known_code(code) for code in ("E-DEV-READ", "E-NO-SUCH", "E-SIGNATURE", "")] == ["E-DEV-READ", "", "", ""]
