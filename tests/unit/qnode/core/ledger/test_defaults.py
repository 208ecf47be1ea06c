"""The parameters a chain has by default are those of the specification's table."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec.structs import asdict
from support.ledger_world import PARAMETERS

from qnode.core.ledger.defaults import DEFAULTS

SPEC = Path(__file__).resolve().parents[5] / "proto/spec/ledger.md"
SCALES = {"s": 1000, "h": 3_600_000, "d": 86_400_000, "QST": 10**9, "MiB": 1 << 20, "units": 1, "": 1}


def stated() -> dict[str, int]:
    """Name to figure, of the table in §9."""
    section = SPEC.read_text().partition("## 9. Parameters")[2].partition("## 10.")[0]
    found: dict[str, int] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        names = re.findall(r"`([a-z_]+)`", cells[1]) if len(cells) > 2 else []
        figures = [re.fullmatch(r"([0-9][0-9,.]*) ?(\w*)", figure.strip()) for figure in re.split(r",(?: )", cells[2])] if names else []
        units = [figure[2] for figure in figures if figure]
        for name, figure, unit in zip(names, figures, units, strict=True):
            assert figure is not None, line
            found[name] = round(float(figure[1].replace(",", "")) * SCALES[unit])
    return found


def test_the_defaults_are_the_specifications() -> None:
    assert stated() == asdict(DEFAULTS)
    assert DEFAULTS == PARAMETERS
