"""Nodes as people configure them."""

from __future__ import annotations

import pytest

from qustream.errors import QuStreamError
from qustream.light.nodes import node_from_text
from qustream.model.ids import IdKind, to_text

NODE = b"n" * 32
TEXT = to_text(IdKind.NODE, NODE)


def test_a_node_is_its_id_and_where_it_is() -> None:
    assert node_from_text(f"{TEXT}@[::1]:7400") == (NODE, "[::1]:7400")


@pytest.mark.parametrize("text", ["", TEXT, f"{TEXT}@", f"{TEXT}@host", f"x{TEXT}@host:1", f"{TEXT}@unix:/run/anybody", "@host:1"])
def test_what_is_no_node_that_proves_who_it_is(text: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        node_from_text(text)
    assert caught.value.code == "E-CONFIG"
