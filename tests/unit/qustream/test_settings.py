"""Configuration files: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from qustream import settings
from qustream.errors import OperatorFault

FOLDER = Path("/etc/qustream")


class Device(settings.Section, frozen=True):
    kind: str
    path: Path | None = None
    millibits: Annotated[int, Meta(ge=1, le=8000)] = 8000
    protocol: Literal["raw", "framed"] | None = None
    names: tuple[Annotated[str, Meta(pattern="^[a-z]+$", description="lower-case letters")], ...] = ()


class Config(settings.Section, frozen=True):
    chain: str
    data_dir: Path
    listen: tuple[str, ...] = ()
    device: tuple[Device, ...] = ()
    limits: Device | None = None


def refused(text: str) -> str:
    with pytest.raises(OperatorFault) as caught:
        settings.loads(text, Config, FOLDER)
    assert caught.value.code == "E-CONFIG"
    return caught.value.detail


def test_a_good_file_becomes_a_struct_with_paths_from_its_folder() -> None:
    text = 'chain = "c"\ndata_dir = "data"\nlisten = ["a:1"]\n[[device]]\nkind = "k"\npath = "/dev/x"\n[[device]]\nkind = "l"\n'
    config = settings.loads(text, Config, FOLDER)
    assert config == Config("c", FOLDER / "data", ("a:1",), (Device("k", Path("/dev/x")), Device("l")))


def test_a_path_may_begin_at_home() -> None:
    assert settings.loads('chain = "c"\ndata_dir = "~/q"', Config, FOLDER).data_dir == Path.home() / "q"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('chian = "c"', ["chian", "did you mean chain?"]),
        ('chain = "c"\ndata_dir = "d"\nxyzzy = 1', ["xyzzy", "known here: chain, data_dir, device, limits, listen"]),
        ('chain = "c"\ndata_dir = "d"\n[[device]]\nkind = "k"\n[[device]]\nkidn = "k"', ["device[1].kidn", "did you mean kind?"]),
        ('chain = "c"\ndata_dir = "d"\n[limits]\nkindd = "k"', ["limits.kindd", "did you mean kind?"]),
        ('chain = 7\ndata_dir = "d"', ["chain", "Expected `str`"]),
        ('chain = "c"', ["data_dir"]),
        ('chain = "c"\ndata_dir = ""', ["data_dir"]),
        ('chain = "c"\ndata_dir = 3', ["data_dir"]),
        ('chain = "c"\ndata_dir = "d"\n[[device]]\nkind = "k"\nmillibits = 0', ["device[0].millibits", ">= 1"]),
        ('chain = "c"\ndata_dir = "d"\ndevice = [3]', ["device[0]"]),
        ('chain = "c', ["not TOML"]),
        ("a = " + "[" * 5000, ["not TOML"]),
        ('chain = "c"\nchain = "d"', ["not TOML"]),
    ],
)
def test_a_bad_file_is_refused_by_the_place_of_its_fault(text: str, words: list[str]) -> None:
    detail = refused(text)
    for word in words:
        assert word in detail


def test_load_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    for data, code, word in [
        (None, "E-FILE", "No such file"),
        (b"chain = 1", "E-CONFIG", "chain"),
        (b"\xff", "E-CONFIG", "UTF-8"),
        (b"#" * (settings.SETTINGS_MAX_BYTES + 1), "E-CONFIG", "larger"),
    ]:
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(OperatorFault) as caught:
            settings.load(path, Config)
        assert caught.value.code == code
        assert str(path) in caught.value.detail
        assert word in caught.value.detail


def test_load_takes_paths_from_the_files_folder_wherever_it_is_called_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.toml").write_text('chain = "c"\ndata_dir = "data"')
    monkeypatch.chdir(tmp_path)
    assert settings.load(Path("c.toml"), Config).data_dir == tmp_path / "data"


def test_a_value_that_the_types_can_explain_is_explained() -> None:
    start = 'chain = "c"\ndata_dir = "d"\n[[device]]\nkind = "k"\n[[device]]\nkind = "k"\n'
    said = refused(start + 'protocol = "usb"')
    assert (said[: said.index(":")], said[said.index("wanted") :]) == ("device[1].protocol", "wanted: raw, framed")
    said = refused(start + 'names = ["a", "B"]')
    assert said == "device[1].names[1]: Expected `str`; wanted: lower-case letters"
    assert refused(start + "millibits = 0") == "device[1].millibits: Expected `int` >= 1"
