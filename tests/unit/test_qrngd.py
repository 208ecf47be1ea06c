"""The command where only the library is installed."""

import subprocess
import sys


def test_missing_packages_are_one_line_with_a_remedy() -> None:
    program = "import sys; sys.modules['numpy'] = None; import qrngd; qrngd.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert done.stderr == ("qrngd: the daemon's packages are not installed (numpy is missing). Remedy: pip install 'qustream[node]'.\n")
