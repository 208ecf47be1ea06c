"""Field types refuse what they do not hold, at the decoder."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from qustream.model import base
from qustream.model.base import Noun, Signed


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (base.Bytes16, [bytes(16)], [bytes(15), bytes(17)]),
        (base.Bytes32, [bytes(32)], [b"", bytes(31), bytes(33)]),
        (base.Bytes64, [bytes(64)], [bytes(63), bytes(65)]),
        (base.HybridSignature, [bytes(3373)], [bytes(3372), bytes(3374)]),
        (base.U16, [0, 65_535], [-1, 65_536]),
        (base.Count32, [0, (1 << 32) - 1], [-1, 1 << 32]),
        (base.U63, [0, (1 << 63) - 1], [-1, 1 << 63]),
        (base.Label, ["", "x" * 64, "ü" * 64], ["x" * 65]),
        (base.Text, ["", "x" * 256], ["x" * 257]),
        (base.Path, [(), (bytes(32),) * 32], [(bytes(32),) * 33, (bytes(31),)]),
    ],
)
def test_bounds(kind, good, bad):
    decoder = msgspec.msgpack.Decoder(kind)
    for value in good:
        assert decoder.decode(msgspec.msgpack.encode(value)) == value
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.msgpack.encode(value))


def test_nouns_are_frozen_values():
    noun = Signed(b"body", bytes(3373))
    assert noun == Signed(b"body", bytes(3373))
    assert hash(noun) == hash(Signed(b"body", bytes(3373)))
    with pytest.raises(AttributeError):
        noun.body = b"other"
    assert issubclass(Signed, Noun)


# Every noun there is, met by four threads at once that have not seen it before; each looks at all of its fields.
FIRST_MET = """
import importlib, pkgutil, sys, threading
import msgspec, qustream.model, qustream.wire
from qustream.model.base import Noun

for room in (qustream.model, qustream.wire):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)

def below(kind):
    for each in kind.__subclasses__():
        yield from (each, *below(each))

def meet(kind, data, together):
    together.wait()
    try:
        msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError:
        pass

sys.setswitchinterval(1e-6)
nouns = list(below(Noun))
for kind in nouns:
    tag = kind.__struct_config__.tag
    data = msgspec.msgpack.encode([*([] if tag is None else [tag]), *[None for _ in kind.__struct_fields__]])
    together = threading.Barrier(4)
    threads = [threading.Thread(target=meet, args=(kind, data, together)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(len(nouns))
"""


def test_threads_may_meet_a_noun_for_the_first_time_together() -> None:
    """Six that ask six nodes do, whatever the first answer is; a client ended with a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", FIRST_MET], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done
    assert int(done.stdout) > 100
