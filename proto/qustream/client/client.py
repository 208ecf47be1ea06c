"""The blocking client: encrypt, open, verify, revoke (`proto/spec/client.md`).

import qustream

with qustream.Client.from_home("~/.qustream") as client:
    client.encrypt("report.pdf", "report.pdf.qs", to=["qu1..."])
    client.open("report.pdf.qs", "report.pdf")
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from qustream.client.connections import Connections
from qustream.client.driver import ThreadDriver
from qustream.client.flows import Flows, Sink, Source
from qustream.client.reports import Encrypted, Opened, Report, Revoked
from qustream.client.settings import close_network, now_ms, open_home
from qustream.envelope import Progress
from qustream.identity.user import UserHome
from qustream.model.network import Grant
from qustream.registry import Registry
from qustream.wire.keys import Alert

__all__ = ["TIMEOUT_MS", "Client", "Sink", "Source"]

# A node answers in milliseconds; ten seconds cover one that is busy.
TIMEOUT_MS = 10_000


class Client:
    """One user device's client. Any thread may use it, several at once too.

    Every method raises `QuStreamError` with a code of `qustream.errors.CODES`; `Unavailable` means that trying later may help.
    Connections to nodes are kept for the next call; `close`, the end of a `with` or of the program ends them.
    """

    def __init__(self, home: UserHome, registry: Registry, *, timeout_ms: int = TIMEOUT_MS, clock_ms: Callable[[], int] = now_ms) -> None:
        """`timeout_ms`: for one answer of one node. `clock_ms`: Unix time."""
        self.home = home
        self.registry = registry
        self._flows = Flows(home, registry, clock_ms)
        connections = Connections(home.device, registry.chain, timeout_ms)
        self._driver = ThreadDriver(connections)
        self._ends = [weakref.finalize(self, connections.close)]

    @classmethod
    def from_home(cls, directory: str | Path = "~/.qustream", *, passphrase: bytes | None = None, timeout_ms: int = TIMEOUT_MS) -> Client:
        """Open the user directory that `qustream init` made. `passphrase`: of its keystore; else the credential `qustream`, else asked
        for at the terminal. Errors: `E-FILE`, `E-CONFIG`, `E-KEYSTORE-*`, `E-SECRET-MISSING`, `E-REGISTRY-*`."""
        home, registry = open_home(Path(directory), passphrase, now_ms)
        made = cls(home, registry, timeout_ms=timeout_ms)
        made._ends.append(weakref.finalize(made, partial(close_network, registry)))  # it was opened here
        return made

    def encrypt(
        self,
        source: Source,
        sink: Sink,
        *,
        to: Sequence[str | bytes],
        lifetime_ms: int | None = None,
        pad: bool = False,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Encrypted:
        """Encrypt `source` to the users `to` (`qu1…` or raw ids) and write the envelope to `sink`.

        A path as `sink` gets its file only when all is written and on the disk; a stream gets bytes as they come. `lifetime_ms`: how long
        the recipients may collect (default: a week, or less if the grant paid for less). `pad`: one-time pad, at most 196,608 bytes.
        `replace`: whether a file may be there already. Uses one request of a grant, also where it fails after asking the nodes.
        Errors: `E-REGISTRY-UNKNOWN`, `E-GRANT-*`, `E-LIFETIME`, `E-DEVICE-*`, `E-CLASS-SHORT`, `E-PAD-SIZE`, `E-FILE`, `E-DISK-FULL`.
        """
        return self._driver.follow(
            self._flows.encrypt(source, sink, to=to, lifetime_ms=lifetime_ms, pad=pad, replace=replace, progress=progress)
        )

    def open(self, source: Source, sink: Sink, *, replace: bool = False, progress: Progress | None = None) -> Opened:
        """Open an envelope sent to this user and write its content to `sink`, which for a path appears only when every check held.

        To a stream as `sink` bytes go before the sender's signature over all of them is checked: throw them away if this raises.
        Errors: `E-NOT-RECIPIENT`, `E-NOT-HELD`, `E-CLASS-SHORT`, `E-ENVELOPE-*`, `E-PEER-CHAIN`, `E-FILE`, `E-DISK-FULL`.
        """
        return self._driver.follow(self._flows.open(source, sink, replace=replace, progress=progress))

    def verify(self, source: Source, *, blocks: bool = False) -> Report:
        """Check an envelope without opening it: structure, sender, and the sender's signature over the whole content.

        With `blocks`, as a recipient: also collect the blocks, without acknowledging them, and check where each came from; blocks that
        could not be had or do not check are the report's `suspects`. Errors: `E-ENVELOPE-*`, `E-PEER-CHAIN`, `E-NOT-RECIPIENT`.
        """
        return self._driver.follow(self._flows.verify(source, blocks=blocks))

    def revoke(self, source: Source) -> Revoked:
        """Have the blocks of an envelope that this user sent erased. Whoever has collected them already keeps them.

        Errors: `E-ENVELOPE-*`; what each node said is in the result."""
        return self._driver.follow(self._flows.revoke(source))

    def alerts(self, since_ms: int = 0) -> list[Alert]:
        """What nodes have noticed about this user since `since_ms`, oldest first: refused unknown or revoked devices.

        Asks ten nodes, others every time. Errors: `E-PEER-UNREACHABLE` when none answered."""
        return self._driver.follow(self._flows.alerts(since_ms))

    def grants(self) -> list[tuple[Grant, int]]:
        """This device's grants that are good now, the one used next in front, and how many requests each has left for this device."""
        return self._flows.grants()

    def close(self) -> None:
        """End the connections that are kept. Harmless when repeated; nothing else may be called afterwards."""
        for end in self._ends:
            end()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
