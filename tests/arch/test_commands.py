"""Whatever a transaction can do, a person can do by a command."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import qnode.cli
import qustream.cli
from qnode.core.ledger.actions import RULES
from qustream.identity import carried, consents
from qustream.wire.transactions import (
    Activate,
    AddDevice,
    DoubleSign,
    MergeUsers,
    RegisterUser,
    RegisterValidator,
    RevokeDevice,
)

# What others sign as well is made by these; evidence comes whole, out of a file.
MAKERS = {
    consents.activate: (Activate,), consents.register_validator: (RegisterValidator,), consents.entered: (RegisterUser,),
    consents.change_device: (AddDevice, RevokeDevice), carried.merge_of: (MergeUsers,),
}  # fmt: skip


def test_every_action_has_a_command() -> None:
    found: set[type] = set()
    for package in (qnode.cli, qustream.cli):
        assert package.__file__ is not None
        for path in sorted(Path(package.__file__).parent.glob("*.py")):
            module, text = import_module(f"{package.__name__}.{path.stem}"), path.read_text()
            found |= {kind for kind in RULES if vars(module).get(kind.__name__) is kind and f"{kind.__name__}(" in text}
            found |= {kind for maker, kinds in MAKERS.items() if f".{maker.__name__}(" in text for kind in kinds}
            found |= {DoubleSign} if vars(module).get("report") is not None and "verify_vote" in text else set()
    assert found == set(RULES)
