"""The fault script: what it says is what happens, and anything else is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.devices.faults import KINDS, Fault, parse_faults
from qustream.errors import OperatorFault


def test_defaults_and_keys() -> None:
    assert parse_faults("stuck@bytes=1000000") == (Fault("stuck", 1_000_000, 1_000_000 + (1 << 62), {"value": 0}),)
    assert parse_faults("biased@permille=20,length=10,seed=7")[0] == Fault("biased", 0, 10, {"value": 0, "permille": 20, "seed": 7})
    assert parse_faults("vanish@bytes=5,opens=3") == (Fault("vanish", 5, 6, {"opens": 3}),)
    assert parse_faults("swapped@bytes=5") == (Fault("swapped", 5, 6, {"opens": 0}),)
    assert parse_faults("dead@bytes=5+dead@opens=2") == (Fault("dead", 5, 6, {"opens": 1 << 62}), Fault("dead", 0, 1, {"opens": 2}))


def test_several_by_plus_and_by_line() -> None:
    by_plus = parse_faults("stuck@bytes=9+torn")
    assert [fault.kind for fault in by_plus] == ["stuck", "torn"]
    assert parse_faults("# first\nstuck@bytes=9\n\n  torn  \n") == by_plus
    assert parse_faults("") == ()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stands_alone_and_with_each_of_its_keys(kind: str) -> None:
    assert parse_faults(kind)[0].kind == kind
    for key, (_, least, most) in KINDS[kind].items():
        for number in (least, most):
            parse_faults(f"{kind}@{key}={number}")
        with pytest.raises(OperatorFault, match="must lie between"):
            parse_faults(f"{kind}@{key}={most + 1}")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("broken", "no kind 'broken'"),
        ("stuck@permille=3", "stuck has no 'permille'"),
        ("stuck@bytes=1,bytes=2", "bytes stands twice"),
        ("stuck@value=65536", "between 0 and 65535"),
        ("stuck@", "expected kind"),
        ("stuck@bytes", "expected kind"),
        ("stuck@bytes=", "expected kind"),
        ("stuck@bytes=-1", "expected kind"),
        ("stuck@bytes=1.5", "expected kind"),
        ("stuck@bytes=1,", "expected kind"),
        ("stuck @bytes=1", "expected kind"),
        ("Stuck", "expected kind"),
        ("stuck@bytes=١", "expected kind"),
        ("stuck++torn", "expected kind"),
        ("stuck@bytes=" + "9" * 4000, "must lie between"),
        ("+".join(["torn"] * 17), "17 faults"),
        ("#" * 5000, "5000 characters"),
    ],
)
def test_anything_else_is_refused(script: str, says: str) -> None:
    with pytest.raises(OperatorFault, match=says) as caught:
        parse_faults(script)
    assert caught.value.code == "E-CONFIG"


@given(st.text(max_size=80) | st.text("abcdeiklnorstuvw@=,+0123456789\n#", max_size=80))
def test_no_text_does_anything_but_parse_or_be_refused(script: str) -> None:
    try:
        faults = parse_faults(script)
    except OperatorFault:
        return
    assert all(fault.kind in KINDS and fault.start < fault.end for fault in faults)
