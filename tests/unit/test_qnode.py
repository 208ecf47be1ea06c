"""The command where only the library is installed."""

import subprocess
import sys


def test_missing_packages_are_one_line_with_a_remedy() -> None:
    program = "import sys; sys.modules['lmdb'] = None; import qnode; qnode.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert done.stderr == ("qnode: the daemon's packages are not installed (lmdb is missing). Remedy: pip install 'qustream[node]'.\n")
