"""Fuzz with coverage: `scripts/soak fuzz --minutes 10 --target gossip`. Needs atheris, which `scripts/soak` installs.

Each target runs in a process of its own, since libFuzzer ends the process that it runs in. What it found worth keeping goes to a folder
below `--corpus`, and is where the next run starts; an input that fails is kept there too, and named. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from support.fuzzing.targets import NAMES, target

# Inputs longer than this find nothing that shorter ones do not: two of the largest messages.
INPUT_MAX_BYTES = 140_000
# What a process that fuzzes may take: ten times what it has when it begins. libFuzzer calls more a failure.
MEMORY_MAX_MB = 1024
# One input that takes so long is a failure.
INPUT_MAX_S = 30
STATISTIC = re.compile(r"stat::(\w+):\s+(\d+)")
NEW = re.compile(r"cov: (\d+) ft: (\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak fuzz", description="Fuzz decoders, handshake and cores with atheris.")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each target")
    parser.add_argument("--target", choices=(*NAMES, "all"), default="all")
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "qustream-fuzz")
    parser.add_argument("--input", type=Path, help="run this one input of the target again, without atheris")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.input is not None:
        target(options.target).run(options.input.read_bytes())
        return 0
    if options.inside:
        fuzz(options.target, options.corpus, options.minutes)
    names = NAMES if options.target == "all" else (options.target,)
    reports = [watch(name, options.corpus / name, options.minutes) for name in names]
    print(json.dumps({"soak": "fuzz", "minutes": options.minutes, "targets": reports}, indent=1))
    return int(any(report["failed"] for report in reports))


def watch(name: str, folder: Path, minutes: float) -> dict[str, object]:
    """Fuzz one target in a process of its own; what came of it."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", __spec__.name, "--inside", "--target", name, "--corpus", str(folder), "--minutes", str(minutes)]
    print(f"{name}: {minutes:g} min, corpus in {folder}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    (folder / "log").write_text(done.stdout)
    numbers = {key: int(value) for key, value in STATISTIC.findall(done.stdout)}
    seen = NEW.findall(done.stdout)
    if done.returncode:
        print(f"{name} FAILED, see {folder / 'log'}; again with --target {name} --input {folder}/fail-…", file=sys.stderr)
    return {
        "target": name, "failed": done.returncode != 0, "executions": numbers.get("number_of_executed_units", 0),
        "executions_per_s": numbers.get("average_exec_per_sec", 0), "kept": numbers.get("new_units_added", 0),
        "edges": int(seen[-1][0]) if seen else 0, "peak_mb": numbers.get("peak_rss_mb", 0),
    }  # fmt: skip


def fuzz(name: str, folder: Path, minutes: float) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["qustream", "qnode"]):
        found = target(name)
    for seed in found.seeds():
        (folder / "corpus" / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def run(data: bytes) -> None:
        try:
            found.run(data)
        except BaseException:
            traceback.print_exc()
            raise

    flags = [
        f"-max_total_time={round(60 * minutes)}", f"-max_len={INPUT_MAX_BYTES}", f"-rss_limit_mb={MEMORY_MAX_MB}",
        f"-timeout={INPUT_MAX_S}", f"-artifact_prefix={folder}/fail-", "-print_final_stats=1", str(folder / "corpus"),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags], run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
