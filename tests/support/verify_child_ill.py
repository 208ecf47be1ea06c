"""In the place of `qnode.service.verify_child`: it dies over a job whose message is `die`, and sleeps over one that is `hang`."""

from __future__ import annotations

import os
import time

from qnode.service import verify_child

check = verify_child.check


def ill(job: list[verify_child.Check]) -> bool:
    if job[0].message == b"die":
        os._exit(9)
    if job[0].message == b"hang":
        time.sleep(3600)
    return check(job)


verify_child.check = ill
verify_child.main()
