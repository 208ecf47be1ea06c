"""The attacks of the bench `hostility`, in a process of its own: `hostility_attack.py NAME ADDRESS NODE_ID ROUND`, until it is killed."""

from __future__ import annotations

import random
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.hostile import Peer
from support.peers_town import CHAIN

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Channel, Engine, LocalHello
from qustream.transport.frames import frames_of
from qustream.wire.codec import encode
from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipMessage, GossipPull, GossipPush, Topic
from qustream.wire.peers import LinkOpen, LinkReason
from qustream.wire.rpc import Request

FIRST_LICENCE, LICENCES = 4, 77
HELD = 400  # connections that are held open
AT_ONCE = 32  # messages in one piece of TLS
HELLO = LocalHello(CHAIN, ())
NOISE = random.Random(1).randbytes(2000)


class Attack:
    """Whom it is at, and with whose names. `turn`: which of the licences come first."""

    def __init__(self, address: str, node: bytes, turn: int) -> None:
        host, _, port = address.rpartition(":")
        self.where, self.node = (host, int(port)), node
        self._sources = count(turn * 10_000)
        self._licences = (FIRST_LICENCE + (turn * 15 + number) % LICENCES for number in count())

    def source(self) -> str:
        """Another address each time: 127.200.0.1 and on."""
        number = next(self._sources)
        return f"127.{200 + number // 62_500 % 50}.{number // 250 % 250}.{number % 250 + 1}"

    def tcp(self) -> socket.socket:
        return socket.create_connection(self.where, timeout=2, source_address=(self.source(), 0))

    def peer(self, key: SigningKey | None = None, source: str = "") -> Peer:
        return Peer(self.where, key or SigningKey(b"stranger" * 4), self.node, source or self.source(), hello=HELLO)

    def linked(self) -> Peer:
        """As one with a licence that has not been used up, if there is one."""
        peer = self.peer(SigningKey(next(self._licences).to_bytes(32, "big")))
        try:
            peer.ask(LinkOpen(LinkReason.CHOSEN, 0))
        except QuStreamError:
            peer.close()
            raise
        return peer


def garbage(attack: Attack) -> None:
    with attack.tcp() as sock:
        sock.sendall(NOISE)


def half_open(attack: Attack) -> None:
    """Half of the first flight, from very many addresses; the oldest are let go."""
    engine = Engine("client", key=SigningKey(b"stranger" * 4), hello=HELLO)
    engine.start()
    hello = engine.data_to_send()
    held: deque[socket.socket] = deque()
    while True:
        with suppress(OSError):
            held.append(attack.tcp())
            held[-1].sendall(hello[: len(hello) // 2])
        if len(held) > HELD:
            held.popleft().close()


def handshakes(attack: Attack) -> None:
    with attack.peer():
        pass


def requests(attack: Attack) -> None:
    """One address asks as fast as it can, and reads no answer."""
    with attack.peer(source="127.250.0.1") as peer:
        flood = b"".join(frames_of(Channel.REQUEST, encode(Request(number, 60_000, b"a bad one"))) for number in range(AT_ONCE))
        while peer.code is None:
            peer.words(flood)
            peer.listen()
            peer.heard.clear()


def flood(attack: Attack, messages: Iterator[GossipMessage]) -> None:
    with attack.linked() as peer:
        while peer.code is None:
            peer.say(*(next(messages) for _ in range(AT_ONCE)))
            peer.heard.clear()


def _bodies(kind: bytes) -> Iterator[GossipMessage]:
    for number in count():
        yield GossipPush(Topic.TRANSACTION, kind + number.to_bytes(8, "big") + bytes(400))


def useless(attack: Attack) -> None:
    flood(attack, _bodies(b"old"))


def bad(attack: Attack) -> None:
    flood(attack, _bodies(b"bad"))


def again(attack: Attack) -> None:
    flood(attack, (GossipPush(Topic.TRANSACTION, b"the same" + bytes(400)) for _ in count()))


def false_news(attack: Attack) -> None:
    flood(attack, (GossipAnnounce((Announced(number.to_bytes(32, "big"), Topic.TRANSACTION, 5000, True),)) for number in count()))


def storm(attack: Attack) -> None:
    pull = GossipPull(tuple(bytes([number]) * 32 for number in range(64)))
    flood(attack, (message for _ in count() for message in (pull, GossipGraft())))


ATTACKS: dict[str, Callable[[Attack], None]] = {
    "garbage instead of a handshake": garbage,
    "half-open connections": half_open,
    "handshakes of strangers": handshakes,
    "requests of a stranger": requests,
    "useless messages": useless,
    "bad messages": bad,
    "the same message": again,
    "false announcements": false_news,
    "pulls and grafts": storm,
}


def main() -> None:
    name, address, node, turn = sys.argv[1:]
    attack = Attack(address, bytes.fromhex(node), int(turn))
    print("ready", flush=True)
    while True:
        with suppress(QuStreamError, OSError):
            ATTACKS[name](attack)


if __name__ == "__main__":
    main()
