"""The blocking client: encrypt, open, verify, revoke (`proto/spec/client.md`).

import qustream
client = qustream.Client.from_home("~/.qustream")
client.encrypt("report.pdf", "report.pdf.qs", to=["qu1..."])
client.open("report.pdf.qs", "report.pdf")
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from qustream.client.answers import CheckedBlock
from qustream.client.asking import Gather
from qustream.client.driver import ThreadDriver
from qustream.client.plan import Plan
from qustream.client.reports import Encrypted, Opened, Report, Revoked, block_report
from qustream.client.settings import open_home
from qustream.envelope import (
    PAD_MAX_BYTES,
    Blocks,
    ClientSecrets,
    ContentKey,
    Header,
    Progress,
    content_key,
    decrypt_stream,
    encrypt_stream,
    file_in_making,
    make_header,
    read_header,
    seal_pad,
    unseal,
    verify_content,
)
from qustream.errors import QuStreamError, fault
from qustream.identity.files import file_fault
from qustream.identity.user import UserHome
from qustream.model.network import Grant, NodeRecord
from qustream.registry import NetworkFileRegistry, Registry
from qustream.wire.keys import Alert

__all__ = ["Client", "Source"]

Source = str | Path | BinaryIO
# A node answers in milliseconds; ten seconds cover one that is busy, before the next rank is asked.
TIMEOUT_MS = 10_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Client:
    """One user device's client. Methods may be called one after another from any thread; each opens its own connections.

    Every method raises `QuStreamError` with a code of `qustream.errors.CODES`; `Unavailable` means that trying later may help.
    """

    def __init__(self, home: UserHome, registry: Registry, *, timeout_ms: int = TIMEOUT_MS, clock_ms: Callable[[], int] = _now_ms) -> None:
        self.home = home
        self.registry = registry
        self._timeout_ms = timeout_ms
        self._clock_ms = clock_ms
        self._plan = Plan(home, registry, clock_ms)

    @classmethod
    def from_home(cls, directory: str | Path = "~/.qustream", *, passphrase: bytes | None = None, timeout_ms: int = TIMEOUT_MS) -> Client:
        """Open the user directory that `qustream init` made. `passphrase`: of its keystore; else the credential `qustream`, else asked
        for at the terminal. Errors: `E-FILE`, `E-CONFIG`, `E-KEYSTORE-*`, `E-SECRET-MISSING`, `E-REGISTRY-*`."""
        home, registry = open_home(Path(directory).expanduser(), passphrase, _now_ms())
        return cls(home, registry, timeout_ms=timeout_ms)

    # -- encrypting -----------------------------------------------------------------------------------------------------

    def encrypt(
        self,
        source: Source,
        sink: Source,
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
        Uses one request of a grant. Errors: `E-REGISTRY-UNKNOWN`, `E-GRANT-*`, `E-CLASS-SHORT`, `E-PAD-SIZE`, `E-FILE`, `E-DISK-FULL`.
        """
        self._refresh()
        recipients = self._plan.recipients(to)
        with _reading(source) as stream, self._driver() as driver:
            # Everything that can be wrong here is found out before an index is spent.
            plaintext = self._pad_content(stream) if pad else None
            with _writing(sink, replace=replace) as out:
                order = self._plan.order(recipients, lifetime_ms)
                started = time.monotonic()
                gather = self._plan.gather_keys(order)
                driver.run(gather)
                blocks = gather.require()
                keys_took = time.monotonic() - started
                held, expires_ms = self._plan.held_blocks(order, blocks)
                sender = (self.home.user, self.home.device, self.home.certificate)
                created_ms = self._clock_ms()
                chain = self.registry.chain
                if plaintext is not None:
                    size = len(plaintext)
                    out.write(
                        seal_pad(
                            held, plaintext, sender=sender, recipients=recipients, chain=chain, created_ms=created_ms, expires_ms=expires_ms
                        )
                    )
                else:
                    raw, key = make_header(
                        held, sender=sender, recipients=recipients, chain=chain, created_ms=created_ms, expires_ms=expires_ms
                    )
                    size = encrypt_stream(stream, out, raw, key, self.home.device, progress=progress)
                    key.wipe()
            nodes = [block.node for block in blocks.values()]
            silent = self._acknowledge(driver, nodes, order.grant, order.index, collected=False)
        return Encrypted(
            size_bytes=size,
            grant=order.grant,
            index=order.index,
            expires_ms=expires_ms,
            blocks=tuple(block_report(block) for block in blocks.values()),
            suspects=gather.suspects,
            unacknowledged=silent,
            keys_took_ms=round(keys_took * 1000),
            content_took_ms=round((time.monotonic() - started - keys_took) * 1000),
        )

    def _pad_content(self, stream: BinaryIO) -> bytes:
        plaintext = stream.read(PAD_MAX_BYTES + 1)
        if len(plaintext) > PAD_MAX_BYTES:
            raise fault("E-PAD-SIZE", f"more than {PAD_MAX_BYTES} bytes")
        return plaintext

    # -- opening --------------------------------------------------------------------------------------------------------

    def open(self, source: Source, sink: Source, *, replace: bool = False, progress: Progress | None = None) -> Opened:
        """Open an envelope sent to this user and write its content to `sink`, which for a path appears only when every check held.

        To a stream as `sink` bytes go before the sender's signature over all of them is checked: throw them away if this raises.
        Errors: `E-NOT-RECIPIENT`, `E-CLASS-SHORT`, `E-ENVELOPE-*`, `E-FILE`, `E-DISK-FULL`.
        """
        self._refresh()
        with _reading(source) as stream, self._driver() as driver:
            header = read_header(stream)
            verdict = self._plan.sender(header)
            secrets = unseal(header, self.home.user, self.home.hpke)
            started = time.monotonic()
            gather, key = self._content_key(driver, header, secrets)
            keys_took = time.monotonic() - started
            with _writing(sink, replace=replace) as out:
                size = decrypt_stream(stream, out, header, key, progress=progress)
            content_took = time.monotonic() - started - keys_took
            silent = self._acknowledge(driver, self._plan.nodes_of(header), header.core.grant, header.core.index, collected=True)
        return Opened(
            size_bytes=size,
            sender=verdict.sender.user,
            sender_device=verdict.sender.device,
            sender_device_label=verdict.sender.label,
            sender_device_revoked=verdict.revoked,
            created_ms=header.core.created_ms,
            blocks=tuple(block_report(block) for block in gather.answers.values()),
            suspects=gather.suspects,
            inconsistent=key.inconsistent,
            unacknowledged=silent,
            keys_took_ms=round(keys_took * 1000),
            content_took_ms=round(content_took * 1000),
        )

    def _content_key(self, driver: ThreadDriver, header: Header, secrets: ClientSecrets) -> tuple[Gather[CheckedBlock], ContentKey]:
        """Two blocks of each class, and the third where two do not fit the envelope's commitment."""
        need = 2
        while True:
            gather = self._plan.gather_held(header, secrets, need=need)
            driver.run(gather)
            try:
                blocks: Blocks = {node: (block.material, block.salt) for node, block in gather.require().items()}
                return gather, content_key(header, secrets.client_secret, blocks)
            except QuStreamError as error:
                if need == 2 and error.code == "E-ENVELOPE-TAMPERED":
                    need = 3
                    continue
                raise self._plan.explained(header, error) from None

    def verify(self, source: Source, *, blocks: bool = False) -> Report:
        """Check an envelope without opening it: structure, sender, and the sender's signature over the whole content.

        With `blocks`, as a recipient: also collect the blocks, without acknowledging them, and check where each came from.
        """
        self._refresh()
        with _reading(source) as stream:
            header = read_header(stream)
            verdict = self._plan.sender(header)
            verify_content(stream, header)
        gather: Gather[CheckedBlock] | None = None
        if blocks:
            secrets = unseal(header, self.home.user, self.home.hpke)
            with self._driver() as driver:
                gather = self._plan.gather_held(header, secrets, need=3)
                driver.run(gather)
            if not gather.answers:
                gather.require()
        return Report(
            sender=verdict.sender.user,
            sender_device=verdict.sender.device,
            sender_device_revoked=verdict.revoked,
            created_ms=header.core.created_ms,
            expires_ms=header.core.expires_ms,
            blocks=tuple(block_report(block) for block in gather.answers.values()) if gather else (),
            suspects=gather.suspects if gather else (),
        )

    # -- afterwards -----------------------------------------------------------------------------------------------------

    def revoke(self, source: Source) -> Revoked:
        """Have the blocks of an envelope that this user sent erased. Whoever has collected them already keeps them."""
        self._refresh()
        with _reading(source) as stream:
            header = read_header(stream)
        self._plan.sender(header)
        told = self._plan.revoke(header)
        with self._driver() as driver:
            driver.run(told)
        return self._plan.revoked(header, told)

    def alerts(self, since_ms: int = 0) -> list[Alert]:
        """What nodes have noticed about this user since `since_ms`, oldest first: refused unknown or revoked devices."""
        self._refresh()
        told = self._plan.alerts(since_ms)
        with self._driver() as driver:
            driver.run(told)
        return sorted({alert for alerts in told.answers.values() for alert in alerts}, key=lambda alert: alert.at_ms)

    def grants(self) -> list[tuple[Grant, int]]:
        """This device's grants that are good now, the one used next in front, and how many requests each has left for this device."""
        self._refresh()
        return [(grant, self.home.grants.left(grant.grant)) for grant in self._plan.usable_grants()]

    # -- within ---------------------------------------------------------------------------------------------------------

    def _driver(self) -> ThreadDriver:
        return ThreadDriver(self.home.device, self.registry.chain, self._timeout_ms)

    def _refresh(self) -> None:
        if isinstance(self.registry, NetworkFileRegistry):
            self.registry.refresh(self._clock_ms())

    def _acknowledge(
        self, driver: ThreadDriver, nodes: Sequence[NodeRecord], grant: bytes, index: int, *, collected: bool
    ) -> tuple[bytes, ...]:
        """Nodes that did not hear it hand the block out again until it expires: harmless, but worth telling."""
        told = self._plan.acknowledge(nodes, grant, index, collected=collected)
        driver.run(told)
        return tuple(told.errors)


@contextlib.contextmanager
def _reading(source: Source) -> Iterator[BinaryIO]:
    if not isinstance(source, (str, Path)):
        yield source
        return
    path = Path(source).expanduser()
    try:
        stream = path.open("rb")
    except OSError as error:
        raise file_fault(path, error) from None
    with stream:
        yield stream


@contextlib.contextmanager
def _writing(sink: Source, *, replace: bool) -> Iterator[BinaryIO]:
    if not isinstance(sink, (str, Path)):
        yield sink
        return
    with file_in_making(Path(sink).expanduser(), replace=replace) as out:
        yield out
