"""Licensed peers that turn on a node: floods, lies, forgeries. Each is shown out with its code; node and honest links do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
from support.hostile import Actor, Peer, Siege, address_record

from qnode.core import gossip_limits as limits
from qnode.core.peers_limits import AHEAD_MAX_MS
from qnode.net.answers import PAGES_MAX
from qustream.errors import QuStreamError
from qustream.model.base import Signed
from qustream.rules.peering import message_id
from qustream.transport.frames import frames_of
from qustream.transport.limits import Channel
from qustream.wire.codec import Message, encode
from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipMessage, GossipPull, GossipPush, Topic
from qustream.wire.peers import AddressAsk, LinkOpen, LinkReason

pytestmark = pytest.mark.e2e
AT_ONCE = 64  # messages in one piece of TLS
# Ten thousand ids are remembered for two minutes, and some bodies wait to be judged: 8 MB measured, thrice that.
PEAK_MB = 24


def refused(mallory: Actor) -> str:
    """What it is told when it wants to be linked again."""
    with mallory.connect() as peer, pytest.raises(QuStreamError) as caught:
        peer.ask(LinkOpen(LinkReason.CHOSEN, 0))
    return caught.value.code


def flood(peer: Peer, messages: Iterator[GossipMessage], most: int) -> int:
    """Say them until the other end has enough, or has heard `most`; how many were said."""
    for said in range(0, most, AT_ONCE):
        peer.say(*(next(messages) for _ in range(AT_ONCE)))
        if peer.code is not None:
            return said
    return most


def numbered(topic: Topic, size: int) -> Iterator[GossipMessage]:
    number = 0
    while True:
        number += 1
        yield GossipPush(topic, number.to_bytes(8, "big") + bytes(size - 8))


@pytest.mark.parametrize("topic", [topic for topic in Topic if topic is not Topic.ADDRESS], ids=lambda topic: topic.name.lower())
def test_a_flood_on_a_topic(siege: Siege, topic: Topic) -> None:
    mallory, burst = siege.actor(), limits.TOPIC_LIMITS[topic].burst
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        said = flood(peer, numbered(topic, 200), 20 * burst + 20_000)
        assert peer.end() == "E-PEER-LIMIT"
        assert said >= burst  # what is allowed is put up with
        assert refused(mallory) == "E-PEER-LIMIT"  # grey-listed


def test_the_same_message_again_and_again(siege: Siege) -> None:
    mallory = siege.actor()

    def again() -> Iterator[GossipMessage]:
        while True:
            yield GossipPush(Topic.ANNOUNCEMENT, b"have you heard?")

    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        flood(peer, again(), 20_000)
        assert peer.end() == "E-PEER-LIMIT"


def test_news_of_what_nobody_has(siege: Siege) -> None:
    """False announcements are pulled in vain for a while, and then their teller is shown out. A line that stands still is none such."""
    mallory = siege.actor()
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        names = (number.to_bytes(32, "big") for number in range(10_000))
        for _ in range(120):  # twice as long as it is put up with
            peer.say(GossipAnnounce(tuple(Announced(next(names), Topic.ADDRESS, 4000, True) for _ in range(4))))
            if peer.code is not None:
                break
            time.sleep(0.25)
        assert peer.end() == "E-PEER-LIMIT"
        assert refused(mallory) == "E-PEER-LIMIT"


def test_large_messages_that_nobody_asked_for(siege: Siege) -> None:
    mallory = siege.actor()
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        flood(peer, numbered(Topic.TRANSACTION, 4000), 1000)
        assert peer.end() == "E-PEER-LIMIT"


def test_a_storm_of_pulls_and_grafts(siege: Siege) -> None:
    """Nothing comes of it: what is not here cannot be given, and who is in the mesh is in the mesh."""
    mallory = siege.actor()
    pull = GossipPull(tuple(bytes([number]) * 32 for number in range(64)))
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        for _ in range(100):
            peer.say(*[pull, GossipGraft()] * 8)
        assert peer.code is None
        assert peer.ask(AddressAsk(bytes(32), 0))


# -- address records -----------------------------------------------------------------------------------------------------


def forged(siege: Siege, mallory: Actor, number: int) -> Signed:
    """A record of an honest node that it has not signed: signed by another, half of it right, or for something else."""
    honest = siege.nodes[1].key
    signed = address_record(honest, f"127.0.0.66:{1000 + number}")
    theirs = mallory.key.sign("address", signed.body)
    signatures = (theirs, signed.signature[:64] + theirs[64:], honest.sign("hello", signed.body))
    return Signed(signed.body, signatures[number])


def test_forged_records(siege: Siege) -> None:
    mallory, honest = siege.actor(), siege.nodes[1].key
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        for number in range(3):
            peer.tell(Topic.ADDRESS, encode(forged(siege, mallory, number)))
        assert peer.end() == "E-PEER-LIMIT"
        assert honest.id not in siege.records(0, honest)


@pytest.mark.parametrize("body", [b"\xc1 no record", encode(Signed(b"", bytes(3373)))], ids=["noise", "empty"])
def test_records_that_are_none(siege: Siege, body: bytes) -> None:
    mallory = siege.actor()
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        for number in range(3):
            new = body + bytes([number]) if len(body) < limits.SMALL_MAX_BYTES else body[:-1] + bytes([number])
            if len(new) <= limits.SMALL_MAX_BYTES:
                peer.say(GossipPush(Topic.ADDRESS, new))
            else:
                peer.tell(Topic.ADDRESS, new)
        assert peer.end() == "E-PEER-LIMIT"


def test_records_of_another_time(siege: Siege) -> None:
    """From the future or long past: not kept and not passed on; but a clock that is wrong is no crime."""
    mallory = siege.actor()
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        for ahead_ms in (AHEAD_MAX_MS + 60_000, 10**12, -(10**11)):
            peer.tell(Topic.ADDRESS, encode(address_record(mallory.key, "127.0.0.66:7400", ahead_ms=ahead_ms)))
        assert mallory.key.id not in siege.records(0, mallory.key)
        peer.tell(Topic.ADDRESS, encode(address_record(mallory.key, "127.0.0.66:7400", ahead_ms=AHEAD_MAX_MS // 2)))
        siege.until_known(mallory, ("127.0.0.66:7400",))
        assert peer.code is None


def test_a_flood_of_records_of_nobody(siege: Siege) -> None:
    """Well-formed, of nodes that do not exist: of no use, until there are too many of them. No signature is verified."""
    mallory = siege.actor()
    signed = address_record(mallory.key, "127.0.0.66:7400")

    def nobodies() -> Iterator[bytes]:
        for number in range(20_000):
            yield encode(msgspec.structs.replace(signed, body=signed.body.replace(mallory.key.id, number.to_bytes(32, "big"))))

    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        bodies = nobodies()
        while peer.code is None:
            batch = [next(bodies) for _ in range(32)]
            news = [Announced(message_id(Topic.ADDRESS, body), Topic.ADDRESS, len(body), True) for body in batch]
            peer.say(GossipAnnounce(tuple(news)))
            peer.say(*(GossipPush(Topic.ADDRESS, body) for body in batch))
        assert peer.end() == "E-PEER-LIMIT"


def test_asking_for_all_records_without_end(siege: Siege) -> None:
    mallory = siege.actor()
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        for _ in range(PAGES_MAX):
            assert peer.ask(AddressAsk(bytes(32), 0))
        with pytest.raises(QuStreamError) as caught:
            peer.ask(AddressAsk(bytes(32), 0))
        assert caught.value.code == "E-PEER-LIMIT"
        assert caught.value.retry_after_ms
        assert peer.code is None


# -- in the middle of something ------------------------------------------------------------------------------------------


def test_who_closes_in_the_middle_is_not_waited_for(siege: Siege) -> None:
    """Mallory tells of a record first, is asked for it, and gives half of it. The node gets it from whoever told of it next."""
    mallory, witness = siege.actor(), siege.actor()
    body = encode(address_record(witness.key, "127.0.0.77:7400"))
    name = message_id(Topic.ADDRESS, body)
    with siege.unharmed(peak_mb=PEAK_MB), witness.linked() as peer:
        with mallory.linked() as first:
            news = GossipAnnounce((Announced(name, Topic.ADDRESS, len(body), True),))
            first.say(news)
            first.until_asked(name)
            peer.say(news)
            frames = frames_of(Channel.GOSSIP, encode(GossipPush(Topic.ADDRESS, body)))
            first.words(frames[: len(frames) // 2])
        peer.until_asked(name)
        peer.say(GossipPush(Topic.ADDRESS, body))
        siege.until_known(witness, ("127.0.0.77:7400",))


FRAMES = {
    "too long": (b"\x00\x05\x00\x00\x03", "E-WIRE-OVERSIZE"),
    "endless": (b"\xff\xff\xff\xff\x03", "E-WIRE-OVERSIZE"),
    "empty": (b"\x00\x00\x00\x00\x03", "E-WIRE-MALFORMED"),
    "no channel": (b"\x00\x00\x00\x01\x05x", "E-WIRE-MALFORMED"),
    "consensus": (b"\x00\x00\x00\x04\x01vote", "E-PEER-UNLICENSED"),
    "no gossip": (frames_of(Channel.GOSSIP, b"\xc1"), "E-WIRE-MALFORMED"),
    "an answer": (frames_of(Channel.REQUEST, b"\x93\x0b\x07\xc4\x00"), "E-FRAME-ORDER"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_linked_peer_that_is_not_understood(siege: Siege, name: str) -> None:
    frames, code = FRAMES[name]
    mallory = siege.actor()
    with siege.unharmed(peak_mb=PEAK_MB), mallory.linked() as peer:
        peer.words(frames)
        assert peer.end() == code
        with mallory.linked() as again:  # it is understood now
            message: Message = AddressAsk(bytes(32), 0)
            assert again.ask(message)
