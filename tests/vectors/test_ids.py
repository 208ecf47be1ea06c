"""The known answers of `proto/vectors/ids.json`."""

import json
from pathlib import Path

import pytest

from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, bech32m_decode, bech32m_encode, from_text, licence_from_text, licence_text, to_text

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/ids.json").read_text())


@pytest.mark.parametrize("text", VECTORS["bech32m"]["valid"])
def test_valid_bech32m(text: str) -> None:
    prefix, values = bech32m_decode(text)
    assert bech32m_encode(prefix, values) == text.lower()


@pytest.mark.parametrize("case", VECTORS["bech32m"]["invalid"], ids=lambda case: ascii(case["text"]))
def test_invalid_bech32m(case: dict[str, str]) -> None:
    with pytest.raises(QuStreamError) as caught:
        bech32m_decode(case["text"])
    assert caught.value.code == "E-ID-TEXT"


@pytest.mark.parametrize("case", VECTORS["ids"], ids=lambda case: case["text"])
def test_ids(case: dict[str, str]) -> None:
    kind, raw = IdKind(case["kind"]), bytes.fromhex(case["raw"])
    assert to_text(kind, raw) == case["text"]
    assert from_text(case["text"], kind) == raw


@pytest.mark.parametrize("case", VECTORS["ids_refused"], ids=lambda case: case["why"])
def test_refused_ids(case: dict[str, str]) -> None:
    with pytest.raises(QuStreamError) as caught:
        from_text(case["text"], IdKind(case["kind"]))
    assert caught.value.code == "E-ID-TEXT"


@pytest.mark.parametrize("case", VECTORS["licences"], ids=lambda case: case["text"])
def test_licences(case: dict[str, str]) -> None:
    assert licence_text(bytes.fromhex(case["raw"])) == case["text"]
    for text in (case["text"], *case["also"]):
        assert licence_from_text(text) == bytes.fromhex(case["raw"])


@pytest.mark.parametrize("case", VECTORS["licences_refused"], ids=lambda case: case["why"])
def test_refused_licences(case: dict[str, str]) -> None:
    with pytest.raises(QuStreamError) as caught:
        licence_from_text(case["text"])
    assert caught.value.code == "E-ID-TEXT"
