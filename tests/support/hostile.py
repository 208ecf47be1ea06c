"""Hostile peers and the node they are at: real daemons on loopback, linked to each other, and any number of actors with licences.

    siege = Siege(folder); siege.start()
    with siege.unharmed(peak_mb=16):
        with siege.actor().linked() as mallory:
            ...
            assert mallory.end() == "E-PEER-LIMIT"

`unharmed` is what every attack has in common: the node keeps its honest links, answers, hears what honest nodes say through each other, its
memory is bounded at every moment, and it logs nothing.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from support.circle import Circle
from support.node import QNode, until
from support.places import WORKER
from support.qrng_server import CHAIN

from qnode.api.peers import PeersPage
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.network import AddressRecord, NodeClass, NodeRecord
from qustream.rules.peering import message_id
from qustream.transport.engine import Channel, Closed, Engine, LocalHello, Received
from qustream.transport.frames import frames_of
from qustream.wire.codec import Message, decode, encode
from qustream.wire.gossip import GOSSIP_MAX_BYTES, Announced, GossipAnnounce, GossipMessage, GossipPull, GossipPush, Topic
from qustream.wire.hello import Role
from qustream.wire.peers import AddressAnswer, AddressAsk, LinkAccepted, LinkOpen, LinkReason
from qustream.wire.rpc import Refusal, Request, Response, RpcMessage, refusal_error

__all__ = ["ACTORS", "Actor", "Peer", "Siege", "address_record"]

HELLO = LocalHello(CHAIN, (Role.NODE,))
ACTORS = 64  # licences whose nodes nobody runs: an attacker for each test, and a witness
SOCKET_S = 60.0  # a loaded machine
READ_BYTES = 1 << 18
SINCE_MS, SETTLED_MS = 500, 2_000


class Peer:
    """A connection by hand, entered or not: whatever is sent goes out as it is. `code`: why the other end closed; None while it has not."""

    def __init__(self, where: tuple[str, int], key: SigningKey, node: bytes, source: str, hello: LocalHello | None = None) -> None:
        self._socket = socket.create_connection(where, timeout=SOCKET_S, source_address=(source, 0))
        self._engine = Engine("client", key=key, hello=hello or HELLO, expect=node)
        self.code: str | None = None
        self.heard: list[tuple[Channel, bytes]] = []
        self._engine.start()
        while self._engine.peer is None and self.code is None:
            self._flush()
            self._read()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def close(self) -> None:
        """Go, without a word."""
        self._socket.close()

    def _flush(self) -> None:
        while data := self._engine.data_to_send():
            self.raw(data)

    def raw(self, data: bytes) -> None:
        """Bytes below TLS. What the other end says before it closes is heard even if it closes meanwhile."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.code = self.code or self.end()

    def words(self, plaintext: bytes) -> None:
        """Bytes under TLS, whatever they are."""
        self._engine._layer.write(plaintext)
        self.raw(b"".join(self._engine._layer.pull()))

    def say(self, *messages: Message) -> None:
        """Gossip, in as many frames under one piece of TLS."""
        self.words(b"".join(frames_of(Channel.GOSSIP, encode(message)) for message in messages))
        self.listen()

    def listen(self) -> None:
        """Take what is here."""
        while self.code is None and select.select([self._socket], [], [], 0)[0]:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except ConnectionError:
            data = b""
        for event in self._engine.receive(data) if data else self._engine.receive_eof():
            if isinstance(event, Received):
                self.heard.append((event.channel, bytes(event.body)))
            elif isinstance(event, Closed):
                self.code = event.error.code if event.error is not None else ""
        if self.code is None:
            self._flush()

    def end(self) -> str:
        """Wait until the other end closes; why. Raises TimeoutError if it is silent and does not."""
        while self.code is None:
            self._read()
        return self.code

    def ask(self, message: Message | bytes) -> bytes:
        """Errors: the refusal; `E-PEER-CLOSED` where it ends without one."""
        body = message if isinstance(message, bytes) else encode(message)
        number = time.monotonic_ns() & 0xFFFFFFFF
        self.words(frames_of(Channel.REQUEST, encode(Request(number, 20_000, body))))
        while True:
            place = next((place for place, (channel, _) in enumerate(self.heard) if channel is Channel.REQUEST), None)
            if place is not None:
                found: Request | Response | Refusal = decode(self.heard.pop(place)[1], RpcMessage, max_bytes=1 << 20)
                if isinstance(found, Request):
                    continue  # it may ask us, too, and gets no answer
                if isinstance(found, Refusal):
                    raise refusal_error(found)
                assert found.id == number
                return found.body
            if self.code is not None:
                raise QuStreamError(self.code)
            self._read()

    def until_asked(self, name: bytes) -> None:
        """Until the other end pulls this message."""
        while self.code is None:
            for channel, body in self.heard:
                if channel is Channel.GOSSIP:
                    message: Any = decode(body, GossipMessage, max_bytes=GOSSIP_MAX_BYTES)
                    if isinstance(message, GossipPull) and name in message.ids:
                        return
            self._read()

    def tell(self, topic: Topic, body: bytes) -> None:
        """Announce a large message, and give it when it is asked for."""
        name = message_id(topic, body)
        self.say(GossipAnnounce((Announced(name, topic, len(body), True),)))
        self.until_asked(name)
        self.say(GossipPush(topic, body))


class Actor:
    """Somebody with a licence, who is no node. Comes from an address of its own."""

    def __init__(self, siege: Siege, number: int) -> None:
        self.siege, self.key, self.source = siege, _key(number), f"127.{50 + number}.{WORKER}.1"

    def connect(self, number: int = 0, source: str = "") -> Peer:
        """To the node with this number."""
        node = self.siege.nodes[number]
        return Peer(self.siege.where(number), self.key, node.key.id, source or self.source)

    @contextmanager
    def linked(self, number: int = 0) -> Iterator[Peer]:
        with self.connect(number) as peer:
            decode(peer.ask(LinkOpen(LinkReason.CHOSEN, 0)), LinkAccepted, max_bytes=999)
            yield peer


class Siege(Circle):
    """Node 0 is the one that is attacked, 1 and 2 are honest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 3)
        for number in range(ACTORS):
            record = NodeRecord(
                _key(number).public, NodeClass.COMMUNITY, f"actor-{number}", bytes([100 + number]) * 16, ("127.0.0.1:9",), 1, True
            )
            self.writer.add_node(record)
        self.writer.write()
        self._numbers = count()

    @property
    def node(self) -> QNode:
        return self.nodes[0]

    @property
    def pid(self) -> int:
        assert self.node.process is not None
        return self.node.process.pid

    def where(self, number: int = 0) -> tuple[str, int]:
        name, _, port = self.listen[number].rpartition(":")
        return name, int(port)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.until_linked(*self.nodes)
        # So old that one which is lost and made again is told from it.
        until(lambda: all(self.page().now_ms - since_ms > SETTLED_MS for since_ms in self.honest_links().values()))
        # Until its only QRNG server, which is none, has been looked for: nothing else is to be logged from here on.
        until(lambda: [line for line in self.node.log() if line["event"] == "qrngd"])

    def actor(self) -> Actor:
        """One that nobody has played yet."""
        number = next(self._numbers)
        assert number < ACTORS, "more actors are needed than there are licences"
        return Actor(self, number)

    def page(self) -> PeersPage:
        return PeersPage.from_json(self.node.page("/v1/peers")[1])

    def honest_links(self) -> dict[str, int]:
        """Since when the honest nodes have been linked."""
        honest = {node.id for node in self.nodes[1:]}
        return {link.node: link.since_ms for link in self.page().network.links if link.node in honest}

    def memory_mb(self, what: str) -> float:
        """`VmRSS` now or `VmHWM`, the most since `unharmed` began."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith(what))) / 1024

    @contextmanager
    def unharmed(self, *, peak_mb: float) -> Iterator[None]:
        """`peak_mb`: what the node may take meanwhile, above what it has."""
        links, lines, memory_mb = self.honest_links(), len(self.node.log()), self.memory_mb("VmRSS")
        assert len(links) == 2
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew
        yield
        self.news_passes()
        after = self.honest_links()
        assert after.keys() == links.keys()
        # One that was lost and made again is as young as the attack; the page counts back from now and is a few ms off.
        assert all(abs(after[node] - links[node]) < SINCE_MS for node in links), f"an honest link was lost: {links}, {after}"
        assert self.memory_mb("VmHWM") - memory_mb <= peak_mb
        assert self.node.log()[lines:] == []

    def news_passes(self) -> None:
        """What somebody tells an honest node reaches this one, and it answers who asks for it."""
        witness = self.actor()
        addresses = (f"{witness.source}:7400",)
        with witness.linked(1) as peer:
            peer.tell(Topic.ADDRESS, encode(address_record(witness.key, *addresses)))
            self.until_known(witness, addresses)

    def until_known(self, actor: Actor, addresses: tuple[str, ...]) -> None:
        """Until the attacked node has been told that the actor is there. It answers an asker 128 times an hour."""
        ends = time.monotonic() + SOCKET_S
        while self.records(0, actor.key).get(actor.key.id) != addresses:
            assert time.monotonic() < ends, "news does not pass"
            time.sleep(0.2)

    def records(self, number: int, key: SigningKey) -> dict[bytes, tuple[str, ...]]:
        """The address records that the node has; whose they are was its work to check."""
        answer = decode(self.ask(number, AddressAsk(bytes(32), 0), key), AddressAnswer, max_bytes=1 << 19)
        found = [decode(signed.body, AddressRecord, max_bytes=9999) for signed in answer.records]
        return {record.node: record.addresses for record in found}

    def stop(self) -> None:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.stop)


def _key(number: int) -> SigningKey:
    return SigningKey(b"actor" + bytes([number]) * 27)


def address_record(key: SigningKey, *addresses: str, ahead_ms: int = 0, chain: str = CHAIN) -> Signed:
    record = AddressRecord(chain, key.id, time.time_ns() // 1_000_000 + ahead_ms, addresses)
    return key.sign_noun("address", record)
