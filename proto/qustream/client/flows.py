"""What a client does, step by step, once for both clients (`proto/spec/client.md`).

A flow is a generator: what it yields is an operation over nodes for a driver to run, what it does in between is disk and cipher work,
and what it returns is the result. The blocking client steps it in the caller's thread, the trio client each step in a worker thread.
Closed early, by Ctrl-C or a cancelled task, it removes what it had begun to write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from qustream.client.answers import CheckedBlock
from qustream.client.asking import Gather, Operation, Suspect
from qustream.client.plan import About, Plan, SenderVerdict
from qustream.client.reports import Encrypted, Opened, Report, Revoked, block_report
from qustream.envelope import (
    PAD_MAX_BYTES,
    ClientSecrets,
    ContentKey,
    Header,
    HeldBlock,
    Progress,
    content_key,
    decrypt_stream,
    encrypt_stream,
    file_in_making,
    make_header,
    read_exactly,
    read_header,
    seal_pad,
    unseal,
    verify_content,
    write_all,
)
from qustream.errors import QuStreamError, fault
from qustream.identity.files import file_fault
from qustream.identity.user import UserHome
from qustream.model.network import Grant
from qustream.registry import NetworkFileRegistry, Registry
from qustream.registry.interface import Refreshed
from qustream.wire.keys import Alert

__all__ = ["Flow", "Flows", "Sink", "Source"]

_T = TypeVar("_T")
# A file that is being replaced is whole again within seconds. After ten minutes without a good one, revocations may be missing here.
VIEW_MAX_MS = 600_000
Flow = Generator[Operation, None, _T]
Source = str | Path | BinaryIO
Sink = str | Path | BinaryIO


@dataclass(slots=True)
class _Laps:
    """How long the network took, and how long the content."""

    keys_ms: int = 0
    content_ms: int = 0
    _since: float = 0.0

    def start(self) -> None:
        self._since = time.monotonic()

    def lap(self) -> int:
        """Milliseconds since the last call."""
        before, self._since = self._since, time.monotonic()
        return round((self._since - before) * 1000)


class Flows:
    """The flows of one user device on one network."""

    def __init__(self, home: UserHome, registry: Registry, clock_ms: Callable[[], int]) -> None:
        self._home = home
        self._registry = registry
        self._clock_ms = clock_ms
        self._plan = Plan(home, registry, clock_ms)

    # -- encrypting -----------------------------------------------------------------------------------------------------

    def encrypt(
        self,
        source: Source,
        sink: Sink,
        *,
        to: Sequence[str | bytes],
        lifetime_ms: int | None,
        pad: bool,
        replace: bool,
        progress: Progress | None,
    ) -> Flow[Encrypted]:
        """As `Client.encrypt`."""
        self._refresh()
        recipients = self._plan.recipients(to)
        laps = _Laps()
        gather: Gather[CheckedBlock] | None = None
        try:
            with _reading(source) as stream:
                # Whatever can be wrong here is found out before an index is spent: recipients, size of a pad, both files, the grant.
                plaintext = _pad_content(stream) if pad else None
                with _writing(sink, replace=replace) as out:
                    order = self._plan.order(recipients, lifetime_ms)
                    laps.start()
                    gather = self._plan.gather_keys(order)
                    yield gather
                    held = self._plan.held_blocks(order, gather.require())
                    about = self._plan.about(recipients, gather.answers)
                    laps.keys_ms = laps.lap()
                    if plaintext is None:
                        size = self._write_stream(held, stream, out, about, progress)
                    else:
                        size = _write_pad(held, plaintext, out, about)
        except (QuStreamError, OSError):
            if gather is not None and gather.answers:
                yield self._plan.discard([block.node for block in gather.answers.values()], order)
            raise
        laps.content_ms = laps.lap()
        # Only now, with the envelope on the disk under its name, may the nodes forget that they can repeat their answers.
        nodes = [block.node for block in gather.answers.values()]
        told = self._plan.acknowledge(nodes, order.grant, order.index, collected=False)
        yield told
        return Encrypted(
            size_bytes=size,
            grant=order.grant,
            index=order.index,
            expires_ms=about["expires_ms"],
            blocks=tuple(block_report(block) for block in gather.answers.values()),
            suspects=gather.suspects,
            unacknowledged=tuple(told.errors),
            keys_took_ms=laps.keys_ms,
            content_took_ms=laps.content_ms,
        )

    def _write_stream(self, held: Sequence[HeldBlock], stream: BinaryIO, out: BinaryIO, about: About, progress: Progress | None) -> int:
        raw, key = make_header(held, **about)
        try:
            return encrypt_stream(stream, out, raw, key, self._home.device, progress=progress)
        finally:
            key.wipe()

    # -- opening --------------------------------------------------------------------------------------------------------

    def open(self, source: Source, sink: Sink, *, replace: bool, progress: Progress | None) -> Flow[Opened]:
        """As `Client.open`."""
        self._refresh()
        laps = _Laps()
        with _reading(source) as stream:
            header = read_header(stream)
            verdict = self._plan.sender(header)
            secrets = unseal(header, self._home.user, self._home.hpke)
            with _writing(sink, replace=replace) as out:
                laps.start()
                try:
                    blocks, suspects, key = yield from self._content_key(header, secrets)
                finally:
                    secrets.wipe()
                laps.keys_ms = laps.lap()
                try:
                    size = decrypt_stream(stream, out, header, key, progress=progress)
                finally:
                    key.wipe()
        # Only now, with the content on the disk under its name, may the nodes erase. All six: the third block is not needed any more.
        told = self._plan.acknowledge(self._plan.nodes_of(header), header.core.grant, header.core.index, collected=True)
        laps.content_ms = laps.lap()
        yield told
        return _opened(header, verdict, blocks, suspects, size_bytes=size, key=key, silent=tuple(told.errors), laps=laps)

    def _content_key(
        self, header: Header, secrets: ClientSecrets
    ) -> Flow[tuple[dict[bytes, CheckedBlock], tuple[Suspect, ...], ContentKey]]:
        """Two blocks of each class, and the third where two do not fit the envelope's commitment."""
        gather = self._plan.gather_held(header, secrets)
        yield gather
        try:
            blocks = gather.require()
        except QuStreamError as error:
            raise self._plan.explained(header, error) from None
        try:
            return blocks, gather.suspects, content_key(header, secrets.client_secret, _opened_blocks(blocks))
        except QuStreamError as error:
            if error.code != "E-ENVELOPE-TAMPERED":
                raise
        others = self._plan.collect_each(header, secrets, besides=blocks)
        yield others
        blocks |= others.answers
        return blocks, (*gather.suspects, *others.suspects), content_key(header, secrets.client_secret, _opened_blocks(blocks))

    def verify(self, source: Source, *, blocks: bool) -> Flow[Report]:
        """As `Client.verify`."""
        self._refresh()
        with _reading(source) as stream:
            header = read_header(stream)
            verdict = self._plan.sender(header)
            verify_content(stream, header)
        collected: dict[bytes, CheckedBlock] = {}
        suspects: tuple[Suspect, ...] = ()
        if blocks:
            secrets = unseal(header, self._home.user, self._home.hpke)
            told = self._plan.collect_each(header, secrets)
            yield told
            collected, suspects = told.answers, told.suspects
        return Report(
            sender=verdict.sender.user,
            sender_device=verdict.sender.device,
            sender_device_label=verdict.sender.label,
            sender_device_revoked=verdict.revoked,
            created_ms=header.core.created_ms,
            expires_ms=header.core.expires_ms,
            blocks=tuple(block_report(block) for block in collected.values()),
            suspects=suspects,
        )

    # -- afterwards -----------------------------------------------------------------------------------------------------

    def revoke(self, source: Source) -> Flow[Revoked]:
        """As `Client.revoke`."""
        self._refresh()
        with _reading(source) as stream:
            header = read_header(stream)
        self._plan.sender(header)
        told, asked_ms = self._plan.revoke(header), self._plan.clock_ms()
        yield told
        return self._plan.revoked(header, told, asked_ms)

    def alerts(self, since_ms: int) -> Flow[list[Alert]]:
        """As `Client.alerts`."""
        self._refresh()
        told = self._plan.alerts(since_ms)
        yield told
        if not told.answers:
            raise fault("E-PEER-UNREACHABLE", f"no node could be asked: {'; '.join(map(str, told.suspects)) or 'none is active'}")
        return sorted({alert for alerts in told.answers.values() for alert in alerts}, key=lambda alert: alert.at_ms)

    def grants(self) -> list[tuple[Grant, int]]:
        """As `Client.grants`."""
        self._refresh()
        return [(grant, self._home.grants.left(grant.grant)) for grant in self._plan.usable_grants()]

    def _refresh(self) -> None:
        """Look at the network again. Errors: `E-CHAIN-STALE` when its file could not be confirmed for too long."""
        registry, now_ms = self._registry, self._clock_ms()
        if isinstance(registry, Refreshed):
            registry.refresh(now_ms)
        if isinstance(registry, NetworkFileRegistry) and registry.trouble is not None and registry.age_ms(now_ms) > VIEW_MAX_MS:
            minutes = registry.age_ms(now_ms) // 60_000
            raise fault("E-CHAIN-STALE", f"the network file could not be confirmed for {minutes} minutes: {registry.trouble.detail}")


def _opened_blocks(blocks: Mapping[bytes, CheckedBlock]) -> dict[bytes, tuple[bytes, bytes]]:
    return {node: (block.material, block.salt) for node, block in blocks.items()}


def _opened(
    header: Header,
    verdict: SenderVerdict,
    blocks: Mapping[bytes, CheckedBlock],
    suspects: tuple[Suspect, ...],
    *,
    size_bytes: int,
    key: ContentKey,
    silent: tuple[bytes, ...],
    laps: _Laps,
) -> Opened:
    return Opened(
        size_bytes=size_bytes,
        sender=verdict.sender.user,
        sender_device=verdict.sender.device,
        sender_device_label=verdict.sender.label,
        sender_device_revoked=verdict.revoked,
        created_ms=header.core.created_ms,
        blocks=tuple(block_report(block) for block in blocks.values()),
        suspects=suspects,
        inconsistent=key.inconsistent,
        unacknowledged=silent,
        keys_took_ms=laps.keys_ms,
        content_took_ms=laps.content_ms,
    )


def _write_pad(held: Sequence[HeldBlock], plaintext: bytes, out: BinaryIO, about: About) -> int:
    write_all(out, seal_pad(held, plaintext, **about))
    return len(plaintext)


def _pad_content(stream: BinaryIO) -> bytes:
    plaintext = read_exactly(stream, PAD_MAX_BYTES + 1)
    if len(plaintext) > PAD_MAX_BYTES:
        raise fault("E-PAD-SIZE", f"more than {PAD_MAX_BYTES} bytes")
    return plaintext


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
def _writing(sink: Sink, *, replace: bool) -> Iterator[BinaryIO]:
    if not isinstance(sink, (str, Path)):
        yield sink
        sink.flush()
        return
    with file_in_making(Path(sink).expanduser(), replace=replace) as out:
        yield out
