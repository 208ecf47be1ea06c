"""Reads a Quantis card for a test, by our driver or by PyPI's `quantix-rng`: a command a line on standard input, a JSON answer a line.

python quantis_child.py driver|client PATH, with quantis_shim.c preloaded so that there is a card.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qrngd.device_config import DeviceConfig
from qrngd.devices.device import Device
from qrngd.devices.quantis import QuantisDevice
from qustream.errors import QuStreamError


def driver(path: str) -> Callable[[list[str]], Any]:
    """open [source] | read SIZE at MS | flags | close."""
    now_ms = 0
    device: Device | None = None

    def step(words: list[str]) -> Any:
        nonlocal now_ms, device
        if words[0] == "open":
            source = " ".join(words[1:])
            config = DeviceConfig("quantis", path=Path(path), min_entropy_millibits=8000, source=source)
            device = QuantisDevice(path, config.expected, clock_ms=lambda: now_ms)
            found = device.open()
            return {
                "kind": found.kind,
                "model": found.model,
                "source": found.source,
                "emulated": found.emulated,
                "pollable": device.pollable,
            }
        assert device is not None
        if words[0] == "read":
            now_ms = int(words[3])
            return device.read(int(words[1])).hex()
        if words[0] == "flags":
            return dict(device.flags)
        device.close()
        return None

    return step


def client(path: str) -> Callable[[list[str]], Any]:
    """open | read SIZE | close."""
    from quantix import quantix

    folder, _, name = path.rpartition("/")
    quantix.DEV_PREFIX = f"{folder}/"
    card = quantix.Quantix(quantix.DeviceType.PCI, int(name))

    def step(words: list[str]) -> Any:
        if words[0] == "open":
            card.__enter__()
            return {
                "driver": card.get_driver_version(),
                "board": card.get_board_version(),
                "mask": card.get_modules_mask(),
                "status": card.get_modules_status(),
                "pci": card.get_pci_info(),
            }
        if words[0] == "read":
            return card.read(int(words[1])).hex()
        card.close()
        return None

    return step


def main() -> None:
    step = {"driver": driver, "client": client}[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        try:
            answer = {"value": step(line.split())}
        except QuStreamError as error:
            answer = {"code": error.code, "detail": error.detail}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
