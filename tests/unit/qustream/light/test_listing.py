"""What several tell of nodes stands beside each other until the chain says who was right."""

from __future__ import annotations

from msgspec.structs import replace

from qustream.light.listing import WRONG_MAX, Listing
from qustream.model.network import NodeClass
from qustream.wire.light import ListedNode


def node(number: int, operator: str = "somebody") -> ListedNode:
    return ListedNode(number.to_bytes(32, "big"), NodeClass.COMMUNITY, operator, bytes(16), (), 0)


def test_tales_about_one_node_are_kept_side_by_side() -> None:
    listing = Listing()
    listing.tell(0, [node(1, "a lie"), node(2)])
    listing.tell(1, [node(1), node(2)])
    assert [(each.id[-1], each.operator) for each in listing.said] == [(1, "a lie"), (1, "somebody"), (2, "somebody")]


def test_what_is_refuted_goes_and_the_other_tale_stays() -> None:
    listing = Listing()
    listing.tell(0, [node(1, "a lie")])
    listing.tell(1, [node(1)])
    lie = next(each for each in listing.said if each.operator == "a lie")
    listing.strike(lie)
    listing.strike(lie)
    assert [each.operator for each in listing.said] == ["somebody"]


def test_who_is_wrong_too_often_is_forgotten_with_all_that_he_alone_has_told() -> None:
    listing = Listing()
    listing.tell(0, [node(number, "a lie") for number in range(WRONG_MAX + 40)] + [node(99)])
    listing.tell(1, [node(99)])
    lies = [each for each in listing.said if each.operator == "a lie"]
    for each in lies[:WRONG_MAX]:
        listing.strike(each)
    assert len(listing.said) == 41
    listing.strike(lies[WRONG_MAX])
    assert not listing.is_refuted
    assert [each.id for each in listing.said] == [node(99).id]


def test_addresses_make_no_other_tale_of_it() -> None:
    listing = Listing()
    listing.tell(0, [node(1), replace(node(1), addresses=("192.0.2.9:7400",))])
    assert len(listing.said) == 1
