"""`qnode validator evidence` and `report`: two votes that prove an offence, from a node that has seen them to the chain
(`proto/spec/ledger.md`, §3). A node reports by itself what its own account can pay for; this is for all else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import click
import msgspec

from qnode.cli.purse import Wallet, wallet_options
from qnode.core.ledger.evidence import is_evidence
from qustream.cli.paying import Choices, json_option, pay, pay_options, show
from qustream.cli.screen import harmless
from qustream.client.chain import ChainClient
from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.identity.voting import verify_vote
from qustream.wire.chain_entries import EvidenceLine, EvidencePage
from qustream.wire.codec import decode
from qustream.wire.json_text import decode_json
from qustream.wire.transactions import DoubleSign

__all__ = ["evidence", "report"]

# A key and two signatures of votes, in hexadecimal, and names around them.
EVIDENCE_MAX_BYTES = 32_768
EVIDENCE_MODE = 0o644  # it is for everybody


@click.command()
@click.argument("incident", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where the evidence of INCIDENT goes.")
@wallet_options
@json_option
def evidence(*, incident: str | None, output: Path | None, wallet: Wallet, as_json: bool) -> None:
    """Offences that the node has seen: two votes of one key that contradict each other. With INCIDENT and -o: write what proves it."""
    if (incident is None) != (output is None):
        raise click.UsageError("INCIDENT and -o belong together: which evidence, and where to")
    client = wallet.client()
    if incident is not None and output is not None:
        _write(client, incident, output)
        return
    lines = client.get("evidence", EvidencePage).evidence
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(lines), indent=1))
        return
    for line in lines:
        click.echo(harmless(f"{line.id}: licence {line.licence} in view {line.view} of rotation {line.rotation}; {line.state}"))
    if not lines:
        click.echo("this node has seen no offence since it was started", err=True)


def _write(client: ChainClient, incident: str, output: Path) -> None:
    if len(incident) != 64 or not set(incident) <= set("0123456789abcdef"):
        raise click.UsageError("INCIDENT is 64 hexadecimal digits, as the list shows them")
    page = client.get(f"evidence/{incident}", EvidenceLine)
    _opened(page, client.chain)
    data = json.dumps(msgspec.to_builtins(page), indent=1).encode() + b"\n"
    try:
        files.create(output, data, mode=EVIDENCE_MODE)
    except FileExistsError:
        raise fault("E-FILE-EXISTS", f"{output} exists; give another name") from None
    click.echo(f"{output}: qnode validator report {output} sends it", err=True)


def _opened(page: EvidenceLine, chain: str) -> DoubleSign:
    """What the file says, looked at here: whoever sends what proves nothing pays for it. Errors: `E-LEDGER-FORM`, `E-LEDGER-EVIDENCE`,
    `E-LEDGER-SIGNATURE`."""
    try:
        action = decode(bytes.fromhex(page.action), DoubleSign, max_bytes=EVIDENCE_MAX_BYTES)
    except (QuStreamError, ValueError):
        raise fault("E-LEDGER-FORM", "not evidence of two votes") from None
    if page.chain != chain or action.first.chain != chain:
        raise fault("E-LEDGER-FORM", f"evidence of the chain {page.chain!r}, and the wallet is of {chain!r}")
    if not is_evidence(chain, action.first, action.second):
        raise fault("E-LEDGER-EVIDENCE", "the two votes do not contradict each other")
    for said, signature in ((action.first, action.first_signature), (action.second, action.second_signature)):
        if not verify_vote(action.vote_key, said, signature):
            raise fault("E-LEDGER-SIGNATURE", "a vote that the key has not signed")
    return action


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@wallet_options
@pay_options
def report(*, file: Path, wallet: Wallet, choices: Choices) -> None:
    """Report the offence that FILE proves, as `qnode validator evidence INCIDENT -o FILE` writes it.

    What it costs comes back when the incident closes.
    """
    try:
        page = decode_json(files.read(file, EVIDENCE_MAX_BYTES, private=False), EvidenceLine)
    except ValueError:
        raise fault("E-LEDGER-FORM", f"{file} is not what qnode validator evidence writes") from None
    purse = wallet.purse()
    action = _opened(page, purse.client.chain)
    said = action.first
    what = [f"report that vote key {hashlib.sha256(action.vote_key).hexdigest()} signed {said.kind.name.lower()} and "
            f"{action.second.kind.name.lower()},", f"  both in view {said.view} of rotation {said.rotation}"]  # fmt: skip
    show(pay(purse, lambda _: action, what, choices), choices)
