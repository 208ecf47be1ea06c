"""What can go wrong, once: every code, who must act, and what to do about it.

Four families by who must act (`proto/spec/errors.md`): `PeerFault`, the remote side or a file broke the protocol;
`OperatorFault`, whoever runs this program must change something; `Unavailable`, nobody is wrong, try again later; an
assertion is our own bug. The table `CODES` feeds exceptions, refusals on the wire, HTTP bodies, conditions, metrics, alerts
and the runbooks, so one code always means one thing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["CODES", "EX_TEMPFAIL", "CodeRow", "Family", "OperatorFault", "PeerFault", "QuStreamError", "Unavailable", "fault"]


# sysexits.h: EX_CONFIG tells a service manager not to start again (RestartPreventExitStatus), EX_TEMPFAIL that time may help.
EX_CONFIG = 78
EX_TEMPFAIL = 75


class Family(StrEnum):
    """Who must act."""

    PEER = "peer"
    OPERATOR = "operator"
    UNAVAILABLE = "unavailable"


class CodeRow(NamedTuple):
    """One row of the table: the family, what it means, what to do next."""

    family: Family
    meaning: str
    remedy: str


_P, _O, _U = Family.PEER, Family.OPERATOR, Family.UNAVAILABLE

CODES: dict[str, CodeRow] = {
    # wire and transport
    "E-WIRE-MALFORMED": CodeRow(_P, "bytes that are not the message they claim to be", "upgrade the older of the two sides"),
    "E-WIRE-NONCANONICAL": CodeRow(_P, "a message not in its one canonical form", "encode as proto/spec/encoding.md says"),
    "E-WIRE-OVERSIZE": CodeRow(_P, "a message above its maximum size", "send less at once"),
    "E-FRAME-ORDER": CodeRow(_P, "a frame where none of its kind may stand", "upgrade the older of the two sides"),
    "E-TLS-HANDSHAKE": CodeRow(_P, "the TLS handshake failed", "check that both ends speak QuStream's TLS 1.3 profile"),
    "E-TLS-GROUP": CodeRow(_P, "key exchange other than X25519MLKEM768", "use OpenSSL 3.5 or later on both sides"),
    "E-TLS-RECORD": CodeRow(_P, "a protected record that does not verify", "connect again; if it repeats, the path alters bytes"),
    "E-TLS-CERTIFICATE": CodeRow(_P, "not a well-formed QuStream certificate", "connect with a QuStream identity"),
    "E-PEER-IDENTITY": CodeRow(_P, "the peer is not who was expected", "check that the id and the address belong together"),
    "E-PEER-UNLICENSED": CodeRow(_P, "a node channel without a licensed node id", "activate a licence for this node first"),
    "E-PEER-CHAIN": CodeRow(_P, "the peer belongs to another network", "check the chain id in the configuration"),
    "E-PEER-VERSION": CodeRow(_P, "no protocol version in common", "upgrade the older of the two sides"),
    "E-PEER-CLOSED": CodeRow(_U, "the peer closed the connection", "try again, or ask another node"),
    "E-PEER-LIMIT": CodeRow(_U, "too many connections or requests from here", "wait and try again"),
    "E-PEER-UNREACHABLE": CodeRow(
        _U, "no connection could be made", "check that it runs, and that its address is right and can be reached"
    ),
    "E-DEADLINE": CodeRow(_U, "no answer within the deadline", "try again with a longer deadline"),
    "E-NO-PEERS": CodeRow(
        _U, "the node is linked to no other node", "it tries again by itself; see qnode peers, and this machine's way to the internet"
    ),
    "E-UNREACHABLE": CodeRow(_O, "other nodes cannot connect to this node", "open its port in router and firewall, or correct its address"),
    "E-BANDWIDTH": CodeRow(
        _O, "the line carries less than a node needs", "get a line of 100 Mbit/s both ways, or free it of other traffic"
    ),
    # identity
    "E-KEYSTORE-OPEN": CodeRow(_O, "the keystore does not open", "check the passphrase and that the file is the right one"),
    "E-KEYSTORE-MODE": CodeRow(_O, "a secret file others can read", "chmod 600 the file"),
    "E-KEYSTORE-EXISTS": CodeRow(_O, "a keystore is there already", "choose another directory; existing keys are never overwritten"),
    "E-ID-TEXT": CodeRow(_O, "not a valid identifier", "copy the identifier again, whole"),
    "E-PASSPHRASE-WORDS": CodeRow(_O, "not a valid passphrase", "check the spelling and order of the words"),
    "E-SIGNATURE": CodeRow(_P, "a signature does not verify", "do not trust the message; fetch it again from its origin"),
    # registry
    "E-REGISTRY-SIGNATURE": CodeRow(_O, "the network file is not signed by the pinned key", "fetch the file again or correct network_key"),
    "E-REGISTRY-VERSION": CodeRow(_O, "the network file is older than the one in use", "install the newest network file"),
    "E-REGISTRY-CHAIN": CodeRow(_O, "the network file is of another network", "correct chain or network_file in the configuration"),
    "E-REGISTRY-FORMAT": CodeRow(_O, "the network file is not well-formed", "fetch the file again"),
    "E-REGISTRY-UNKNOWN": CodeRow(_O, "the network does not know this name", "check the identifier, or have it enrolled"),
    # entropy and block
    "E-ENTROPY-SHORT": CodeRow(_U, "no attested randomness in the pool", "try again shortly; operator: see the qrngd status"),
    "E-ATTESTATION": CodeRow(_P, "an attestation that does not hold", "refuse the block; report the QRNG server"),
    "E-ATTESTATION-STALE": CodeRow(
        _P, "an attestation past its expiry", "take a fresh unit; operator: compare the clocks of node and QRNG server"
    ),
    "E-ATTESTATION-DEVICE": CodeRow(_P, "a device this network does not accept", "emulated devices serve test networks only"),
    "E-ATTESTATION-EVIDENCE": CodeRow(
        _P,
        "a device whose maker's certificate or signature is missing or does not hold",
        "do not use this QRNG server; keeper: compare device_authorities in its record",
    ),
    "E-LEAF-LOG": CodeRow(_P, "a published leaf log that does not hold", "keep what was fetched, and ask the QRNG server's operator"),
    "E-MATERIAL-REPEATED": CodeRow(
        _P, "one material in two leaves of a QRNG server's log", "take this server out of the network; keep both entries as evidence"
    ),
    "E-PROOF": CodeRow(_P, "a Merkle proof that does not lead to its root", "refuse the block; report the node"),
    "E-BLOCK-SIZE": CodeRow(_P, "a block of the wrong size", "fetch the block again"),
    "E-BLOCK-OPEN": CodeRow(_P, "no segment layout fits this seed", "check that seed and block belong together"),
    "E-BLOCK-AMBIGUOUS": CodeRow(_P, "two segment layouts fit this seed", "take a fresh unit"),
    "E-SCATTER-SHORT": CodeRow(_U, "the scatter bytes ran out", "take a fresh unit"),
    # key requests
    "E-REQUEST-EXPIRED": CodeRow(_P, "a request outside its time", "check the clock of this machine, then the node's"),
    "E-REQUEST-NODE": CodeRow(_P, "a request signed for another node or channel", "sign a request for this node on this channel"),
    "E-REQUEST-INVALID": CodeRow(_P, "a request that contradicts itself", "build requests with the SDK"),
    "E-GRANT-UNKNOWN": CodeRow(_P, "no such grant", "ask the keeper of the network file for a grant, or wait until nodes have read it"),
    "E-GRANT-EXPIRED": CodeRow(_P, "the grant has ended", "roll the unused indices over or buy a new grant"),
    "E-GRANT-SPENT": CodeRow(_P, "this index of the grant is spent", "use the next index"),
    "E-GRANT-EXHAUSTED": CodeRow(_O, "no index of the grant is left", "buy a new grant"),
    "E-GRANT-SHARE": CodeRow(_O, "not a grant for this device to take over", "have it shared for this device (qustream grant share)"),
    "E-GRANT-RUID": CodeRow(_P, "the rotating identifier is not in the grant", "use the rUID key that bought the grant"),
    "E-NOT-ASSIGNED": CodeRow(_P, "this node is not assigned to the request", "ask the nodes the registry assigns"),
    "E-CLASS-SHORT": CodeRow(_U, "too few nodes of one class answered", "try again when more nodes of that class are up"),
    "E-CLASS-MIX": CodeRow(_P, "not the right mix of node classes", "use three nodes of each class"),
    "E-DEVICE-UNKNOWN": CodeRow(_P, "an unregistered device", "link the device to the user first"),
    "E-DEVICE-REVOKED": CodeRow(_P, "a revoked device", "use another device of the user"),
    "E-DEVICE-EXPIRED": CodeRow(_P, "the device certificate has expired", "renew it with the user's master key"),
    "E-LIFETIME": CodeRow(_P, "a lifetime above what the grant paid for", "ask for a shorter lifetime"),
    "E-ANSWER-INVALID": CodeRow(_P, "a node answered with something that does not check", "another node is asked; report this one"),
    "E-CHAIN-STALE": CodeRow(
        _U,
        "the node's view of the network is too old",
        "ask another node; if it stays so, see the network file, or the checkpoint, and the clock",
    ),
    "E-CHECKPOINT-OLD": CodeRow(
        _O, "what is known of the chain is too old to go on from", "get a newer checkpoint from whom you trust; see the clock"
    ),
    "E-NOT-HELD": CodeRow(_P, "the node holds no such block or object", "it expired, was revoked, was collected, or never was here"),
    "E-NOT-SENDER": CodeRow(_P, "only its sender can revoke an envelope", "ask the sender to revoke it"),
    "E-NOT-RECIPIENT": CodeRow(_P, "this user is not named as a recipient", "ask the sender to name you"),
    "E-NODE-FULL": CodeRow(_U, "the node has no room for another block", "ask another node"),
    "E-NODE-READONLY": CodeRow(
        _U, "the node cannot write to its disk", "ask another node; operator: see what qnode status says of the disk"
    ),
    # the ledger: what a transaction or its action is refused for (proto/spec/ledger.md §10)
    "E-LEDGER-FORM": CodeRow(_P, "not a transaction of this chain", "build it with the SDK, for this chain"),
    "E-LEDGER-KIND": CodeRow(_P, "an action of a kind that this version does not know", "update, or hand it to a node that is newer"),
    "E-LEDGER-SIGNATURE": CodeRow(_P, "a signature in the transaction does not hold", "sign again, with the key that belongs to it"),
    "E-LEDGER-KEY": CodeRow(_P, "the chain does not know the sender's key", "send the key along with the account's first transaction"),
    "E-LEDGER-NONCE": CodeRow(_P, "not the account's next nonce", "look the account up, and sign again with its next nonce"),
    "E-LEDGER-EXPIRED": CodeRow(_P, "the transaction has expired, or expires too far ahead", "sign again with a new expiry height"),
    "E-LEDGER-FEE": CodeRow(_P, "the fee is too low", "offer at least what the answer says"),
    "E-LEDGER-FUNDS": CodeRow(_P, "the account does not hold enough", "see the balance; what is unbonding cannot be spent"),
    "E-LEDGER-OWNER": CodeRow(_P, "only the owner may do that", "sign with the owner's account"),
    "E-LEDGER-UNKNOWN": CodeRow(_P, "the chain knows nothing of that name", "check the identifier"),
    "E-LEDGER-STATUS": CodeRow(_P, "not in the state it has", "look it up; the remedy depends on its status"),
    "E-LEDGER-PRICE": CodeRow(_P, "not the right amount", "look the amount up and sign again"),
    "E-LEDGER-LOCKED": CodeRow(_P, "too early", "wait until the time the chain shows"),
    "E-LEDGER-KNOWN": CodeRow(_P, "the chain has it already", "nothing more is to be done"),
    "E-LEDGER-SEQUENCE": CodeRow(_P, "not the user's next change", "look the user up, and have the master sign again"),
    "E-LEDGER-NOTHING": CodeRow(_P, "there is nothing to take", "look the account up"),
    "E-LEDGER-EVIDENCE": CodeRow(_P, "this proves no offence", "compare it with proto/spec/consensus.md §7"),
    "E-MEMPOOL-FULL": CodeRow(_U, "too many transactions are waiting", "try again later, or with a higher fee"),
    "E-VOTE-MEMORY": CodeRow(
        _O,
        "a validator may not remember all that it has signed",
        "never run it twice, nor with an old sign-state; the next rotation mends it",
    ),
    "E-VOTE-KEY": CodeRow(
        _O, "the chain knows another vote key of this validator", "use the vote keystore that is registered, or register this one"
    ),
    "E-VOTE-SUSPENDED": CodeRow(
        _O, "a validator missed its views and leads nothing", "see why it missed them; then qnode validator unsuspend"
    ),
    "E-VOTE-REVEALS": CodeRow(_O, "a validator's hash chain runs out", "qnode validator edit --new-chain, then start the node again"),
    "E-SLASHED": CodeRow(_O, "a validator was slashed", "stop it, and find out who else signs with its vote key"),
    "E-VERIFY-WORKER": CodeRow(
        _O, "no process can be started to check signatures", "see memory and the limits of processes and open files"
    ),
    "E-CHAIN-GENESIS": CodeRow(_O, "the data directory belongs to another chain", "correct genesis_file, or use another directory"),
    # envelope
    "E-ENVELOPE-FORMAT": CodeRow(_P, "not a QuStream envelope", "check that the file is whole"),
    "E-ENVELOPE-TRUNCATED": CodeRow(_P, "the envelope ends early", "fetch the file again"),
    "E-ENVELOPE-TAMPERED": CodeRow(_P, "the envelope was changed after it was made", "fetch the file again from its sender"),
    "E-ENVELOPE-SENDER": CodeRow(_P, "the sender's signature does not hold", "do not trust this file"),
    "E-ENVELOPE-EXPIRED": CodeRow(_P, "the blocks of this envelope have expired", "ask the sender to send it again"),
    "E-PAD-SIZE": CodeRow(_O, "too large for pad mode", "pad mode takes at most 196,608 bytes; use the ordinary mode"),
    # devices of a QRNG server
    "E-DEV-ABSENT": CodeRow(_O, "the QRNG device is not there", "plug it in; check the path and the permissions"),
    "E-DEV-LOCKED": CodeRow(_O, "another process holds the QRNG device", "stop the other process (rngd?)"),
    "E-DEV-READ": CodeRow(_O, "the QRNG device fails to deliver", "check the cable and the device's own status"),
    "E-DEV-HEALTH": CodeRow(
        _O, "the QRNG device fails its health tests", "it is tested again by itself; if it fails often, stop qrngd and run qrngd selftest"
    ),
    "E-DEV-LATCHED": CodeRow(
        _O,
        "a permanent health failure is latched",
        "examine the device, then qrngd clear DEVICE --reason …; the full start-up test runs",
    ),
    "E-DEV-IDENTITY": CodeRow(
        _O, "another device answers than the configured one", "connect the configured device, or correct serial or source in its [[device]]"
    ),
    "E-DEV-STATUS": CodeRow(_O, "the QRNG device reports a fault of its own", "see which status bit it is, and the maker's manual"),
    "E-DEV-CERTIFICATE": CodeRow(
        _O, "the device's certificate or signature does not hold", "check device_authority; if it is right, do not use this device"
    ),
    "E-DEV-WORKER": CodeRow(
        _O, "the process that reads the device ended or hangs", "it is started again by itself; see the journal and the kernel's log"
    ),
    "E-DEV-STATE": CodeRow(_O, "the device is in no state for that", "qrngd status shows its state, and what comes next"),
    "E-DEV-UNKNOWN": CodeRow(_O, "this QRNG server has no device of that name", "qrngd status lists the names"),
    # the entropy appliance behind qrngd's reader
    "E-APPLIANCE-UNREACHABLE": CodeRow(
        _U, "the entropy appliance does not answer", "it is asked again by itself; if it lasts, see its status and the way to it"
    ),
    "E-APPLIANCE-TLS": CodeRow(
        _O, "no trusted connection to the entropy appliance", "check url, authority_file and the appliance's certificate"
    ),
    "E-APPLIANCE-TOKEN": CodeRow(
        _O, "the entropy appliance refuses the token, or there is none", "put a valid token into the credential qrngd-reader or token_file"
    ),
    "E-APPLIANCE-QUOTA": CodeRow(
        _O, "the quota at the entropy appliance is used up", "wait for the next day, raise the quota, or lower rate_max_bytes_per_s"
    ),
    "E-APPLIANCE-ANSWER": CodeRow(
        _O, "the entropy appliance answers with something that is not entropy", "check url, api and block_bytes; then ask its operator"
    ),
    "E-ALERT-PUSH": CodeRow(
        _O, "an alert cannot be delivered to a receiver", "check url, token and certificate of that receiver, and whether it runs"
    ),
    "E-MEMORY-LOCK": CodeRow(
        _O, "memory that holds randomness may reach a swap device", "set LimitMEMLOCK=infinity in the unit, or switch swap off"
    ),
    "E-FEED-REFUSED": CodeRow(
        _P, "this node is not on the feed's allow-list", "license the node, or list it (on a Unix socket its user id) at the QRNG server"
    ),
    "E-FEED-CREDIT": CodeRow(_P, "more credit than a node may have outstanding", "grant at most 256 units at a time"),
    "E-FEED-STOPPED": CodeRow(_U, "the QRNG server has stopped its feed", "see the reason in qrngd status"),
    # operation
    "E-CONFIG": CodeRow(_O, "the configuration is not valid", "correct the named key"),
    "E-DATA-LOCKED": CodeRow(_O, "another daemon uses this data directory", "stop the other one; never run one key on two directories"),
    "E-DATA-CORRUPT": CodeRow(
        _O, "stored data does not check", "keep the directory as it is and see the runbook; an old copy would use spent numbers again"
    ),
    "E-DISK-FULL": CodeRow(_O, "the disk is full", "free space on that disk; a node hands out no new keys until then"),
    "E-ADDRESS-IN-USE": CodeRow(
        _O, "the address to listen on is taken", "stop the other program, or choose another address of this machine"
    ),
    "E-CLOCK": CodeRow(_O, "the clock of this machine is wrong", "set it, and keep it set by a time service"),
    "E-SECRET-MISSING": CodeRow(_O, "no passphrase for the keystore", "give a credential, a passphrase file or a terminal"),
    "E-SECRET-WEAK": CodeRow(_O, "a passphrase that is easily guessed", "choose one of at least 8 characters"),
    "E-HOME": CodeRow(
        _O,
        "no QuStream user, or account, in this directory",
        "make it (qustream init, qustream wallet new), or name its directory with --home",
    ),
    "E-FILE-EXISTS": CodeRow(_O, "there is a file already", "choose another name, or replace it (--overwrite, replace=True)"),
    "E-FILE": CodeRow(_O, "a file cannot be read or written", "check path, permissions and space"),
}


class QuStreamError(Exception):
    """A coded failure. `code` is a key of `CODES`; `detail` never holds a secret and is safe to log and to send."""

    def __init__(self, code: str, detail: str = "", *, retry_after_ms: int | None = None) -> None:
        self.code = code
        self.row = CODES[code]
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        super().__init__(code, detail)

    @property
    def remedy(self) -> str:
        """What to do next, as a phrase."""
        return self.row.remedy

    @property
    def exit_code(self) -> int:
        """What a command ends with that fails for this: by who must act."""
        return _EXIT_CODES[self.row.family]

    def __str__(self) -> str:
        what = self.detail or self.row.meaning
        end = "" if what.endswith((".", "?", "!")) else "."
        return f"{self.code}: {what}{end} Remedy: {self.row.remedy}."


class PeerFault(QuStreamError):
    """The remote side, a client, or a file from elsewhere broke the protocol."""


class OperatorFault(QuStreamError):
    """Whoever runs this program must act: configuration, disk, clock, device, key."""


class Unavailable(QuStreamError):
    """Nobody is wrong; back off (`retry_after_ms` if the other side said how long) and try again."""


_EXIT_CODES = {Family.PEER: 1, Family.OPERATOR: EX_CONFIG, Family.UNAVAILABLE: EX_TEMPFAIL}
_CLASSES = {Family.PEER: PeerFault, Family.OPERATOR: OperatorFault, Family.UNAVAILABLE: Unavailable}


def fault(code: str, detail: str = "", *, retry_after_ms: int | None = None) -> QuStreamError:
    """Return the exception of the family that `CODES` gives `code`; the caller raises it.

    A `KeyError` here is our own bug: codes are never made up at run time. Codes that arrive from a peer go through
    `qustream.wire.rpc.refusal_error`, which knows what to do with an unknown one.
    """
    return _CLASSES[CODES[code].family](code, detail, retry_after_ms=retry_after_ms)
