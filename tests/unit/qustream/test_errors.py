"""One table of codes, and the specification that prints it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from qustream.errors import CODES, Family, OperatorFault, PeerFault, QuStreamError, Unavailable, fault

SPEC = Path(__file__).parents[3] / "proto/spec/errors.md"
CLASSES = {Family.PEER: PeerFault, Family.OPERATOR: OperatorFault, Family.UNAVAILABLE: Unavailable}
LABEL_MAX_CHARACTERS = 64
TEXT_MAX_CHARACTERS = 256


def test_the_specification_prints_this_table():
    rows = re.findall(r"^\| `(E-[A-Z0-9-]+)` \| (\w+) \| (.+) \| (.+) \|$", SPEC.read_text(), re.MULTILINE)
    printed = {code: (family, meaning, remedy) for code, family, meaning, remedy in rows}
    assert len(rows) == len(printed)
    assert printed == {code: tuple(row) for code, row in CODES.items()}, "run scripts/spec_tables.py"


@pytest.mark.parametrize("code", CODES)
def test_every_row_is_fit_for_people_and_for_the_wire(code):
    row = CODES[code]
    assert re.fullmatch(r"E(-[A-Z0-9]+)+", code)
    assert len(code) <= LABEL_MAX_CHARACTERS
    for text in (row.meaning, row.remedy):
        assert 0 < len(text) <= TEXT_MAX_CHARACTERS
        assert text.isprintable()
        assert not text.endswith(".")
        assert "|" not in text


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_one_family_everywhere(code):
    error = fault(code, "what happened")
    assert type(error) is CLASSES[CODES[code].family]
    assert error.row is CODES[code]
    assert str(error) == f"{code}: what happened. Remedy: {CODES[code].remedy}."
    assert str(fault(code)) == f"{code}: {CODES[code].meaning}. Remedy: {CODES[code].remedy}."


@pytest.mark.parametrize(("code", "exit_code"), [("E-PROOF", 1), ("E-CONFIG", 78), ("E-NODE-FULL", 75)])
def test_a_command_ends_by_who_must_act(code, exit_code):
    assert fault(code).exit_code == exit_code


def test_an_invented_code_is_our_bug():
    with pytest.raises(KeyError):
        fault("E-INVENTED")


def test_retry_is_carried():
    assert fault("E-NODE-FULL", retry_after_ms=1500).retry_after_ms == 1500
    assert fault("E-NODE-FULL").retry_after_ms is None


def test_an_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(fault("E-PROOF", "detail")))
    assert isinstance(error, QuStreamError)
    assert (error.code, error.detail) == ("E-PROOF", "detail")
    assert error.remedy == CODES["E-PROOF"].remedy
