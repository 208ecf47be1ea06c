"""What `import qustream` costs: neither trio nor lmdb nor any other need of the daemons, and nothing at all before a name is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The daemons' extra, and what would come in with it.
BLOCKED = ("trio", "lmdb", "numpy", "structlog", "h11", "prometheus_client")

WITHOUT = f"""
import importlib.abc
import sys


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None


sys.meta_path.insert(0, Absent())
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("blocked", BLOCKED)
def test_the_block_blocks(blocked: str) -> None:
    assert "ModuleNotFoundError" in python(f"{WITHOUT}\nimport {blocked}").stderr


def test_the_sdk_and_its_command_work_without_what_the_daemons_need() -> None:
    done = python(
        f"{WITHOUT}\nimport qustream.cli\n"
        "assert not {'qustream.client.client', 'OpenSSL'} & sys.modules.keys(), 'what few commands need'\n"
        "for name in qustream.cli.COMMANDS: assert qustream.cli.cli.get_command(None, name).name == name\n"
        "for name in qustream.__all__: assert getattr(qustream, name) is not None\n"
        "import qustream.client.client\nimport qustream.transport.blocking\n"
        f"loaded = [name for name in sys.modules if name.partition('.')[0] in {BLOCKED!r}]\nassert not loaded, loaded\nprint('good')"
    )
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_the_trio_client_is_the_part_that_needs_trio() -> None:
    assert "No module named 'trio'" in python(f"{WITHOUT}\nimport qustream.aio.client").stderr


def test_a_command_of_the_qrng_server_loads_the_event_loop_only_if_it_waits() -> None:
    done = python(
        "import sys\nimport qrngd.cli\nprint([name for name in ('trio', 'h11', 'structlog', 'prometheus_client') if name in sys.modules])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_logs_take_no_rich_along_and_hide_it_from_nobody() -> None:
    """And whoever has no standard error can load them."""
    code = "import os, sys\nos.close(2)\nsys.stderr = None\nimport qustream.aio.logs\nassert 'rich' not in sys.modules\n"
    assert python(f"{code}import rich\nprint('good')").stdout == "good\n"
    code = "import rich, sys\nimport qustream.aio.logs, structlog\nassert structlog.dev.rich is sys.modules['rich'] is rich\nprint('good')"
    done = python(code)
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_importing_loads_nothing_before_a_name_is_used() -> None:
    done = python(
        "import qustream, sys\nprint(sorted(name for name in sys.modules if name.startswith(('qustream', 'cryptography', 'nacl'))))"
    )
    assert done.stdout == "['qustream']\n"
    assert done.stderr == ""


def test_names_are_listed_found_once_and_others_are_refused() -> None:
    done = python(
        "import qustream\nassert set(qustream.__all__) <= set(dir(qustream))\n"
        "assert qustream.Unavailable is qustream.Unavailable\nassert qustream.__version__.count('.') == 2\n"
        "try:\n    qustream.nothing\nexcept AttributeError as error:\n    print(error)"
    )
    assert done.stdout == "module 'qustream' has no attribute 'nothing'\n"
    assert done.stderr == ""
