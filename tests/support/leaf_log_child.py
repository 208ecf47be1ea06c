"""A process that appends to a leaf log until it is killed, and says each batch only when `append` has returned.

Run as `python leaf_log_child.py DIRECTORY KEEP_BYTES`; prints the number of every batch that is in the log, one a line, and the code of
what stops it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support.leaf_logs import CHAIN, Writer, unit

from qrngd.leaflog import LeafLog
from qustream.errors import QuStreamError

UNITS = 40  # three pages of leaves, so that a write can be caught in the middle


def main() -> int:
    folder, writer = Path(sys.argv[1]), Writer()
    try:
        with LeafLog(folder, CHAIN, writer.key.id, keep_bytes=int(sys.argv[2])) as log:
            first = log.last_batch + 1
            for number in range(first, first + 1000):
                batch = writer.batch(number, [unit(f"{number} {place}", number * UNITS + place) for place in range(UNITS)])
                log.append(*batch)
                print(number, flush=True)
    except QuStreamError as error:
        print(error.code, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
