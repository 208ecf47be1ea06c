"""What `qnode doctor` says of a chain on the disk, and of a running validator by its status."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.chain_circle import ChainNodeProcess
from support.filled import sample
from support.ledger_world import genesis

from qnode.api.chain_status import ChainStatus, VotingStatus
from qnode.api.status import StatusSnapshot, condition
from qnode.cli import doctor_chain
from qnode.cli.doctor_chain import ChainSurvey, local_by, open_chain
from qnode.config import Config, load_config
from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text
from qustream.wire.chain import genesis_digest
from qustream.wire.codec import encode

NOW_MS = 1_900_000_000_000


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of a validator whose keys lie there; nothing runs."""
    document = genesis(validators=1, idle=0, people=0)
    (tmp_path / "genesis.bin").write_bytes(encode(document))
    node = ChainNodeProcess(tmp_path / "node", 0, tmp_path / "genesis.bin", votes=True, chain=document.chain, passphrase_file="passphrase")
    (node.folder / "passphrase").write_bytes(b"a validator's passphrase for tests only")
    (node.folder / "passphrase").chmod(0o600)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return load_config(node.config)


def running(*, final_ms: int = NOW_MS, voting: VotingStatus | None = None, code: str = "") -> StatusSnapshot:
    ledger = msgspec.structs.replace(sample(ChainStatus), final_ms=final_ms, voting=voting)
    conditions = (condition(code, "why"),) if code else ()
    return msgspec.structs.replace(sample(StatusSnapshot), ledger=ledger, conditions=conditions)


def survey(config: Config, seen: StatusSnapshot | None = None) -> ChainSurvey:
    return ChainSurvey(config, open_chain(config), seen, node_id=bytes(32), now_ms=NOW_MS)


def voting(**given: object) -> VotingStatus:
    sound = VotingStatus(2, "", 9, 0, 10, False, "votes", "LICENCE", 750, 500_000)
    return msgspec.structs.replace(sound, **given)


def code_of(survey: ChainSurvey, check: str) -> str:
    with pytest.raises(QuStreamError) as caught:
        getattr(survey, check)()
    return caught.value.code


def test_before_the_first_start_all_is_said_that_can_be(config: Config) -> None:
    told = survey(config)
    assert genesis_digest(told._chain.genesis).hex() in told.genesis()
    assert "nothing is here yet" in told.head()
    assert "free" in told.room()
    assert told.memory() == "rotation 0, last final view 0"
    assert told.duty() == "not known before the chain is here"


def test_a_running_nodes_head_is_young_and_not_of_tomorrow(config: Config) -> None:
    assert survey(config, running(final_ms=NOW_MS - 60_000)).head().startswith("block 1, ")
    assert code_of(survey(config, running(final_ms=NOW_MS - 60_001)), "head") == "E-CHAIN-STALE"
    assert survey(config, running(final_ms=NOW_MS + 2_000)).head()
    assert code_of(survey(config, running(final_ms=NOW_MS + 2_001)), "head") == "E-CLOCK"


def test_a_small_disk_is_told_before_it_is_full(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor_chain.shutil.disk_usage(config.data_dir)
    monkeypatch.setattr(doctor_chain.shutil, "disk_usage", lambda _: real._replace(free=doctor_chain.ROOM_BYTES - 1))
    assert code_of(survey(config), "room") == "E-DISK-FULL"


def test_a_memory_that_is_gone_or_doubted_is_told(config: Config) -> None:
    assert code_of(survey(config, running(code="E-VOTE-MEMORY")), "memory") == "E-VOTE-MEMORY"
    assert config.validator is not None
    config.validator.sign_state_path.unlink()
    assert code_of(survey(config), "memory") == "E-DATA-CORRUPT"
    assert code_of(survey(config, running()), "memory") == "E-DATA-CORRUPT"


def test_a_validators_duty_is_one_line(config: Config) -> None:
    assert survey(config, running(voting=voting())).duty() == "licence LICENCE, seat 2; commission 7.5 %; 500000 reveals left"
    assert "registered" in survey(config, running(voting=voting(duty="waits", seat=-1))).duty()
    assert "ends" in survey(config, running(voting=voting(duty="leaves"))).duty()
    assert "qnode validator register" in survey(config, running(voting=voting(duty="none", licence=""))).duty()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"duty": "other-key"}, "E-VOTE-KEY"),
        ({"suspended_until_ms": NOW_MS}, "E-VOTE-SUSPENDED"),
        ({"slashed": True}, "E-SLASHED"),
        ({"links": 9_999}, "E-VOTE-REVEALS"),
    ],
)
def test_what_costs_a_validator_money_fails(config: Config, given: dict[str, object], code: str) -> None:
    assert code_of(survey(config, running(voting=voting(**given))), "duty") == code


def test_only_what_genesis_and_the_configuration_say_may_lead_into_a_local_network(config: Config) -> None:
    document = open_chain(config).genesis
    [node] = [each.node for each in document.licences if each.node is not None]
    named = msgspec.structs.replace(config, nodes=(f"{to_text(IdKind.NODE, bytes(32))}@10.0.0.7:7400",))
    local = local_by(named, document)
    assert (local(node.key.id), local(bytes(32)), local(b"x" * 32)) == (node.addresses, ("10.0.0.7:7400",), ())
    at_home = msgspec.structs.replace(config, addresses=("10.0.0.8:7400",))
    assert local_by(at_home, document)(b"x" * 32) is None
