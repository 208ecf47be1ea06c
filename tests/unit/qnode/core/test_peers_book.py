"""Where nodes are: records before the registry, prefixes of what is dialled."""

from __future__ import annotations

import pytest

from qnode.core.peers_book import AddressBook
from qnode.core.peers_events import Known, prefix_of_unknown

A, B = bytes([1]) * 32, bytes([2]) * 32


@pytest.fixture
def book() -> AddressBook:
    made = AddressBook()
    made.changed({A: Known("a", ("10.1.0.1:1", "unix:/run/a")), B: Known("b", ("b.example:1",))}, 0)
    return made


def test_a_record_comes_first_and_what_both_say_once(book: AddressBook) -> None:
    assert book.addresses(A) == ("10.1.0.1:1",)  # a path is no address of a node
    assert book.learnt(A, 10, ("10.9.0.1:1", "10.1.0.1:1"))
    assert book.addresses(A) == ("10.9.0.1:1", "10.1.0.1:1")
    assert not book.learnt(A, 11, ("10.1.0.1:1",))  # no news
    assert not book.learnt(A, 11, ("10.4.0.1:1",))  # not newer
    assert not book.learnt(bytes(32), 99, ("10.4.0.1:1",))  # of nobody
    assert book.addresses(A) == ("10.1.0.1:1",)
    assert book.addresses(bytes(32)) == ()
    assert len(book) == 1


def test_records_of_whom_nobody_knows_and_old_ones_are_dropped(book: AddressBook) -> None:
    book.learnt(A, 10, ("10.9.0.1:1",))
    book.learnt(B, 20, ("10.8.0.1:1",))
    book.changed({A: Known("a", ()), B: Known("b", ())}, 15)
    assert (book.addresses(A), book.addresses(B)) == ((), ("10.8.0.1:1",))
    assert len(book) == 1
    book.changed({A: Known("a", ())}, 15)
    assert len(book) == 0


def test_a_clock_that_was_wrong_for_a_while_loses_no_record(book: AddressBook) -> None:
    nodes = {A: Known("a", ("10.1.0.1:1",)), B: Known("b", ())}
    book.learnt(A, 10, ("10.9.0.1:1",))
    book.changed(nodes, 10_000)  # four epochs ahead
    assert (book.addresses(A), len(book)) == (("10.1.0.1:1",), 0)
    book.changed(nodes, 5)
    assert (book.addresses(A), len(book)) == (("10.9.0.1:1", "10.1.0.1:1"), 1)
    assert not book.learnt(A, 10, ("10.9.0.2:1",))
    book.changed({B: Known("b", ())}, 5)  # struck off
    book.changed(nodes, 5)
    assert book.addresses(A) == ("10.1.0.1:1",)


def test_what_a_name_stands_for_shows_when_it_has_been_reached(book: AddressBook) -> None:
    assert book.prefixes(B) == {prefix_of_unknown(B)}
    assert book.is_outside(B, {"10.1.0.0/16"})
    book.reached(B, "10.1.0.0/16")
    assert book.prefixes(B) == {"10.1.0.0/16"}
    assert not book.is_outside(B, {"10.1.0.0/16"})
    assert book.outside(B, {"10.2.0.0/16"}) == ("b.example:1",)
    book.reached(B, "10.2.0.0/16")
    assert book.prefixes(B) == {"10.2.0.0/16"}


def test_only_addresses_in_free_prefixes_are_dialled(book: AddressBook) -> None:
    book.learnt(A, 10, ("10.9.0.1:1", "[2001:db8::1]:1"))
    assert book.outside(A, {"10.9.0.0/16"}) == ("[2001:db8::1]:1", "10.1.0.1:1")
    assert book.outside(A, {"10.9.0.0/16", "10.1.0.0/16", "2001:db8::/32"}) == ()
    assert not book.is_outside(A, {"10.9.0.0/16", "10.1.0.0/16", "2001:db8::/32"})
