"""One device, read in a process of its own (`proto/spec/entropy-feed.md`, "Worker processes").

    daemon                                              worker, one a device
    DeviceHost ──Setup, Give(slots), Clear, Retest──▶   DeviceWorker: device → health → conditioning → slot → SHA-256
               ◀──Opened, Changed, Made, Figures────
                      units lie in memory both have mapped (SlotMemory); only their numbers travel

A driver that hangs, a parser that crashes, a library that leaks: each costs one device its worker, which is killed and started again, and
tested from the beginning. The event loop, the signing key and the other devices never notice.
"""
