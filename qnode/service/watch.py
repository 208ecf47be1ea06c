"""Following the network file while a node runs, and not falling behind it across restarts (`proto/spec/node.md`, "Network file").

The file is looked at every second and read when it has changed, and now and then even if it has not, so that a file that cannot be
read any more is noticed long before the node's view counts as stale. A bad file changes nothing; the registry says why (`trouble`).
The newest version ever accepted is kept in the data directory: an older file, put in its place while the node was down, is refused.

A newer file that peers had lies in the data directory, too (`proto/spec/bulk.md` §5): the newer of the two is in use. The configured one
is the operator's, and never written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from qustream.aio.logs import logger
from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.registry import NetworkFileRegistry

__all__ = ["NetworkWatch", "kept_file", "known_height", "remember_height"]

LOOK_S = 1.0  # a revocation in the network file is in force a second later
CONFIRM_MS = 10_000  # a sixth of the age at which a node must stop serving; 15 MB cost 20 ms to read again
MEMORY_FILE = "network-height"
KEPT_FILE = "network.toml"
MEMORY_MAX_BYTES = 128  # a chain id of 64 characters and a version


def kept_file(data_dir: Path) -> Path:
    """Where a network file is kept that came from peers."""
    return data_dir / KEPT_FILE


def known_height(data_dir: Path, chain: str) -> int:
    """The version of the network file of `chain` this node has seen; 0 if none. Errors: `E-DATA-CORRUPT`, `E-FILE`."""
    path = data_dir / MEMORY_FILE
    if not path.exists():
        return 0
    seen_chain, _, height = files.read(path, MEMORY_MAX_BYTES, private=True).decode("ascii", "replace").strip().rpartition(" ")
    if not seen_chain or not height.isdigit():
        raise fault("E-DATA-CORRUPT", f"{path} does not hold a network and a version; without it an old network file could pass for new")
    return int(height) if seen_chain == chain else 0


def remember_height(data_dir: Path, chain: str, height: int) -> None:
    """Keep `height` for the next start. Errors: `E-DISK-FULL`, `E-FILE`."""
    files.replace(data_dir / MEMORY_FILE, f"{chain} {height}\n".encode())


class NetworkWatch:
    """One task (`run`). `on_change` is called after a newer file has taken over."""

    def __init__(
        self, registry: NetworkFileRegistry, path: Path, data_dir: Path, *, clock_ms: Callable[[], int], on_change: Callable[[], None]
    ) -> None:
        self._registry, self._path, self._data_dir = registry, path, data_dir
        self._clock_ms, self._on_change = clock_ms, on_change
        self._seen: tuple[int, ...] = ()
        self._read_ms = 0
        self._log = logger("network-file")

    async def run(self) -> None:
        """Look for ever."""
        said = ""
        while True:
            if await trio.to_thread.run_sync(self._look):
                self._took_over()
            trouble = self._registry.trouble
            if trouble is not None and str(trouble) != said:
                self._log.warning("network file refused", code=trouble.code, detail=trouble.detail)
            elif trouble is None and said:
                self._log.info("network file good again", height=self._registry.height)
            said = str(trouble or "")
            await trio.sleep(LOOK_S)

    async def follow(self, data: bytes) -> None:
        """Take over a newer file that peers had. Errors: as `NetworkFileRegistry.follow`; then nothing has changed."""
        await trio.to_thread.run_sync(self._follow, data)
        self._took_over()

    def _follow(self, data: bytes) -> None:
        self._registry.follow(data, self._clock_ms(), partial(files.replace, kept_file(self._data_dir)))
        self._remember()

    def _took_over(self) -> None:
        self._log.info("network file taken over", height=self._registry.height, path=str(self._registry.file_in_use.path))
        self._on_change()

    def _look(self) -> bool:
        """In a worker thread: read the file if there is reason to; True if it has taken over."""
        now_ms, found = self._clock_ms(), self._signature()
        if found == self._seen and 0 <= now_ms - self._read_ms < CONFIRM_MS:
            return False
        self._seen, self._read_ms = found, now_ms
        changed = self._registry.refresh(now_ms)
        if changed:
            self._remember()
        return changed

    def _signature(self) -> tuple[int, ...]:
        """Changes when one of the two files does."""
        signature: tuple[int, ...] = ()
        for path in (self._path, kept_file(self._data_dir)):
            try:
                state = path.stat()
            except OSError:
                signature += (0,)
            else:
                signature += (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        return signature

    def _remember(self) -> None:
        try:
            remember_height(self._data_dir, self._registry.chain, self._registry.height)
        except QuStreamError as error:  # the store says the same of the disk, as a condition
            self._log.warning("network file version not kept", code=error.code, detail=error.detail)
