"""The network that other tests run on does what it is asked: delays, losses, partitions, rates, moves, and nothing left at the end."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
from support.daemon import until
from support.lan import namespace
from support.lan.hosts import Host, Lan, Seen

pytestmark = [pytest.mark.e2e, pytest.mark.needs("netns")]

ALICE, BOB, CAROL = "45.1.0.1", "45.2.0.1", "45.3.0.1"
HOSTS = {"alice": [ALICE, "2a01:1::1"], "bob": [BOB, "2a01:2::1"], "carol": [CAROL, "2a01:3::1"]}


@pytest.fixture(scope="module")
def shared() -> Iterator[Lan]:
    with Lan(HOSTS, seed="tools") as lan:
        yield lan


@pytest.fixture
def lan(shared: Lan) -> Iterator[Lan]:
    yield shared
    shared.change(shared.hosts, delay_ms=0, jitter_ms=0, loss=0, duplicate=0, reorder=0, rate_mbit=0, cut=False)
    for host in list(HOSTS):
        if shared[host].addresses != HOSTS[host]:
            shared.move(host, HOSTS[host])


def send(lan: Lan, sender: str, receiver: str, count: int, size: int = 64) -> list[int]:
    """Send numbered datagrams, and wait until the link has done with each; the numbers that arrived, in order of arrival."""
    with lan[receiver].socket() as ear, lan[sender].socket() as mouth:
        ear.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE: whatever was delivered is still there when we look
        ear.bind((lan[receiver].address, 0))
        before = lan.counts(sender, receiver)
        for number in range(count):
            mouth.sendto(struct.pack("!I", number).ljust(size, b"."), ear.getsockname())
        until(lambda: settled(before, lan.counts(sender, receiver), count))
        arrived = []
        while select.select([ear], [], [], 0)[0]:
            arrived.append(struct.unpack("!I", ear.recv(65536)[:4])[0])
        return arrived


def settled(before: dict[str, int], now: dict[str, int], count: int) -> bool:
    new = {name: now[name] - before[name] for name in now}
    return new["packets"] == count and new["delivered"] + new["lost"] + new["cut"] + new["overflowed"] == count + new["duplicated"]


def watch(lan: Lan, sender: str, receiver: str, count: int, size: int = 64) -> list[Seen]:
    lan.watch()
    send(lan, sender, receiver, count, size)
    return lan.watched()


@pytest.mark.parametrize("version", [4, 6])
def test_hosts_reach_each_other_and_nothing_else(lan: Lan, version: int) -> None:
    alice, bob = lan["alice"], lan["bob"]
    assert alice.ping(bob.address if version == 4 else bob.address6)
    assert bob.ping(alice.address if version == 4 else alice.address6)
    assert alice.ping(alice.address if version == 4 else alice.address6)
    assert not alice.ping("45.77.0.1" if version == 4 else "2a01:77::1", wait_s=0.1)  # nobody's
    assert alice.run(socket.if_nameindex) == [(1, "lo"), (2, namespace.DEVICE)]


def test_a_delay_is_what_was_asked_for(lan: Lan) -> None:
    lan.change(["alice"], ["bob"], back=False, delay_ms=20)
    lan.change(["bob"], ["alice"], back=False, delay_ms=40)
    lan.watch()
    for number in range(5):
        assert lan["alice"].ping(BOB, number=number)
        assert lan["alice"].ping(CAROL, number=number)
    seen = lan.watched()
    for sender, receiver, wanted in [("alice", "bob", 20), ("bob", "alice", 40), ("alice", "carol", 0), ("carol", "alice", 0)]:
        packets = [each for each in seen if (each.sender, each.receiver) == (sender, receiver)]
        assert len(packets) == 5
        # The link's own account: when each was to go on, and that none did before. How late they went says more of the machine.
        assert all(each.due_ns - each.sent_ns == wanted * 1_000_000 for each in packets)
        assert all(each.took_ms >= wanted for each in packets)


def test_what_was_under_way_before_is_not_watched(lan: Lan) -> None:
    lan.change(["alice"], ["bob"], back=False, delay_ms=200)
    before = lan.counts("alice", "bob")
    with lan["bob"].socket(), lan["alice"].socket() as mouth:
        mouth.sendto(b"sent before", (BOB, 9))
        lan.watch()
        until(lambda: lan.counts("alice", "bob")["delivered"] == before["delivered"] + 1)
    send(lan, "alice", "carol", 2)
    assert {each.receiver for each in lan.watched() if each.sender == "alice"} == {"carol"}


def test_jitter_is_drawn_evenly_and_keeps_the_order(lan: Lan) -> None:
    lan.change(["alice"], ["bob"], delay_ms=5, jitter_ms=10)
    assert send(lan, "alice", "bob", 100) == list(range(100))
    lan.change(["alice"], ["bob"], jitter_ms=10)
    delays = []
    for _ in range(8):  # far apart, so that none is held back by the one before
        [seen] = watch(lan, "alice", "bob", 1)
        delays.append((seen.due_ns - seen.sent_ns) / 1e6)
    assert all(5 <= each <= 15 for each in delays)
    assert max(delays) - min(delays) > 1


def test_losses_come_from_the_seed(lan: Lan) -> None:
    def run() -> list[int]:
        lan.change(["alice"], ["bob"], back=False, loss=0.3)
        return send(lan, "alice", "bob", 400)

    first = run()
    assert 220 < len(first) < 340
    lan.change(["carol"], ["bob"], loss=0.5)
    send(lan, "carol", "bob", 50)  # what happens elsewhere changes nothing
    assert run() == first
    assert send(lan, "bob", "alice", 100) == list(range(100))  # one way only
    with Lan(HOSTS, seed="tools") as same, Lan(HOSTS, seed="others") as other:
        for each in (same, other):
            each.change(["alice"], ["bob"], loss=0.3)
        assert send(same, "alice", "bob", 400) == first
        assert send(other, "alice", "bob", 400) != first


def test_packets_come_twice_and_late(lan: Lan) -> None:
    lan.change(["alice"], ["bob"], duplicate=0.2)
    arrived = send(lan, "alice", "bob", 200)
    assert sorted(set(arrived)) == list(range(200))
    assert 10 < len(arrived) - 200 < 80
    lan.change(["alice"], ["bob"], duplicate=0, reorder=0.2, reorder_ms=20)
    arrived = send(lan, "alice", "bob", 200)
    assert sorted(arrived) == list(range(200))
    assert arrived != sorted(arrived)


def test_a_slow_link_carries_its_rate_and_drops_what_cannot_wait(lan: Lan) -> None:
    lan.change(["alice"], ["bob"], rate_mbit=1, queue_bytes=20_000)
    seen = watch(lan, "alice", "bob", 100, size=1000)
    passed = [each for each in seen if each.arrived]
    assert 18 <= len(passed) < 100  # 20 kB wait, and as many more as leave meanwhile
    packet_ns = (1000 + 28) * 8000  # a megabit is a bit a microsecond
    gaps = [after.due_ns - before.due_ns for before, after in itertools.pairwise(passed)]
    assert all(each >= packet_ns for each in gaps)
    assert send(lan, "alice", "carol", 100, size=1000) == list(range(100))  # others are as fast as ever


@pytest.mark.parametrize("version", [4, 6])
def test_a_partition_stops_what_it_should_and_heals(lan: Lan, version: int) -> None:
    def reaches(one: str, other: str) -> bool:
        return lan[one].ping(lan[other].address if version == 4 else lan[other].address6)

    def is_cut(one: str, other: str) -> bool:
        before = lan.counts(one, other)
        answered = lan[one].ping(lan[other].address if version == 4 else lan[other].address6, wait_s=0.1)
        return not answered and lan.counts(one, other)["cut"] == before["cut"] + 1

    lan.partition(["alice", "bob"], ["carol"])
    assert reaches("alice", "bob")
    assert is_cut("alice", "carol")
    assert is_cut("carol", "bob")
    lan.partition(["carol", "bob"])  # alice alone
    assert reaches("carol", "bob")
    assert is_cut("alice", "bob")
    lan.heal()
    assert reaches("alice", "carol")
    assert reaches("alice", "bob")


def test_a_connection_survives_what_networks_do(lan: Lan) -> None:
    lan.change(lan.hosts, delay_ms=5, jitter_ms=3, loss=0.02, duplicate=0.02, reorder=0.02)
    sent = os.urandom(300_000)
    assert transfer(lan["alice"], lan["bob"], sent) == sent
    counts = lan.counts("alice", "bob")
    assert min(counts["lost"], counts["duplicated"], counts["reordered"]) > 0


def transfer(sender: Host, receiver: Host, data: bytes) -> bytes:
    with receiver.socket(kind=socket.SOCK_STREAM) as server, sender.socket(kind=socket.SOCK_STREAM) as client:
        server.bind((receiver.address, 0))
        server.listen()

        def write() -> None:
            client.connect(server.getsockname())
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as stream:
            got = stream.read()
        writer.join()
        return got


def test_a_host_moves(lan: Lan) -> None:
    assert lan["alice"].ping(BOB)
    lan.move("bob", ["45.22.0.1", "2a01:22::1"])
    assert lan["alice"].ping("45.22.0.1")
    assert lan["alice"].ping("2a01:22::1")
    assert lan["bob"].ping(ALICE)
    assert not lan["alice"].ping(BOB, wait_s=0.1)
    lan.move("bob", ["2a01:22::1"])  # IPv6 alone
    assert lan["carol"].ping("2a01:22::1")
    assert not lan["carol"].ping("45.22.0.1", wait_s=0.1)


def test_a_host_may_have_a_whole_prefix() -> None:
    with Lan({"alice": [ALICE], "crowd": ["45.9.0.1", "45.10.0.0/16", "2a01:10:0:1::1", "2a01:10:0:2::/64"]}, seed="prefix") as lan:
        with lan["crowd"].socket() as mouth, lan["alice"].socket() as ear:
            ear.bind((ALICE, 0))
            mouth.bind(("45.10.200.7", 0))
            mouth.sendto(b"hello", ear.getsockname())
            assert ear.recvfrom(100) == (b"hello", mouth.getsockname())
        assert lan["alice"].ping("45.10.3.4")


@pytest.mark.needs("nft")
def test_a_hosts_own_rules_drop_one_way(lan: Lan) -> None:
    bob = lan["bob"]
    with bob.socket(kind=socket.SOCK_STREAM) as server, lan["alice"].socket(kind=socket.SOCK_STREAM) as server_of_alice:
        for each, host in ((server, bob), (server_of_alice, lan["alice"])):
            each.bind((host.address, 0))
            each.listen()
        bob.nft("table inet filter {\n chain in {\n type filter hook input priority 0\n tcp flags & (syn | ack) == syn drop\n }\n}\n")
        try:
            assert not connects(lan["alice"], server.getsockname(), wait_s=0.3)
            assert connects(bob, server_of_alice.getsockname())
        finally:
            bob.flush()
        assert connects(lan["alice"], server.getsockname())


def connects(host: Host, address: Sequence[object], wait_s: float = 3.0) -> bool:
    with host.socket(kind=socket.SOCK_STREAM) as client:
        client.settimeout(wait_s)
        try:
            client.connect(tuple(address))
        except TimeoutError:
            return False
        return True


@pytest.mark.needs("tbf")
def test_a_hosts_own_kernel_can_slow_it_down(lan: Lan) -> None:
    alice = lan["alice"]
    alice.tc("qdisc", "add", "dev", namespace.DEVICE, "root", "tbf", "rate", "1mbit", "burst", "3000", "limit", "1000000")
    try:
        seen = watch(lan, "alice", "bob", 20, size=1000)
    finally:
        alice.tc("qdisc", "del", "dev", namespace.DEVICE, "root")
    took_ms = (seen[-1].sent_ns - seen[0].sent_ns) / 1e6
    assert took_ms > 100  # 17 kB beyond the first burst, 8.2 ms each


def test_nothing_is_left_when_a_test_fails() -> None:
    class Failure(Exception):
        pass

    lan = Lan(HOSTS, seed="failing")

    def fail() -> None:
        with lan:
            started.append(lan["alice"].run(subprocess.Popen, ["sleep", "600"]))
            assert started[0].pid in namespace.holders(lan.inodes)
            raise Failure

    started: list[subprocess.Popen[bytes]] = []
    with pytest.raises(Failure):
        fail()
    assert started[0].wait(10) == -signal.SIGKILL
    assert not namespace.holders(lan.inodes)


def test_nothing_is_left_when_the_tests_are_killed() -> None:
    program = (
        "import os, signal, subprocess, sys\n"
        "from support.lan.hosts import Lan\n"
        "with Lan({'alice': ['45.1.0.1']}, seed='killed') as lan:\n"
        "    child = lan['alice'].run(subprocess.Popen, ['sleep', '600'], stdout=subprocess.DEVNULL)\n"
        "    print(*lan.inodes, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_tests()
    ) as process:
        assert process.stdout is not None
        inodes = [int(each) for each in process.stdout.readline().split()]
        assert len(namespace.holders(inodes)) == 3  # itself, the link, and what runs on the host
        process.kill()
    until(lambda: not namespace.holders(inodes))


def _tests() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
