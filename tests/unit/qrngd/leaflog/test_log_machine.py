"""Random lives of a leaf log: appends, crashes in the middle of one, disks that refuse, restarts, in any order."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.leaf_logs import CHAIN, Writer

from qrngd.leaflog import log as module
from qrngd.leaflog.log import LeafLog
from qustream.errors import QuStreamError
from qustream.leaflog.audit import audit
from qustream.leaflog.segment import segment_name
from qustream.leaflog.source import DirectorySource
from qustream.model.entropy import Attestation
from qustream.wire.codec import decode

WRITER = Writer()
# Signed once: numbers, and with them names of units, rise.
BATCHES = [WRITER.batch(number) for number in range(60)]
ENTRY = WRITER.entry(1000)
SEGMENT_BYTES = 12_000  # three batches of one unit


class LogLives(RuleBasedStateMachine):
    """`acknowledged`: numbers of the batches whose `append` has returned. The log has these but for forgotten ones; and of `refused_ones`,
    whose units never leave, it may have one that was written whole before the disk refused to synchronise it and to cut it off."""

    @initialize(keep_bytes=st.sampled_from([0, 30_000, 1 << 30]))
    def begin(self, keep_bytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp()) / "leaves"
        self.keep_bytes = keep_bytes
        self.acknowledged: list[int] = []
        self.refused_ones: set[int] = set()
        self.next = 0
        self.patch = mock.patch.object(module, "SEGMENT_MAX_BYTES", SEGMENT_BYTES)
        self.patch.start()
        self.log = self.opened()

    def opened(self) -> LeafLog:
        log = LeafLog(self.folder, CHAIN, WRITER.key.id, keep_bytes=self.keep_bytes)
        log.open()
        return log

    @rule()
    def append(self) -> None:
        if self.next < len(BATCHES):
            self.next += 1
            self.log.append(*BATCHES[self.next - 1])
            self.acknowledged.append(self.next - 1)

    @rule()
    def append_an_old_number(self) -> None:
        if self.acknowledged:
            self.refused(self.acknowledged[-1], "E-DATA-CORRUPT")

    @rule(call=st.sampled_from(["pwrite", "fdatasync", "ftruncate"]), reason=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def append_on_a_bad_disk(self, call: str, reason: int) -> None:
        if self.next == len(BATCHES):
            return
        self.next += 1
        self.refused_ones.add(self.next - 1)
        failing = mock.patch.object(os, call, side_effect=OSError(reason, "bad"))
        # Cutting back can fail only after something else has.
        other = mock.patch.object(os, "fdatasync", side_effect=OSError(reason, "bad"))
        with failing, other:
            self.refused(self.next - 1, "E-DISK-FULL" if reason == errno.ENOSPC else "E-FILE")

    def refused(self, number: int, code: str) -> None:
        found = ""
        try:
            self.log.append(*BATCHES[number])
        except QuStreamError as error:
            found = error.code
        assert found == code

    @rule(part=st.floats(0, 1), zeros=st.booleans())
    def die_in_an_append(self, part: float, zeros: bool) -> None:
        """The process is gone, and of the entry it wrote the disk has a part, and zeros behind it if the file had grown already."""
        kept = ENTRY[: int(part * (len(ENTRY) - 1))]
        newest = self.log.index()[-1]
        self.log.close()
        if newest.size_bytes + len(ENTRY) > SEGMENT_BYTES:
            kept = b""  # it died before it began the next segment
        with (self.folder / segment_name(newest.number)).open("r+b") as file:
            file.truncate(newest.size_bytes)
            file.seek(newest.size_bytes)
            file.write(kept + bytes(len(ENTRY) - len(kept)) * (zeros and bool(kept)))
        self.log = self.opened()

    @rule()
    def die_before_a_segment_has_its_name(self) -> None:
        newest = self.log.index()[-1].number
        self.log.close()
        (self.folder / f".{segment_name(newest + 1)}.0011223344556677").write_bytes(b"a part of a header")
        self.log = self.opened()

    @rule()
    def restart(self) -> None:
        self.log.close()
        self.log = self.opened()

    @invariant()
    def readers_see_what_was_acknowledged(self) -> None:
        found = []
        for info in self.log.index():
            data = self.log.read(info.number)
            assert data is not None
            contents = module.read_segment(data)
            assert contents.whole_bytes == len(data)
            found += [decode(entry.attestation.body, Attestation, max_bytes=10_000).batch for entry in contents.entries]
        kept = [number for number in found if number not in self.refused_ones]
        assert kept == self.acknowledged[len(self.acknowledged) - len(kept) :]
        if self.keep_bytes == 1 << 30:
            assert kept == self.acknowledged
        assert self.log.last_batch == max([*self.acknowledged, *found], default=-1)

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        self.log.close()
        self.opened().close()  # cuts off what a bad disk may have left
        self.patch.stop()
        (audited,) = audit([DirectorySource(self.folder)], chain=CHAIN, server_of={WRITER.key.id: WRITER.record}.get)
        assert audited.torn_bytes == 0
        shutil.rmtree(self.folder.parent)


TestLogLives = LogLives.TestCase
TestLogLives.settings = settings(deadline=None, max_examples=80, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow])
