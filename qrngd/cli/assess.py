"""`qrngd assess`: the min-entropy of captured samples, by the SP 800-90B suite where it is installed. It decides nothing by itself."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from qrngd.cli.assess_suite import COMMAND, MISSING
from qrngd.cli.capture import SAMPLES, SAMPLES_MAX
from qrngd.health.estimate import markov_estimate, most_common_estimate, step_estimate
from qrngd.health.samples import Samples
from qustream.errors import fault
from qustream.identity import files

__all__ = ["assess"]

SUITE_BITS_MAX = 8  # the widest samples the suite takes
SAID_CHARS = 200  # of what the suite says, as much as a person reads


@dataclass(frozen=True)
class Assessment:
    """Millibits of min-entropy a sample. `suite_millibits`: None where the suite gave no figure, `suite_note` says why then."""

    file: str
    samples: int
    sample_bits: int
    most_common_millibits: int
    dependence_millibits: int
    suite_millibits: int | None
    suite_note: str
    claimed_millibits: int | None
    min_entropy_millibits: int
    configuration: str


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--sample-bits", type=click.IntRange(1, 16), required=True, help="The width of a sample, as the device has it.")
@click.option("--claimed-millibits", type=click.IntRange(1, 16_000), help="What the maker claims a sample; the smaller figure counts.")
@click.option("--json", "as_json", is_flag=True)
def assess(*, file: Path, sample_bits: int, claimed_millibits: int | None, as_json: bool) -> None:
    """Estimate the min-entropy of raw samples that `qrngd capture` has written.

    With the SP 800-90B suite (`pip install sp800-90b`) and at least 1,000,000 samples of at most 8 bits: its initial estimate, §3.1.3, and
    the line for the configuration. Otherwise only two quick estimators of qrngd's own, whose figure is too high for most devices.

    A figure says how these samples look, and not why they would be unpredictable: the maker's model of the device must say that.
    """
    samples = _read(file, sample_bits)
    result = _assessed(file, samples, sample_bits, claimed_millibits)
    click.echo(json.dumps(asdict(result)) if as_json else _text(result))


def _read(path: Path, sample_bits: int) -> Samples:
    """The samples of a file nobody vouches for. Errors: E-FILE."""
    width = 1 if sample_bits <= 8 else 2
    raw = files.read(path, SAMPLES_MAX * width, private=False)
    if len(raw) < 2 * width or len(raw) % width:
        raise fault("E-FILE", f"{path} has {len(raw)} bytes, which are not two samples or more of {width} bytes each")
    samples: Samples = np.frombuffer(raw, dtype=np.uint8) if width == 1 else np.frombuffer(raw, dtype="<u2")
    widest = int(samples.max())
    if widest >> sample_bits:
        raise fault("E-FILE", f"{path} has a sample of {widest.bit_length()} bits where {sample_bits} are the most")
    return samples


def _assessed(path: Path, samples: Samples, sample_bits: int, claimed: int | None) -> Assessment:
    most_common = most_common_estimate(samples, sample_bits)
    dependence = markov_estimate(samples) if sample_bits == 1 else step_estimate(samples, sample_bits)
    suite, note = _suite(samples, sample_bits)
    figures = [most_common, dependence] if suite is None else [suite]
    lowest = min(figures if claimed is None else [*figures, claimed])
    return Assessment(
        file=str(path),
        samples=samples.size,
        sample_bits=sample_bits,
        most_common_millibits=most_common,
        dependence_millibits=dependence,
        suite_millibits=suite,
        suite_note=note,
        claimed_millibits=claimed,
        min_entropy_millibits=lowest,
        configuration="" if suite is None or not lowest else f"assessed_min_entropy_millibits = {lowest}",
    )


def _suite(samples: Samples, sample_bits: int) -> tuple[int | None, str]:
    """The suite's figure, or why there is none."""
    if sample_bits > SUITE_BITS_MAX:
        return None, f"the SP 800-90B suite takes samples of at most {SUITE_BITS_MAX} bits"
    if samples.size < SAMPLES:
        return None, f"{samples.size} samples, and SP 800-90B asks for {SAMPLES}"
    done = subprocess.run(
        [*COMMAND, str(sample_bits)], input=samples.tobytes(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    said = done.stdout.decode(errors="replace").strip().rpartition("\n")[2][:SAID_CHARS]
    if done.returncode == MISSING:
        return None, "the SP 800-90B suite is not installed: pip install sp800-90b"
    if done.returncode or said.startswith("error: "):
        return None, f"the SP 800-90B suite gave up: {said.removeprefix('error: ') if not done.returncode else f'exit {done.returncode}'}"
    try:
        bits = float(said)
    except ValueError:
        bits = -1.0
    if not 0 <= bits <= sample_bits:
        return None, f"the SP 800-90B suite gave no figure but {said!r}"
    return int(1000 * bits), "SP 800-90B §3.1.3, non-IID track"


def _text(result: Assessment) -> str:
    dependence = "Markov" if result.sample_bits == 1 else "steps"
    suite = f"{result.suite_millibits} millibits" if result.suite_millibits is not None else "none"
    lines = [
        f"samples     {result.samples} of {result.sample_bits} bits, {result.file}",
        f"quick       most common value {result.most_common_millibits}, {dependence} {result.dependence_millibits} millibits",
        f"suite       {suite}: {result.suite_note}",
        *([f"claimed     {result.claimed_millibits} millibits"] if result.claimed_millibits is not None else []),
        f"min-entropy {result.min_entropy_millibits / 1000:g} bits a sample",
    ]
    if result.configuration:
        lines.append(f"Put into [[device]] of this device:\n{result.configuration}")
    elif result.suite_millibits is None:
        lines.append("This is NOT the SP 800-90B suite: quick estimators see little. Put no figure of theirs into a configuration.")
    else:
        lines.append("Samples without any entropy: do not use this device.")
    return "\n".join(lines)
