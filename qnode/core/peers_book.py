"""Where nodes are: what the registry says, what they say themselves, and where they were found (`proto/spec/peers.md`, §1 and §5)."""

from __future__ import annotations

from collections.abc import Mapping, Set

from qnode.core.peers_events import Known, prefix_of_unknown
from qustream.rules.peering import prefix

__all__ = ["AddressBook"]


class AddressBook:
    """Of known nodes only: whoever is struck off is forgotten. A record that is too old stays, and does not count: our clock may be wrong,
    and will be put right."""

    __slots__ = ("_found", "_from_ms", "_nodes", "_places", "_records")

    def __init__(self) -> None:
        self._nodes: Mapping[bytes, Known] = {}
        self._records: dict[bytes, tuple[int, tuple[str, ...]]] = {}
        self._from_ms = 0
        self._found: dict[bytes, str] = {}  # node -> prefix of the address at which it was last reached
        self._places: dict[bytes, tuple[tuple[str, str], ...]] = {}  # node -> its addresses with their prefixes, as far as asked for

    def __len__(self) -> int:
        return sum(issued_ms >= self._from_ms for issued_ms, _ in self._records.values())

    def changed(self, nodes: Mapping[bytes, Known], records_from_ms: int) -> None:
        """The registry is another; records issued before `records_from_ms` count no more."""
        self._nodes, self._from_ms = nodes, records_from_ms
        self._records = {node: record for node, record in self._records.items() if node in nodes}
        self._found = {node: found for node, found in self._found.items() if node in nodes}
        self._places = {}

    def learnt(self, node: bytes, issued_ms: int, addresses: tuple[str, ...]) -> bool:
        """A record that has been checked; whether there is an address in it that we did not have. An older one changes nothing."""
        if node not in self._nodes or self._records.get(node, (-1, ()))[0] >= issued_ms:
            return False
        before = self.addresses(node)
        self._records[node] = (issued_ms, addresses)
        self._places.pop(node, None)
        return not set(addresses) <= set(before)

    def reached(self, node: bytes, where: str) -> None:
        """It answered at an address of prefix `where`."""
        if self._found.get(node) != where:
            self._found[node] = where
            self._places.pop(node, None)

    def addresses(self, node: bytes) -> tuple[str, ...]:
        """In the order in which they are tried: the record's, then the registry's that are not among them."""
        return tuple(address for address, _ in self._of(node))

    def outside(self, node: bytes, taken: Set[str]) -> tuple[str, ...]:
        """Those of them that are in none of the prefixes `taken`. What a name stands for shows when it has been reached."""
        return tuple(address for address, place in self._of(node) if place not in taken)

    def is_outside(self, node: bytes, taken: Set[str]) -> bool:
        """Whether there is any such address. Asked of thousands of nodes in a row."""
        places = self._places.get(node) or self._of(node)
        return any(place not in taken for _, place in places)

    def prefixes(self, node: bytes) -> frozenset[str]:
        """In which a link to it may turn out to be."""
        return frozenset(place for _, place in self._of(node))

    def _of(self, node: bytes) -> tuple[tuple[str, str], ...]:
        places = self._places.get(node)
        if places is None:
            registered = self._nodes[node].addresses if node in self._nodes else ()
            issued_ms, said = self._records.get(node, (-1, ()))
            addresses = dict.fromkeys((*(said if issued_ms >= self._from_ms else ()), *registered))
            named = self._found.get(node) or prefix_of_unknown(node)
            places = tuple((address, prefix(address) or named) for address in addresses if not address.startswith("unix:"))
            self._places[node] = places
        return places
