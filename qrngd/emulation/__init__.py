"""Emulated devices as programs of their own, for `qrngd emulate` and tests: what stands at the other end of a FIFO or a serial line.

The bytes are `qrngd.devices.emulator`'s, with its faults; what a device's protocol can do wrong has a script of its own (`qcc_faults`).
"""
