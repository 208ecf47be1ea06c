"""Admission: who gets a place, who does not, and who has to give his up. Pure, so time is an argument."""

from __future__ import annotations

from qustream.aio.admission import Admission, Bucket, ListenerLimits, Seat, address_key

LIMITS = ListenerLimits(
    connections=6, connections_per_address=5, handshakes_per_address=3, burst_per_address=10, rate_per_address_per_s=2, addresses=20
)


class House:
    """An admission and what it displaced."""

    def __init__(self, limits: ListenerLimits = LIMITS) -> None:
        self.admission = Admission(limits, 0.0)
        self.displaced: list[str] = []

    def come(self, key: str, now_s: float = 0.0, *, shaken: bool = True, heard_at: float = 0.0) -> Seat | str:
        seat = self.admission.admit(key, now_s, lambda: self.displaced.append(f"{key}@{heard_at}"))
        if isinstance(seat, Seat):
            seat.heard_at = lambda: heard_at
            if shaken:
                self.admission.shaken(seat)
        return seat


def seated(seat: Seat | str) -> Seat:
    assert isinstance(seat, Seat)
    return seat


def test_an_address_has_so_many_connections() -> None:
    house = House()
    seats = [seated(house.come("a")) for _ in range(5)]
    assert house.come("a") == "connections_per_address"
    house.admission.leave(seats[0])
    house.admission.leave(seats[0])
    seated(house.come("a"))
    assert house.come("a") == "connections_per_address"


def test_an_address_has_so_many_handshakes_under_way() -> None:
    house = House()
    seats = [seated(house.come("a", shaken=False)) for _ in range(3)]
    assert house.come("a") == "handshakes_per_address"
    house.admission.shaken(seats[0])
    house.admission.shaken(seats[0])
    seated(house.come("a", shaken=False))
    assert house.come("a") == "handshakes_per_address"
    house.admission.leave(seats[1])  # left in the middle of its handshake
    seated(house.come("a", shaken=False))


def test_an_address_connects_so_often() -> None:
    house = House()
    for _ in range(10):
        house.admission.leave(seated(house.come("a", 100.0)))
    assert house.come("a", 100.4) == "rate_per_address"
    house.admission.leave(seated(house.come("a", 100.5)))
    assert house.come("a", 100.6) == "rate_per_address"
    seated(house.come("b", 100.6))


def test_all_addresses_together_connect_so_often() -> None:
    house = House(ListenerLimits(burst=5, rate_per_s=1))
    for number in range(5):
        house.admission.leave(seated(house.come(f"bot {number}", 10.0)))
    assert house.come("bot 6", 10.5) == "rate"
    seated(house.come("bot 7", 11.0))


def test_a_flood_from_one_address_gives_way_to_another_address() -> None:
    house = House()
    for number in range(5):
        house.come("flood", heard_at=float(number))
    seated(house.come("b"))
    seated(house.come("honest"))
    assert house.displaced == ["flood@0.0"]  # the one silent for the longest
    assert house.come("flood") == "connections"


def test_equal_shares_displace_nobody() -> None:
    house = House()
    for key in "abcdef":
        seated(house.come(key))
    assert house.come("g") == "connections"
    assert house.displaced == []


def test_a_flood_from_many_addresses_gives_way_to_whoever_uses_a_place() -> None:
    house = House()
    served = seated(house.come("user", 0.0))
    served.served_at = lambda: 1.0
    busy = seated(house.come("asker", 0.0))
    busy.is_busy = lambda: True
    seated(house.come("node", 0.0)).is_kept = lambda: True
    for number, key in enumerate("xyz"):
        seated(house.come(key, number / 10, heard_at=float(number)))
    assert house.come("early", 1.9) == "connections"  # every one of them may still be about to ask
    seated(house.come("a", 2.0))
    assert house.displaced == ["x@0.0"]
    seated(house.come("b", 2.2))
    seated(house.come("c", 2.2))
    assert house.displaced == ["x@0.0", "y@1.0", "z@2.0"]
    assert house.come("d", 2.9) == "connections"
    seated(house.come("e", 3.0))  # the user was served two seconds ago
    assert house.displaced[3:] == ["user@0.0"]
    assert house.come("f", 3.1) == "connections"
    assert house.admission._taken == LIMITS.connections


def test_who_was_never_served_goes_before_who_was() -> None:
    house = House()
    for number, key in enumerate("abcdef"):
        seat = seated(house.come(key, float(number)))
        if key == "a":
            seat.served_at = lambda: 0.5
    seated(house.come("g", 10.0))
    assert house.displaced == ["b@0.0"]


def test_licensed_peers_keep_their_places() -> None:
    house = House()
    for _ in range(5):
        seated(house.come("nodes")).is_kept = lambda: True
    seated(house.come("b"))
    assert house.come("c") == "connections"
    assert house.displaced == []


def test_a_handshake_gives_way_before_a_connection() -> None:
    house = House()
    for number in range(4):
        house.come("flood", heard_at=float(number))
    shaking = seated(house.admission.admit("flood", 0.0, lambda: house.displaced.append("shaking")))
    house.come("b")
    house.come("c")
    assert house.displaced == ["shaking"]
    house.admission.shaken(shaking)  # its task ends later; the counts hold
    house.admission.leave(shaking)
    for _ in range(2):
        house.come("d")
    assert house.admission._taken <= LIMITS.connections


def test_remembered_addresses_are_bounded_and_those_with_connections_stay() -> None:
    house = House()
    keeper = seated(house.come("keeper"))
    for number in range(100):
        house.admission.leave(seated(house.come(f"passer {number}")))
    assert len(house.admission._addresses) <= LIMITS.addresses
    house.admission.work(keeper)


def test_addresses_count_by_what_one_owner_holds() -> None:
    assert address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("2001:db8:1:2:3:4:5:6") == address_key("2001:db8:1:2::1")
    assert address_key("2001:db8:1:2::1") != address_key("2001:db8:1:3::1")
    assert address_key("fe80::1%eth0") == address_key("fe80::2")
    assert address_key("somewhere") == "somewhere"


def test_a_bucket_may_go_into_debt_and_says_for_how_long() -> None:
    bucket = Bucket(10, 5, 0.0)
    assert bucket.spend(10, 0.0) == 0.0
    assert bucket.spend(10, 0.0) == 2.0
    assert not bucket.take(1.0)
    assert bucket.spend(0, 2.0) == 0.0
    assert bucket.take(3.0)
    assert bucket.spend(0, 1e9) == 0.0
    assert bucket.spend(11, 1e9) > 0.0
