"""Making a local network: identities, configurations, the signed network file, users and their grants."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import threading
import time
from pathlib import Path

from localnet.devices import CHARDEV_MILLIBITS
from localnet.layout import Layout
from localnet.processes import BIN, Failed
from qustream.identity import keystore
from qustream.identity.enrolment import decode_enrolment
from qustream.identity.grants import GrantOffer
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.model.keys import PublicKey
from qustream.model.network import NodeClass, NodeRecord, QrngServerRecord
from qustream.registry.writer import NetworkFileWriter
from qustream.wire.codec import decode

EPOCH_MS = 3 * 24 * 3600 * 1000  # the mission's pay epoch: a grant made now serves for three to six days
LIFETIME_MAX_MS = 30 * 24 * 3600 * 1000
OFFER_MAX_BYTES = 64  # a root and two numbers
# Users are entered side by side, and the file refuses whoever has not seen the change before his.
_AMENDING = threading.Lock()
PUBLIC_KEY_MAX_BYTES = 4096  # 1,952 + 32 and a little framing


def create(layout: Layout) -> None:
    """Make every key, configuration and the network file of a new network in `layout.directory`."""
    layout.directory.mkdir(parents=True, exist_ok=True)
    layout.logs.mkdir(exist_ok=True)
    authority = SigningKey(secrets.token_bytes(32))
    keystore.write(layout.authority, "authority", authority.seed, _authority_passphrase(layout))
    layout.network_key = to_text(IdKind.NETWORK, authority.id)
    writer = NetworkFileWriter.create(
        layout.network_file,
        layout.chain,
        authority,
        genesis_ms=int(time.time() * 1000) - 1000,
        epoch_length_ms=EPOCH_MS,
        seed=secrets.token_bytes(32),
    )
    layout.qrngd_id = _init_qrngd(layout, writer)
    for name in layout.node_names:
        layout.nodes[name] = _init_node(layout, name, writer)
    writer.write()
    layout.save()


def _init_qrngd(layout: Layout, writer: NetworkFileWriter) -> str:
    key = init(layout, "qrngd", "qrngd.pub", ["--chain", layout.chain, "--device", "emulator"])
    emulated = layout.device.startswith("emulator")
    writer.add_qrng_server(QrngServerRecord(key, "qrngd", emulated=emulated, active=True))
    layout.config("qrngd").write_text(qrngd_config(layout, by_file(layout)))
    return to_text(IdKind.QRNG, key.id)


def _init_node(layout: Layout, name: str, writer: NetworkFileWriter) -> str:
    key = init(layout, name, "node.pub", ["--chain", layout.chain])
    node_class = NodeClass.FOUNDATION if layout.is_foundation(name) else NodeClass.COMMUNITY
    record = NodeRecord(
        key=key, node_class=node_class, operator=f"operator-{name}", licence=secrets.token_bytes(16),
        addresses=(layout.listen(name),), weight=1, active=True,
    )  # fmt: skip
    writer.add_node(record)
    layout.config(name).write_text(node_config(layout, name, by_file(layout)))
    return to_text(IdKind.NODE, key.id)


def init(layout: Layout, name: str, public_file: str, arguments: list[str]) -> PublicKey:
    """Run a daemon's own `init`, as an operator would, and read the public key it wrote for the registry."""
    program = "qrngd" if name == "qrngd" else "qnode"
    done = subprocess.run(
        [BIN / program, "init", "--dir", layout.home(name), *arguments],
        env={"CREDENTIALS_DIRECTORY": str(layout.new_credential(name)), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{program} init for {name} failed: {done.stderr.strip()}")
    return decode(base64.b64decode((layout.home(name) / public_file).read_text()), PublicKey, max_bytes=PUBLIC_KEY_MAX_BYTES)


def by_file(layout: Layout) -> str:
    """How a configuration says who belongs to the network."""
    return f'network_file = "{layout.network_file}"\nnetwork_key = "{layout.network_key}"\n'


def qrngd_config(layout: Layout, network: str = "") -> str:
    """The QRNG server's configuration; `network`: lines that say who belongs to the network."""
    kind, _, faults = layout.device.partition(":")
    if kind == "emulator":
        device = f'kind = "emulator"\nfaults = "{faults}"\n'
    else:
        device = f'kind = "chardev"\npath = "{layout.device}"\nmin_entropy_millibits = {CHARDEV_MILLIBITS}\n'
    return (
        f'chain = "{layout.chain}"\ndata_dir = "data"\n'
        f'listen = ["{layout.listen("qrngd")}"]\nstatus_listen = "{layout.status_listen("qrngd")}"\n'
        f"{network}\n[[device]]\n{device}"
    )


def node_config(layout: Layout, name: str, network: str) -> str:
    """A node's configuration; `network`: as above."""
    return (
        f'chain = "{layout.chain}"\n{network}'
        f'data_dir = "data"\nkeystore = "node.keystore"\nlisten = ["{layout.listen(name)}"]\n'
        f'status_listen = "{layout.status_listen(name)}"\n'
        f'\n[[qrngd]]\naddress = "{layout.listen("qrngd")}"\nid = "{layout.qrngd_id}"\n'
    )


def amend(layout: Layout) -> NetworkFileWriter:
    """Open the network file for a change, with the authority's key."""
    authority = SigningKey(keystore.read(layout.authority, "authority", _authority_passphrase(layout)))
    return NetworkFileWriter.load(layout.network_file, authority)


def _authority_passphrase(layout: Layout) -> bytes:
    return (layout.new_credential("authority") / "qustream").read_bytes()


def whoami(home: Path, *arguments: str, credential: Path | None = None) -> dict[str, object]:
    """What `qustream whoami` says of a user; how the network gets to know him, as it would from afar."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    if credential:
        environment["CREDENTIALS_DIRECTORY"] = str(credential)
    done = subprocess.run(
        [BIN / "qustream", "--home", home, "whoami", "--json", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(done.stderr.strip() or "qustream whoami failed")
    answer = json.loads(done.stdout)
    if not isinstance(answer, dict):
        raise Failed("qustream whoami did not answer with an object")
    return answer


def enrol(layout: Layout, enrolment: bytes) -> int:
    """Enter a user or one more device of his into the network file; returns the file's new version."""
    with _AMENDING:
        writer = amend(layout)
        writer.enrol(decode_enrolment(enrolment))
        return writer.write()


def grant(layout: Layout, owner: bytes, offer: bytes) -> tuple[str, int]:
    """Enter a grant for `owner`, in force from the running epoch; returns its text id and the file's new version."""
    wanted = decode(offer, GrantOffer, max_bytes=OFFER_MAX_BYTES)
    with _AMENDING:
        writer = amend(layout)
        contents = writer.contents
        epoch = (int(time.time() * 1000) - contents.genesis_ms) // contents.epoch_length_ms
        entered = writer.grant(wanted, owner, lifetime_max_ms=LIFETIME_MAX_MS, epoch=epoch)
        return to_text(IdKind.GRANT, entered.grant), writer.write()
