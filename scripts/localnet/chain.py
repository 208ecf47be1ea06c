"""A local network with a chain: its genesis and validators, an account that pays, users who are entered by transactions."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from localnet import network
from localnet.layout import Layout
from localnet.processes import BIN, Failed
from localnet.together import together
from qnode.cli.genesis_file import read_genesis
from qnode.service.light import first_checkpoint
from qnode.store.sign_state import SignStateFile
from qustream.identity.voting import VoteKey
from qustream.identity.voting import read as read_votes
from qustream.identity.wallet import Wallet
from qustream.identity.words import UserSecrets, new_words
from qustream.model.ids import IdKind, account_id, licence_text, to_text
from qustream.wire.light import checkpoint_digest

# Reveals of a validator: four that lead by turns at a block a second use them up in twelve days; computed in a quarter of a second.
LINKS = 1 << 18
# A chain to try things on: what takes weeks elsewhere takes minutes. Rotations, epochs: see `Layout`.
PARAMETERS = {
    "interval_ms": "1s", "idle_ms": "1s", "lock_ms": "1m", "evidence_ms": "2m", "market_rest_ms": "2m",
    "top_up_ms": "1m", "removed_ms": "3m", "appeal_ms": "2m", "suspension_ms": "1m",
}  # fmt: skip
# Of 10⁹: each owner, the bank that pays for users, and what a user gets when he is entered.
OWNER_QST, BANK_QST, USER_QST = 300_000, 1_000_000, 100
SPARE_PRICE_QST = 1_000
# A stake outlasts evidence by two rotations (`proto/spec/ledger.md`, §9), and a minute.
UNBONDS_AFTER_MS = (2 + 1) * 60_000
# Keys are made side by side: each takes a second of one processor.
AT_ONCE = 2


def create(layout: Layout) -> None:
    """Make every key, configuration and the genesis document of a new network in `layout.directory`."""
    layout.directory.mkdir(parents=True, exist_ok=True)
    layout.logs.mkdir(exist_ok=True)
    with together(AT_ONCE) as pool:
        server = pool.submit(network.init, layout, "qrngd", "qrngd.pub", ["--chain", layout.chain, "--device", "emulator"])
        keys = list(pool.map(lambda name: network.init(layout, name, "node.pub", ["--chain", layout.chain]), layout.node_names))
        list(pool.map(lambda name: _vote_keys(layout, name), layout.validator_names))
        bank = pool.submit(_bank, layout)
        layout.qrngd_id = to_text(IdKind.QRNG, server.result().id)
        layout.nodes = {name: to_text(IdKind.NODE, key.id) for name, key in zip(layout.node_names, keys, strict=True)}
        bank_account = bank.result().account
    _genesis(layout, bank_account)
    layout.checkpoint = to_text(IdKind.CHECKPOINT, checkpoint_digest(first_checkpoint(read_genesis(layout.genesis))))
    layout.config("qrngd").write_text(_qrngd_config(layout))
    for name in layout.node_names:
        layout.config(name).write_text(_node_config(layout, name))
    layout.save()


def _vote_keys(layout: Layout, name: str) -> None:
    """As an operator would; the memory of what was signed begins empty."""
    file, credential = layout.home(name) / "votes.keystore", layout.new_credential(name)
    _run([BIN / "qnode", "validator", "keys", file, "--links", str(LINKS)], credential)
    memory = SignStateFile(file.with_name("sign-state"), VoteKey(read_votes(file, (credential / "qnode").read_bytes()).seed).id)
    if not memory.path.exists():
        memory.begin()


def _bank(layout: Layout) -> Wallet:
    passphrase = (layout.new_credential("bank") / "qustream").read_bytes()
    return Wallet.create(layout.bank, new_words(), passphrase, chain=layout.chain, api=layout.api())


def _owner(layout: Layout, name: str) -> bytes:
    """The account of a node's owner; its words lie with the passphrases, for `qustream wallet restore`."""
    words = new_words()
    path = layout.new_credential("owners") / f"{name}.words"
    path.touch(mode=0o600)
    path.write_text(words)
    return account_id(UserSecrets.from_words(words).account.id)


def _genesis(layout: Layout, bank: bytes) -> None:
    """Every node has an owner of its own, or no two could serve one request; foundation nodes are told apart by their sites, too."""
    owners = {name: _owner(layout, name) for name in layout.node_names}
    funds = {bank: BANK_QST} | dict.fromkeys(owners.values(), OWNER_QST) | dict.fromkeys(map(bytes.fromhex, layout.funded), USER_QST)
    unbonding_ms = UNBONDS_AFTER_MS + 2 * layout.rotation_ms
    parameters = PARAMETERS | {"epoch_ms": layout.epoch_ms, "rotation_ms": layout.rotation_ms, "unbonding_ms": unbonding_ms}
    lines = [
        f'chain = "{layout.chain}"',
        f"time = {datetime.now(UTC).isoformat()}",
        f'seed = "{secrets.token_hex(32)}"',
        "",
        "[parameters]",
    ]
    lines += [f"{name} = {json.dumps(value)}" for name, value in parameters.items()]
    for account, amount in sorted(funds.items()):
        lines += ["", "[[account]]", f'account = "{to_text(IdKind.ACCOUNT, account)}"', f'amount = "{amount} QST"']
    licences = sorted(secrets.token_bytes(16) for _ in range(len(owners) + layout.spare_licences))
    for licence, name in zip(licences, [*layout.node_names, *[""] * layout.spare_licences], strict=True):
        lines += _licence(layout, licence, name, owners[name] if name else bank)
    emulated = str(layout.device.startswith("emulator")).lower()
    server = layout.home("qrngd") / "qrngd.pub"
    lines += ["", "[[qrng_server]]", 'name = "qrngd"', f'key_file = "{server}"', f"emulated = {emulated}", ""]
    description = layout.directory / "genesis.toml"
    description.write_text("\n".join(lines))
    _run([BIN / "qnode", "genesis", "new", description, "--output", layout.genesis], layout.new_credential("bank"))


def _licence(layout: Layout, licence: bytes, name: str, owner: bytes) -> list[str]:
    lines = ["", "[[licence]]", f'id = "{licence_text(licence)}"', f'owner = "{to_text(IdKind.ACCOUNT, owner)}"']
    if not name:
        return [*lines, f'price = "{SPARE_PRICE_QST} QST"']
    if layout.is_foundation(name):
        lines += ['class = "foundation"', f'site = "site-{name}"']
    lines += ["[licence.node]", f'key_file = "{layout.home(name) / "node.pub"}"', f'addresses = ["{layout.listen(name)}"]']
    if name in layout.validator_names:
        lines += ["staked = true", f'vote_file = "{layout.home(name) / "votes.keystore.vote"}"']
    return lines


def _qrngd_config(layout: Layout) -> str:
    allowed = "".join(f'\n[[allow]]\nid = "{node}"\n' for node in layout.nodes.values())
    return network.qrngd_config(layout) + allowed


def _node_config(layout: Layout, name: str) -> str:
    validator = '\n[validator]\nvote_keystore = "votes.keystore"\n' if name in layout.validator_names else ""
    return network.node_config(layout, name, f'genesis_file = "{layout.genesis}"\n') + validator


def _run(command: list[str | Path], credential: Path, *, words: str = "") -> str:
    """What a command says; its passphrase is in `credential`, words come by its standard input."""
    environment = os.environ | {"CREDENTIALS_DIRECTORY": str(credential)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, input=words, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} failed: {done.stderr.strip()}")
    return done.stdout


# -- users ----------------------------------------------------------------------------------------------------------------


def init_arguments(layout: Layout) -> list[str]:
    """What `qustream init` is told of this network."""
    nodes = [f"--node={layout.nodes[name]}@{layout.listen(name)}" for name in layout.node_names[:3]]
    return ["--chain", layout.chain, "--checkpoint", layout.checkpoint, *nodes]


def qustream(layout: Layout, home: Path, credential: Path | None, *arguments: str, words: str = "") -> dict[str, object]:
    """A command of a user's that answers with an object. `credential`: of his keystores."""
    environment = os.environ | ({"CREDENTIALS_DIRECTORY": str(credential)} if credential else {})
    command = [BIN / "qustream", "--home", home, *arguments, "--api", layout.api(), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, input=words, check=False)
    if done.returncode:
        raise Failed(f"qustream {' '.join(arguments[:2])}: {done.stderr.strip()}")
    answer = json.loads(done.stdout)
    if not isinstance(answer, dict):
        raise Failed(f"qustream {arguments[0]} did not answer with an object")
    return answer


def pay_from_bank(layout: Layout, account: str, amount_qst: int) -> int:
    """Give an account money; the block's height."""
    credential = layout.new_credential("bank")
    return _height(qustream(layout, layout.bank, credential, "wallet", "send", account, str(amount_qst), "--yes"))


def balance(layout: Layout, account: str) -> int:
    """What an account has, in units."""
    amount = qustream(layout, layout.bank, layout.new_credential("bank"), "wallet", "balance", account)["balance"]
    assert isinstance(amount, dict)
    return int(amount["units"])


def open_wallet(layout: Layout, home: Path, credential: Path | None) -> str:
    """The account of a user's directory, made if there is none. Its words are the test network's business: they are kept nowhere."""
    if (home / "account.keystore").exists():
        return str(qustream(layout, home, credential, "wallet", "balance")["account"])
    environment = os.environ | ({"CREDENTIALS_DIRECTORY": str(credential)} if credential else {})
    command = [BIN / "qustream", "--home", home, "wallet", "new", "--chain", layout.chain, "--api", layout.api()]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failed("qustream wallet new failed")
    return done.stdout.strip()


def register(layout: Layout, home: Path, credential: Path | None, words: str) -> int:
    """Enter the user of a directory in the chain, or one more device of a user who is there; the block's height."""
    who = network.whoami(home, credential=credential)
    known = _user(layout, str(who["user"]))
    if known is None:
        return _height(qustream(layout, home, credential, "user", "register", "--yes", words=words))
    if str(who["device"]) in known:
        raise Failed(f"{who['device']} is enrolled already")
    return _height(qustream(layout, home, credential, "user", "add-device", str(who["device"]), "--yes", words=words))


def _user(layout: Layout, user: str) -> list[str] | None:
    """The devices of a user, None if the chain has no such user."""
    try:
        page = qustream(layout, layout.bank, layout.new_credential("bank"), "user", "show", user)
    except Failed as error:
        if "E-REGISTRY-UNKNOWN" in str(error) or "E-LEDGER-UNKNOWN" in str(error) or "E-NOT-HELD" in str(error):
            return None
        raise
    devices = page["devices"]
    assert isinstance(devices, list)
    return [str(device) for device in devices]


def buy_grant(layout: Layout, home: Path, count: int, credential: Path | None) -> tuple[str, int]:
    """Buy a user's directory `count` requests; the grant's text id and the block's height."""
    bought = qustream(layout, home, credential, "grant", "buy", str(count), "--yes")
    return str(bought["grant"]), _height(bought)


def _height(page: dict[str, object]) -> int:
    return int(str(page["height"]))
