"""The configuration file: what it takes, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrngd.cli.init import _config_text
from qrngd.config import load_config
from qrngd.devices import CharacterDevice, Emulator
from qustream.errors import OperatorFault
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text

NODE = SigningKey(bytes(32)).id
ALLOW = f'[[allow]]\nid = "{to_text(IdKind.NODE, NODE)}"\n'
GOOD = f"""
chain = "test"
data_dir = "data"
listen = ["127.9.0.1:7300"]
{ALLOW}
[[device]]
kind = "emulator"
"""


CHECKPOINT, NETWORK = to_text(IdKind.CHECKPOINT, bytes(32)), to_text(IdKind.NETWORK, bytes(32))
BY_CHAIN = f'checkpoint = "{CHECKPOINT}"\nnodes = ["{to_text(IdKind.NODE, NODE)}@[2001:db8::7]:7400"]\n'


def test_a_chain_says_who_may_and_the_list_restricts_it(tmp_path: Path) -> None:
    (tmp_path / "qrngd.toml").write_text(GOOD.replace('data_dir = "data"', f'data_dir = "data"\n{BY_CHAIN}'))
    config = load_config(tmp_path / "qrngd.toml")
    assert (config.checkpoint_digest, config.asked[0].id, config.allowed_ids) == (bytes(32), NODE, {NODE})
    (tmp_path / "qrngd.toml").write_text(GOOD.replace('data_dir = "data"', f'data_dir = "data"\n{BY_CHAIN}').replace(ALLOW, ""))
    assert load_config(tmp_path / "qrngd.toml").allowed_ids == frozenset()


def load(tmp_path: Path, text: str) -> object:
    (tmp_path / "qrngd.toml").write_text(text)
    return load_config(tmp_path / "qrngd.toml")


def test_a_good_file(tmp_path: Path) -> None:
    config = load_config((tmp_path / "qrngd.toml").write_text(GOOD) and tmp_path / "qrngd.toml")
    assert config.data_dir == tmp_path / "data"
    assert config.allowed_ids == {NODE}
    assert (config.stock_units, config.attestation_lifetime_s, config.log_level) == (16, 3600, "info")
    assert isinstance(config.device[0].make(), Emulator)
    assert config.device[0].expected.emulated


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("chain =", "chian ="), "unknown key chian; did you mean chain?"),
        (("kind =", "knd ="), "unknown key device[0].knd; did you mean kind?"),
        (("id =", "ident ="), "unknown key allow[0].ident"),
        (('"emulator"', '"toaster"'), "device[0].kind"),
        (('"127.9.0.1:7300"', '"127.9.0.1"'), "listen[0]: '127.9.0.1' is not host:port"),
        (('listen = ["127.9.0.1:7300"]', ""), "listen: give an address or a unix socket"),
        ((ALLOW, ""), "allow: nobody may have a feed"),
        (("qn1", "qn2"), "allow[0].id"),
        (('kind = "emulator"', 'kind = "emulator"\n[[device]]\nkind = "emulator"'), "a name of its own"),
        (('[[device]]\nkind = "emulator"', "device = []"), "device"),
        (('kind = "emulator"', 'kind = "chardev"'), "device[0].path"),
        (('kind = "emulator"', 'kind = "chardev"\npath = "/dev/hwrng"'), "min_entropy_millibits"),
        (('kind = "emulator"', 'kind = "emulator"\npath = "/dev/hwrng"'), "device[0].path"),
        (('kind = "emulator"', 'kind = "emulator"\nfaults = "explodes"'), "explodes"),
        (('kind = "emulator"', 'kind = "emulator"\nmin_entropy_millibits = 0'), "device[0].min_entropy_millibits"),
        (('data_dir = "data"', 'data_dir = "data"\nunix_uids = [3]'), "unix_uids"),
        (('data_dir = "data"', 'data_dir = "data"\nnetwork_file = "n"'), "network_key"),
        (('data_dir = "data"', f'data_dir = "data"\ncheckpoint = "{CHECKPOINT}"'), "checkpoint and nodes"),
        (('data_dir = "data"', f'data_dir = "data"\ncheckpoint = "{CHECKPOINT}"\nnodes = ["qn1x@a:1"]'), "nodes[0]"),
        (('data_dir = "data"', f'data_dir = "data"\n{BY_CHAIN}network_file = "n"\nnetwork_key = "{NETWORK}"'), "network_file is set"),
        (('data_dir = "data"', 'data_dir = "data"\nstock_units = 1000000'), "stock_units"),
        (('data_dir = "data"', 'data_dir = "data"\nattestation_lifetime_s = 5'), "attestation_lifetime_s"),
        (('chain = "test"', "chain = "), "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = GOOD.replace("[[device]]\nkind", "[[device]]\nkind").replace(*change)
    assert text != GOOD
    with pytest.raises(OperatorFault) as caught:
        load(tmp_path, text)
    assert caught.value.code == "E-CONFIG"
    assert said in caught.value.detail
    assert "qrngd.toml" in caught.value.detail


def test_a_character_device(tmp_path: Path) -> None:
    text = GOOD.replace('kind = "emulator"', 'kind = "chardev"\npath = "device"\nmin_entropy_millibits = 6000\nmodel = "card"')
    (tmp_path / "qrngd.toml").write_text(text)
    device = load_config(tmp_path / "qrngd.toml").device[0]
    assert device.path == tmp_path / "device"
    assert isinstance(device.make(), CharacterDevice)
    assert (device.expected.min_entropy_millibits, device.expected.model, device.expected.emulated) == (6000, "card", False)


SETTINGS = {
    "chain": 'a "quoted" chain', "network_file": "network.toml", "network_key": "", "listen": "0.0.0.0:7300", "unix": "",
    "status_listen": "127.0.0.1:7390", "name": "card1",
}  # fmt: skip


@pytest.mark.parametrize(("device", "entropy"), [("emulator", None), ("/dev/hwrng", 6000)])
@pytest.mark.parametrize("unix", ["", "/run/qrngd/feed.sock"])
def test_what_init_writes_can_be_read(tmp_path: Path, device: str, entropy: int | None, unix: str) -> None:
    text = _config_text(device, entropy, SETTINGS | {"unix": unix})
    (tmp_path / "qrngd.toml").write_text(text + ALLOW)
    config = load_config(tmp_path / "qrngd.toml")
    assert config.chain == 'a "quoted" chain'
    assert config.unix == (Path(unix) if unix else None)
    assert config.device[0].kind == ("emulator" if device == "emulator" else "chardev")


@pytest.mark.parametrize("kind", ["chardev", "serial", "qcicada", "quantis", "appliance"])
def test_every_key_that_init_comments_out_exists(tmp_path: Path, kind: str) -> None:
    text = _config_text(f"{kind}:/dev/card", 6000, SETTINGS)
    lines = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines()]
    text = "\n".join(lines).replace("# [[allow]]", "[[allow]]").replace("qn1...", to_text(IdKind.NODE, NODE))
    text = text.replace("qnet1...", to_text(IdKind.NETWORK, NODE))
    (tmp_path / "qrngd.toml").write_text(text)
    config = load_config(tmp_path / "qrngd.toml")
    assert config.unix_uids == (990,)
    assert config.allow[0].name == "site A"
    assert (config.device[0].kind, config.device[0].name) == (kind, "card1")
