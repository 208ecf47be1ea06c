"""What an emulated QCicada does wrong in its protocol, as a script of the same form as `qrngd.devices.faults`.

signature@reads=5                  the sixth read has a signature that does not hold
status@bits=64,reads=100           from the hundred and first read on bit 6 of the status is the other way round
serial@number=218,opens=1          whoever opens it a second time meets another device
"""

from __future__ import annotations

from qrngd.devices.faults import Keys, parse_script

__all__ = ["KINDS", "QccFaults"]

_ALWAYS = 1 << 62
# When a fault strikes: not before the device has been asked for so many reads, and opened so many times before; how often.
_ONCE: Keys = {"reads": (0, 0, _ALWAYS), "opens": (0, 0, _ALWAYS), "times": (1, 1, _ALWAYS)}
_LASTING: Keys = _ONCE | {"times": (_ALWAYS, 1, _ALWAYS)}
KINDS: dict[str, Keys] = {
    # A signed read with a bit of its signature turned.
    "signature": _ONCE,
    # A signed read is the last one over again, if that was as long.
    "replay": _ONCE,
    # The certificate is another authority's.
    "certificate": _LASTING,
    # A command (0: whichever) is answered with NACK.
    "refuse": _ONCE | {"command": (0, 0, 255)},
    # An answer (to `command`) ends in its middle.
    "truncate": _ONCE | {"command": (0, 0, 255)},
    # An answer is `size` other bytes.
    "garbage": _ONCE | {"command": (0, 0, 255), "size": (64, 1, 65_535), "seed": (0, 0, _ALWAYS)},
    # A command is not answered.
    "silence": _ONCE | {"command": (0, 0, 255)},
    # These bits of the status are turned: 1 takes the sound state away, 4 to 128 say what is wrong.
    "status": _LASTING | {"bits": (64, 1, 255)},
    # Another device, with a certificate of its own.
    "serial": _LASTING | {"number": (218, 0, (1 << 32) - 1)},
    # New settings are acknowledged and not taken.
    "stubborn": _LASTING,
}


class QccFaults:
    """A script and how far it has come. The same commands meet the same faults. Raises E-CONFIG for a bad script."""

    def __init__(self, script: str = "") -> None:
        self._faults = parse_script(script, KINDS)
        self._left = [numbers["times"] for _, numbers in self._faults]
        self.reads = 0  # asked for
        self.opens = 0

    def strike(self, kind: str, command: int = 0) -> dict[str, int] | None:
        """The numbers of a fault of this kind that strikes now; None if none does."""
        for place, (each, numbers) in enumerate(self._faults):
            # The read that is being answered is counted already, and so is this opening.
            due = max(0, self.reads - 1) >= numbers["reads"] and max(0, self.opens - 1) >= numbers["opens"]
            meant = not numbers.get("command") or numbers["command"] == command
            if each == kind and due and meant and self._left[place]:
                self._left[place] -= 1
                return numbers
        return None
