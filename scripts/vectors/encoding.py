#!/usr/bin/env python3
"""Write `proto/vectors/encoding.json`: one encoding of every kind, and bytes to refuse (`proto/spec/encoding.md`).

Encodes with the `msgpack` package from the tables of the specification alone; shares no code with the library, which uses another codec.

    scripts/vectors/encoding.py            write the file
    scripts/vectors/encoding.py --check    exit 1 if the file is not what this program would write
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgpack

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/encoding.json"
FULL_BYTES = 512  # longer encodings are given by length and hash
U32, U63 = (1 << 32) - 1, (1 << 63) - 1
Value = Any


def fill(byte: int, count: int) -> dict[str, Value]:
    """`count` equal bytes."""
    return {"fill": byte, "bytes": count}


def plain(value: Value) -> Value:
    """The value a description stands for."""
    if isinstance(value, dict):
        return bytes([value["fill"]]) * value["bytes"]
    return [plain(item) for item in value] if isinstance(value, list) else value


KEY = [fill(0xE1, 32), fill(0xE2, 1952)]
SIGNATURE = fill(0x51, 3373)
SIGNED = [fill(0xB0, 100), SIGNATURE]
BINDING = ["qustream-test", fill(0x0A, 32), 3, 1_700_000_000_000, fill(0x0B, 32), fill(0x0C, 32), SIGNED]
GRANT_INDEX = [fill(0x6A, 32), 70_000]
PROOF = [7, 1, [fill(0x01, 32), fill(0x02, 32)]]
EVIDENCE = ["qcicada-p256", fill(0xA1, 64), fill(0xA2, 64), fill(0xA3, 64), [1, 255], 77, fill(0xA4, 32), fill(0xA5, 64), True]
SAYS = ["chardev", "appliance", "serial 1", 8, 7_900, 7_500_000_000, False, False, ""]
DEVICE = [*SAYS, None]
HEALTH = [1 << 20, 2048, 1, 11, 40, 512, [40, 60]]
CONDITIONING = ["aes-256-cbc-mac", 32, 16, 987]
TIMES = [1_700_000_000_000, 1_700_000_002_000, 1_700_000_600_000]
ATTESTATION = ["qustream-test", fill(0x5E, 32), 9, DEVICE, HEALTH, CONDITIONING, *TIMES, fill(0x40, 32), 256]
VOTE_SIGNATURE = fill(0x56, 2420)
PLACE = [3, 7, 40, fill(0x93, 32), 6, 1_700_000_000_000, 36]  # rotation to what is executed
CHAIN_HEADER = ["qustream-test", *PLACE, fill(0x94, 32), fill(0x95, 32), 2, fill(0x96, 32), fill(0x00, 32), 1]
CERTIFICATE = [92, 3, 7, 4, fill(0x90, 32), fill(0xE0, 1), [VOTE_SIGNATURE] * 3]
LISTED_NODE = [fill(0x02, 32), 2, "operator", fill(0x0F, 16), ["127.1.0.1:7400"], 4]
PLAN_NODE = [fill(0x0F, 3), fill(0x37, 516)]
OFFER = [[CHAIN_HEADER], CERTIFICATE, CHAIN_HEADER, [fill(0x91, 32)], [fill(0x39, 110), [[fill(0x37, 516)], fill(0x38, 64)]]]
ALERT = ["E-DEVICE-UNKNOWN", fill(0xD1, 32), 1_700_000_000_000, 3]
LICENCE, PERSON, MOMENT = fill(0x4C, 16), fill(0xAC, 20), 1_700_000_000_000
BODY = ["qustream-test", PERSON, 7, 40_000, 6_439_000]
SKIP = ["qustream-test", 3, 7, 3, fill(0x00, 32)]
FINAL = ["qustream-test", 3, 7, 4, fill(0x90, 32)]
CHANGE = [KEY, fill(0xD1, 32), 3, SIGNATURE]
# Number, name, what follows the number.
ACTIONS: list[tuple[int, str, list[Value]]] = [
    (1, "Transfer", [PERSON, 1]), (1, "Transfer", [PERSON, U63]),
    (2, "Activate", [LICENCE, KEY, PERSON, ["127.1.0.1:7400", "[::1]:7400"], SIGNATURE]),
    (3, "Retire", [LICENCE]), (4, "UpdateNode", [LICENCE, []]), (4, "UpdateNode", [LICENCE, ["127.1.0.1:7400"]]),
    (5, "ListLicence", [LICENCE, 500 * 10**12]), (6, "UnlistLicence", [LICENCE]), (7, "BuyLicence", [LICENCE, 500 * 10**12]),
    (8, "Stake", [LICENCE]), (9, "Unstake", [LICENCE]), (10, "TopUp", [LICENCE, 20_000 * 10**9]),
    (11, "RegisterValidator", [LICENCE, KEY, fill(0x92, 1_312), fill(0x97, 32), 1 << 20, 1_000, SIGNATURE, VOTE_SIGNATURE]),
    (12, "EditValidator", [LICENCE, 10_000, fill(0x00, 32), 0]), (13, "ExitValidator", [LICENCE]),
    (14, "Delegate", [LICENCE, 10**10]), (15, "Undelegate", [LICENCE, U63]),
    (16, "BuyGrant", [fill(0x0C, 32), fill(0x6B, 32), 1 << 20, 256, 3_600_000, None, U63]),
    (16, "BuyGrant", [fill(0x0C, 32), fill(0x6B, 32), 1, 1, 3_600_000, LICENCE, 10**7]),
    (17, "RollOver", [fill(0x6A, 32), fill(0x6B, 32), 70_000, 2, 10**12]),
    (18, "RegisterUser", [KEY, SIGNED, [], SIGNATURE]), (18, "RegisterUser", [KEY, SIGNED, [fill(0xD1, 32)] * 17, SIGNATURE]),
    (19, "AddDevice", CHANGE), (20, "RevokeDevice", CHANGE), (21, "MergeUsers", [KEY, KEY, SIGNATURE, SIGNATURE]),
    (22, "DoubleSign", [fill(0x92, 1_312), SKIP, VOTE_SIGNATURE, FINAL, VOTE_SIGNATURE]),
    (23, "Unsuspend", [LICENCE]), (24, "Claim", [LICENCE]),
]  # fmt: skip
QST = 10**9
# In the order of the noun: times, sizes, fees, stake and what can be done to it, prices, parts.
PARAMETERS = [
    259_200_000, 3_600_000, 1_000, 5_000, 500, 100, 4 << 20, 1_000, 1_000_000, 200_000 * QST, 2_592_000_000, 2_419_200_000,
    1_814_400_000, 259_200_000, 2_592_000_000, 1_814_400_000, 100, 10 * QST, 1_000, 1_209_600_000, 3_600_000, QST // 100, QST // 1000,
    5_000, 604_800_000, 6_000, 3_000,
]  # fmt: skip
SEAT = [LICENCE, fill(0x90, 32), 200_000 * QST, True]
GENESIS_VOTE = [fill(0x92, 1_312), fill(0x97, 32), 1 << 20, 1_000]
GENESIS_NODE = [KEY, PERSON, ["127.1.0.1:7400"], True, GENESIS_VOTE]
IDLE_LICENCE = [fill(0x4D, 16), 2, PERSON, "", 500 * QST, None]

# (kind, tag or none, fields)
COMING = [7, 10_000, fill(0x98, 32), U32]
KINDS: list[tuple[str, int | None, list[Value]]] = [
    ("Hello", 1, [1, 1, "qustream-test", [2, 4], ["127.1.0.1:7400"], 12, fill(0x99, 64)]),
    ("Hello", 1, [0, 65_535, "ünïcode", [], [], U63, fill(0x00, 64)]),
    *[("Ping", 2, [number]) for number in (0, 1, 127, 128, 255, 256, 65_535, 65_536, U32)],
    ("Pong", 3, [U32]),
    ("Goodbye", 4, ["E-PEER-LIMIT", ""]),
    *[("Goodbye", 4, ["E-PEER-LIMIT", "x" * length]) for length in (31, 32, 255, 256)],
    ("Request", 10, [1, 30_000, fill(0x10, 3)]),
    *[("Request", 10, [1, 0, fill(0x10, length)]) for length in (0, 255, 256, 65_535, 65_536)],
    ("Response", 11, [1, fill(0x11, 4)]),
    ("Refusal", 12, [1, "E-GRANT-SPENT", "index 5 is spent", 0]),
    ("KeyBody", 20, [BINDING, *GRANT_INDEX, fill(0x21, 32), [fill(0x22, 32)], [fill(0x23, 32)], 3_600_000, fill(0x24, 32)]),
    ("KeyBody", 20, [BINDING, *GRANT_INDEX, fill(0x21, 32), [], [fill(i, 32) for i in range(64)], 0, fill(0x24, 32)]),
    ("CollectBody", 21, [BINDING, *GRANT_INDEX]),
    ("AcknowledgeBody", 22, [BINDING, *GRANT_INDEX, True]),
    ("RevokeBody", 23, [BINDING, *GRANT_INDEX]),
    ("AlertsBody", 24, [BINDING, 0]),
    ("DeviceRequest", 25, [fill(0x25, 300), SIGNATURE, fill(0x5D, 126)]),
    ("DeviceRequest", 25, [fill(0x25, 300), SIGNATURE, fill(0x00, 0)]),
    ("KeyAnswer", 30, [fill(0x30, 262_504), fill(0x31, 32), SIGNED, PROOF, SIGNED]),
    ("Acknowledged", 31, [True]),
    ("Acknowledged", 31, [False]),
    ("RevokeAnswer", 32, [SIGNED]),
    ("AlertsAnswer", 33, [[ALERT, ALERT]]),
    ("AlertsAnswer", 33, [[]]),
    ("GossipPush", 50, [1, fill(0x50, 1)]),
    ("GossipPush", 50, [2, fill(0x50, 131_072)]),
    ("GossipAnnounce", 51, [[[fill(0x51, 32), 2, 70_000, True], [fill(0x52, 32), 5, 1, False]]]),
    ("Announced", None, [fill(0x51, 32), 3, U32, True]),
    ("GossipPull", 52, [[fill(0x53, 32)]]),
    ("GossipPull", 52, [[fill(i, 32) for i in range(64)]]),
    ("GossipGraft", 53, []),
    *[("GossipPrune", 54, [seconds]) for seconds in (0, 3600)],
    *[("LinkOpen", 70, [reason, 12]) for reason in (1, 2, 3)],
    ("LinkAccepted", 71, ["[::1]:7400"]),
    *[("AddressAsk", 72, [fill(0x72, 32), within_s]) for within_s in (0, 90, U32)],
    ("AddressAnswer", 73, [[SIGNED, SIGNED]]),
    ("AddressAnswer", 73, [[]]),
    ("DialBackAsk", 74, []),
    ("DialResult", None, ["127.1.0.1:7400", "E-PEER-UNREACHABLE"]),
    ("DialBackAnswer", 75, [[["127.1.0.1:7400", "E-PEER-UNREACHABLE"], ["[::1]:7400", ""]]]),
    *[("HeightTold", 76, [height]) for height in (0, U63)],
    ("HeightHeard", 77, [7]),
    ("ManifestAsk", 80, [fill(0x80, 32)]),
    ("Manifest", 81, [1, [fill(0x81, 32)]]),
    ("Manifest", 81, [17 << 18, [fill(i, 32) for i in range(17)]]),
    *[("BulkAsk", 82, [fill(0x80, 32), first, count]) for first, count in ((0, 1), (4095, 4))],
    ("BulkSent", 83, [4]),
    ("BulkPiece", 84, [fill(0x80, 32), 0, fill(0x84, 1)]),
    ("BulkPiece", 84, [fill(0x80, 32), 4095, fill(0x84, 262_144)]),
    ("NetworkFileAsk", 85, [0]),
    ("NetworkFileOffer", 86, [U63, fill(0x80, 32), 15_000_000]),
    *[("ProbeAsk", 87, [way, 33_554_432]) for way in (1, 2, 3)],
    ("ProbeTold", 88, [33_554_432, 16_777_216, 1_500_000]),
    ("ProbeTold", 88, [0, 0, 0]),
    ("ProbeData", 89, [fill(0x89, 262_144)]),
    ("Statement", None, ["qustream-test", 3, 7, 2, fill(0x90, 32)]),
    ("ChainHeader", None, CHAIN_HEADER),
    ("Proposal", 90, [CHAIN_HEADER, [fill(0x91, 32), fill(0x92, 32)], VOTE_SIGNATURE]),
    ("Proposal", 90, [CHAIN_HEADER, [], VOTE_SIGNATURE]),
    *[("Vote", 91, [3, 7, kind, fill(0x90, 32), 99, VOTE_SIGNATURE]) for kind in (2, 3, 4)],
    ("Certificate", 92, [3, 7, 2, fill(0x90, 32), fill(0xE0, 1), [VOTE_SIGNATURE] * 3]),
    ("Certificate", 92, [3, 7, 4, fill(0x90, 32), fill(0xFF, 13), [VOTE_SIGNATURE] * 100]),
    ("Want", None, [7, 3, fill(0x00, 32)]),
    ("ConsensusAsk", 93, [3, 9, 5, [[7, 3, fill(0x00, 32)], [6, 1, fill(0x90, 32)]]]),
    ("ConsensusAsk", 93, [3, 9, 5, []]),
    ("TransactionsAsk", 101, [[fill(0xA7, 32), fill(0xA8, 32)]]),
    ("TransactionsAnswer", 102, [[fill(0xA9, 3_500), fill(0xAA, 65_536)]]),
    ("TransactionsAnswer", 102, [[]]),
    ("Bundle", 128, [[fill(0xA9, 3_500), fill(0xAA, 3_600)]]),
    ("Bundle", 128, [[fill(0xAA, 65_536)]]),
    *[("BlocksAsk", 103, [above, most, wait]) for above, most, wait in ((0, 512, 0), (U63, 0, 20_000))],
    ("BlocksAnswer", 104, [7, [CHAIN_HEADER, CHAIN_HEADER], [[fill(0x91, 32), fill(0x92, 32)]], CERTIFICATE]),
    ("BlocksAnswer", 104, [U63, [], [], None]),
    *[("BodyAsk", 105, [height, first, count]) for height, first, count in ((1, 0, 1), (U63, 1_199, 1_200))],
    ("BodyAnswer", 106, [[fill(0xA7, 32), fill(0xA8, 32)], [fill(0xA9, 3_500), fill(0xAA, 65_536)]]),
    ("BodyAnswer", 106, [[], []]),
    ("Proof", None, [[fill(0x36, 36), fill(0x37, 516)], fill(0x38, 1_024)]),
    ("CheckpointAsk", 109, [fill(0x00, 32)]),
    ("Checkpoint", 110, ["qustream-test", 3, fill(0x6E, 32), 1_700_000_000_000]),
    ("HandOversAsk", 111, [3]),
    ("HandOver", None, [CHAIN_HEADER, CERTIFICATE]),
    ("HandOvers", 112, [[[CHAIN_HEADER, CERTIFICATE]]]),
    ("HandOvers", 112, [[]]),
    ("SetAsk", 113, [3]),
    ("SetTold", 114, [3, [[fill(0x11, 16), fill(0x90, 32), 200_000, True]], fill(0x5D, 32)]),
    ("KeysAsk", 115, [[fill(0x90, 32), fill(0x91, 32)]]),
    ("VoteKeys", 116, [[fill(0x92, 1_312)]]),
    ("ProofsAsk", 117, [[fill(0x01, 1), fill(0x15, 96)]]),
    *[("ProvenEntry", None, [value, [[], fill(0x38, 64)]]) for value in (None, fill(0x39, 40))],
    ("Proofs", 118, [[CHAIN_HEADER], CERTIFICATE, [[None, [[fill(0x37, 516)], fill(0x38, 64)]]]]),
    ("NodesAsk", 119, [fill(0x00, 32)]),
    ("ListedNode", None, LISTED_NODE),
    *[("NodesListed", 120, [nodes]) for nodes in ([], [LISTED_NODE])],
    ("GrantsAsk", 121, [fill(0x0C, 32)]),
    ("GrantsListed", 122, [[fill(0x6A, 32)]]),
    *[("SnapshotAsk", 107, [fill(root, 32), first]) for root, first in ((0x00, 0), (0x3A, 16_384))],
    ("PlanNode", None, PLAN_NODE),
    ("Plan", None, [[PLAN_NODE]]),
    ("StateEntry", None, [fill(0x01, 21), fill(0x39, 40)]),
    *[("Chunk", None, [entries]) for entries in ([], [[fill(0x01, 21), fill(0x39, 40)]])],
    ("Offer", None, OFFER),
    *[("SnapshotTold", 108, [fill(0x3A, 32), *told]) for told in ([OFFER, 7, [PLAN_NODE]], [None, 0, []])],
    *[("ChunkAsk", 123, [fill(0x3A, 32), fill(byte, size)]) for byte, size in ((0x00, 0), (0x0F, 64))],
    ("ChunkTold", 124, [[[fill(0x01, 21), fill(0x39, 40)], [fill(0xFF, 255), fill(0x39, 17_408)]]]),
    ("ChunkTold", 124, [[]]),
    *[("TransactionGiven", 125, [fill(0xB0, size)]) for size in (1, 65_536)],
    ("TransactionTaken", 126, [fill(0xB1, 32)]),
    ("Transaction", 100, [fill(0xB0, 120), KEY, SIGNATURE]),
    ("Transaction", 100, [fill(0xB0, 0), None, SIGNATURE]),
    *[(name, number, fields) for number, name, fields in ACTIONS],
    *[("Body", None, [*BODY, [number, *fields]]) for number, _, fields in ACTIONS],
    ("ActivateStatement", None, ["qustream-test", LICENCE, PERSON, PERSON, 7]),
    ("ValidatorStatement", None, ["qustream-test", LICENCE, PERSON, fill(0x92, 1_312), fill(0x97, 32), 1 << 20, 7]),
    ("UserStatement", None, ["qustream-test", fill(0x0C, 32), SIGNED, [fill(0xD1, 32)]]),
    *[("DeviceStatement", None, ["qustream-test", fill(0x0C, 32), fill(0xD1, 32), 3, revoked]) for revoked in (False, True)],
    ("MergeStatement", None, ["qustream-test", fill(0x0C, 32), fill(0x0D, 32)]),
    ("Parameters", None, PARAMETERS),
    ("Progress", None, [40, fill(0x90, 32), MOMENT, 3, 7, 12, fill(0xF0, 32), False]),
    ("Totals", None, [10**18, 5, 10**17, 10**15, 0, U63]),
    *[("PoolEntry", None, [amount]) for amount in (0, U63)],
    ("Account", None, [7, 10**15]),
    ("Licence", None, [2, PERSON, "", 2, fill(0x0A, 32), PERSON, 4, 200_000 * QST, MOMENT, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("Licence", None, [1, PERSON, "site one", 3, None, PERSON, 0, 0, 0, MOMENT, 7, MOMENT, MOMENT, 0, 65_535, 255, MOMENT]),
    ("NodeEntry", None, [LICENCE, KEY, ["127.1.0.1:7400"]]),
    (
        "Validator",
        None,
        [fill(0x90, 32), fill(0x97, 32), U32, 10_000, 5, 6, fill(0x01, 16), fill(0x02, 16), 7, MOMENT, 0, 1023, 10, MOMENT, 3, *COMING],
    ),
    ("VoteKeyEntry", None, [LICENCE, fill(0x0A, 32), fill(0x92, 1_312)]),
    ("Delegation", None, [10**10, fill(0x01, 16), 5]),
    ("UnbondBatch", None, [10**10, 10**10, MOMENT]),
    ("UnbondEntry", None, [10**10]),
    ("Grants", None, []),
    ("GrantOf", None, [PERSON]),
    ("Ban", None, [LICENCE, fill(0x99, 32)]),
    *[("UserEntry", None, [fill(0xB1, 9_000), 3, alias, alias is None]) for alias in (None, fill(0x0D, 32))],
    ("Incident", None, [1, LICENCE, 3, 7, MOMENT, 20_000 * QST, PERSON, MOMENT, True]),
    ("EpochEntry", None, [40, MOMENT, fill(0xF0, 32)]),
    ("Seat", None, SEAT),
    ("RotationEntry", None, [[SEAT, SEAT], fill(0xF1, 32), 40, fill(0x90, 32), MOMENT, 3_600, 7]),
    ("GenesisAccount", None, [PERSON, U63]),
    ("GenesisVote", None, GENESIS_VOTE),
    ("GenesisNode", None, GENESIS_NODE),
    ("GenesisNode", None, [KEY, PERSON, [], False, None]),
    ("GenesisLicence", None, IDLE_LICENCE),
    (
        "Genesis",
        None,
        [
            "qustream-test",
            MOMENT,
            fill(0xF2, 32),
            PARAMETERS,
            [[PERSON, 10**15]],
            [[LICENCE, 1, PERSON, "site one", 0, GENESIS_NODE], IDLE_LICENCE],
            [[KEY, "first light", False, True, []]],
        ],
    ),
    ("FeedOpen", 40, [fill(0x0A, 32), 8]),
    *[("FeedCredit", 41, [units]) for units in (1, 4096)],
    ("FeedHealth", 42, ["live", "", "1024 samples passed"]),
    ("FeedBatch", 43, [SIGNED]),
    ("FeedUnit", 44, [fill(0x40, 32), PROOF, fill(0x44, 262_398)]),
    ("Signed", None, SIGNED),
    ("PublicKey", None, KEY),
    ("DeviceCertificate", None, [fill(0x0C, 32), KEY, 1, "laptop", 1_700_000_000_000, 1_707_776_000_000]),
    ("HpkeKeyStatement", None, [fill(0x0C, 32), fill(0x48, 1216)]),
    ("NodeRecord", None, [KEY, 2, "somebody", fill(0x4C, 16), ["127.1.0.1:7400", "[::1]:7400"], 1000, True]),
    ("AddressRecord", None, ["qustream-test", fill(0x0A, 32), 1_700_000_000_000, ["127.1.0.1:7400", "node.example:7400"]]),
    ("QrngServerRecord", None, [KEY, "first light", False, True, []]),
    ("QrngServerRecord", None, [KEY, "first light", False, True, [fill(0xA1, 64)] * 4]),
    ("DeviceEntry", None, [fill(0xD1, 32), True]),
    ("UserRecord", None, [KEY, SIGNED, [[fill(0xD1, 32), False], [fill(0xD2, 32), True]]]),
    ("Grant", None, [fill(0x6A, 32), fill(0x0C, 32), fill(0x6B, 32), 1 << 20, 4, 3, 3_600_000, None]),
    ("Grant", None, [fill(0x6A, 32), fill(0x0C, 32), fill(0x6B, 32), 1, 1, 0, 0, fill(0x4C, 16)]),
    ("Epoch", None, [3, 1_700_000_000_000, fill(0xEE, 32), 259_200_000]),
    ("DeviceEvidence", None, EVIDENCE),
    ("DeviceEvidence", None, [*EVIDENCE[:6], fill(0xA4, 64), EVIDENCE[7], False]),
    ("DeviceDescriptor", None, DEVICE),
    ("DeviceDescriptor", None, [*SAYS, EVIDENCE]),
    ("HealthReport", None, HEALTH),
    ("Conditioning", None, CONDITIONING),
    ("Attestation", None, ATTESTATION),
    ("LeafProof", None, PROOF),
    ("LeafLogHeader", None, ["qustream-test", fill(0x5E, 32), 3, fill(0x40, 32)]),
    ("LeafLogEntry", None, [SIGNED, fill(0x1F, 72)]),
    ("LeafLogEntry", None, [SIGNED, fill(0x1F, 72 * 4096)]),
    ("Binding", None, BINDING),
    ("Receipt", None, ["qustream-test", fill(0x0A, 32), *GRANT_INDEX, *[fill(i, 32) for i in (1, 2, 3)], *TIMES[:2]]),
    ("Erasure", None, ["qustream-test", fill(0x0A, 32), *GRANT_INDEX, 1_700_000_000_000]),
    ("Alert", None, ALERT),
    ("Enrolment", None, [KEY, SIGNED, SIGNED]),
]

MALFORMED, NONCANONICAL, OVERSIZE = "E-WIRE-MALFORMED", "E-WIRE-NONCANONICAL", "E-WIRE-OVERSIZE"
GOODBYE = b"\x93\x04\xa1E"  # tag 4, code "E", then the detail
# (why, kind, bytes, code)
REFUSALS: list[tuple[str, str, bytes, str]] = [
    ("nothing", "Ping", b"", MALFORMED),
    ("cut short", "Ping", b"\x92\x02", MALFORMED),
    ("bytes left over", "Ping", b"\x92\x02\x05\x00", MALFORMED),
    ("the same message twice", "Ping", b"\x92\x02\x05\x92\x02\x05", MALFORMED),
    ("another message's tag", "Ping", b"\x92\x03\x05", MALFORMED),
    ("a tag nobody has", "Ping", b"\x92\x7f\x05", MALFORMED),
    ("a tag that is text", "Ping", b"\x92\xa12\x05", MALFORMED),
    ("no tag", "Ping", b"\x91\x05", MALFORMED),
    ("a field missing", "Ping", b"\x91\x02", MALFORMED),
    ("a field too many", "Ping", b"\x93\x02\x05\x05", MALFORMED),
    ("no array at all", "Ping", b"\x02", MALFORMED),
    ("nil", "Ping", b"\xc0", MALFORMED),
    ("the byte MessagePack never uses", "Ping", b"\xc1", MALFORMED),
    ("a map for the array", "Ping", b"\x82\x00\x02\x01\x05", MALFORMED),
    ("a map for a field", "Ping", b"\x92\x02\x80", MALFORMED),
    ("a float for a number", "Ping", b"\x92\x02\xcb\x40\x14\x00\x00\x00\x00\x00\x00", MALFORMED),
    ("a short float for a number", "Ping", b"\x92\x02\xca\x40\xa0\x00\x00", MALFORMED),
    ("a negative number", "Ping", b"\x92\x02\xff", MALFORMED),
    ("a negative number of eight bytes", "Ping", b"\x92\x02\xd3" + b"\xff" * 8, MALFORMED),
    ("true for a number", "Ping", b"\x92\x02\xc3", MALFORMED),
    ("an extension for a number", "Ping", b"\x92\x02\xd4\x01\x05", MALFORMED),
    ("a timestamp for a number", "Ping", b"\x92\x02\xd6\xff\x00\x00\x00\x00", MALFORMED),
    ("a number above its bound", "Ping", b"\x92\x02\xcf\x00\x00\x00\x01\x00\x00\x00\x00", MALFORMED),
    ("a number below its bound", "FeedCredit", b"\x92\x29\x00", MALFORMED),
    ("a number of 64 bits", "Epoch", msgpack.packb([1 << 63, 0, bytes(32), 0]), MALFORMED),
    ("a number in two bytes that fits in one", "Ping", b"\x92\x02\xcc\x05", NONCANONICAL),
    ("a number in three bytes that fits in two", "Ping", b"\x92\x02\xcd\x00\xff", NONCANONICAL),
    ("a number in five bytes that fits in three", "Ping", b"\x92\x02\xce\x00\x00\xff\xff", NONCANONICAL),
    ("a number in nine bytes that fits in five", "Ping", b"\x92\x02\xcf\x00\x00\x00\x00\xff\xff\xff\xff", NONCANONICAL),
    ("a positive number in a signed form", "Ping", b"\x92\x02\xd0\x05", NONCANONICAL),
    ("a tag in a longer form", "Ping", b"\x92\xcc\x02\x05", NONCANONICAL),
    ("an array in a longer form", "Ping", b"\xdc\x00\x02\x02\x05", NONCANONICAL),
    ("an array in the longest form", "Ping", b"\xdd\x00\x00\x00\x02\x02\x05", NONCANONICAL),
    ("a text in a longer form", "Goodbye", GOODBYE + b"\xd9\x01x", NONCANONICAL),
    ("bytes in a longer form", "Response", b"\x93\x0b\x01\xc5\x00\x01x", NONCANONICAL),
    ("bytes where text belongs", "Goodbye", GOODBYE + b"\xc4\x01x", MALFORMED),
    ("text where bytes belong", "Response", b"\x93\x0b\x01\xa1x", MALFORMED),
    ("text that is not UTF-8", "Goodbye", GOODBYE + b"\xa1\xff", MALFORMED),
    ("text with half a surrogate pair", "Goodbye", GOODBYE + b"\xa3\xed\xa0\x80", MALFORMED),
    ("text above its bound", "Goodbye", GOODBYE + msgpack.packb("x" * 257), MALFORMED),
    ("bytes above their bound", "DeviceRequest", msgpack.packb([25, b"", bytes(3373), bytes(127)]), MALFORMED),
    ("bytes below their bound", "DeviceRequest", msgpack.packb([25, b"", bytes(3372), b""]), MALFORMED),
    ("an array above its bound", "LeafProof", msgpack.packb([0, 0, [bytes(32)] * 33]), MALFORMED),
    ("an array that promises four thousand million items", "LeafProof", b"\x93\x00\x00\xdd\xff\xff\xff\xff", MALFORMED),
    ("an array that promises more than it holds", "Ping", b"\xdd\xff\xff\xff\xff\x02\x05", MALFORMED),
    ("bytes that promise more than there are", "Response", b"\x93\x0b\x01\xc6\x00\x00\x00\xffx", MALFORMED),
    ("a class nobody has", "NodeRecord", msgpack.packb([[bytes(32), bytes(1952)], 3, "", bytes(16), [], 1, True]), MALFORMED),
    ("nil where none may be", "Acknowledged", b"\x92\x1f\xc0", MALFORMED),
    ("a number for a boolean", "Acknowledged", b"\x92\x1f\x01", MALFORMED),
    ("deep nesting for a message", "Ping", b"\x91" * 4000, MALFORMED),
    ("deep nesting for a field", "Ping", b"\x92\x02" + b"\x91" * 4000, MALFORMED),
    ("deep nesting in a field too many", "Ping", b"\x93\x02\x05" + b"\x91" * 4000, MALFORMED),
    ("a tag in front of a noun", "LeafProof", b"\x94\x01\x00\x00\x90", MALFORMED),
    ("the last field left out where it would be nil", "DeviceDescriptor", msgpack.packb(SAYS), NONCANONICAL),
    ("an action that is no action's number", "Body", msgpack.packb(["c", bytes(20), 0, 0, 0, [25, bytes(16)]]), MALFORMED),
    ("an action of another number's fields", "Body", msgpack.packb(["c", bytes(20), 0, 0, 0, [1, bytes(16)]]), MALFORMED),
    ("an action without its number", "Body", msgpack.packb(["c", bytes(20), 0, 0, 0, [bytes(16)]]), MALFORMED),
    (
        "an action's number in a longer form",
        "Body",
        msgpack.packb(["c", bytes(20), 0, 0, 0]).replace(b"\x95", b"\x96") + b"\x92\xcc\x08\xc4\x10" + bytes(16),
        NONCANONICAL,
    ),
    ("a transfer of nothing", "Body", msgpack.packb(["c", bytes(20), 0, 0, 0, [1, bytes(20), 0]]), MALFORMED),
    ("a transfer of 64 bits", "Body", msgpack.packb(["c", bytes(20), 0, 0, 0, [1, bytes(20), 1 << 63]]), MALFORMED),
    ("a transfer of less than nothing", "Body", msgpack.packb(["c", bytes(20), 0, 0, 0, [1, bytes(20), -1]]), MALFORMED),
    ("an account of 21 bytes", "Body", msgpack.packb(["c", bytes(20), 0, 0, 0, [1, bytes(21), 1]]), MALFORMED),
    ("more bytes than the place allows", "Hello", bytes(16_385), OVERSIZE),
]


def described(kind: str, tag: int | None, fields: list[Value]) -> dict[str, Value]:
    encoded = msgpack.packb(([] if tag is None else [tag]) + plain(fields))
    vector: dict[str, Value] = {"kind": kind, "tag": tag, "fields": fields, "encoded_bytes": len(encoded)}
    if len(encoded) <= FULL_BYTES:
        return vector | {"encoded": encoded.hex()}
    return vector | {"encoded_sha256": hashlib.sha256(encoded).hexdigest()}


def refused(why: str, kind: str, data: bytes, code: str) -> dict[str, Value]:
    shown: dict[str, Value] = {"hex": data.hex()}
    if len(data) > FULL_BYTES:
        # All long ones end in a run of one byte.
        head = data.rstrip(data[-1:])
        shown = {"hex": head.hex(), "then_fill": data[-1], "then_bytes": len(data) - len(head)}
    return {"why": why, "kind": kind, **shown, "code": code}


def main() -> int:
    about = (
        "Encoding (proto/spec/encoding.md), made with another MessagePack library than the protocol library's. `fields` follow the tables; "
        "{fill, bytes} stands for that many equal bytes; `tag` null: a noun; an action's number stands there, too. Encodings above 512 "
        "bytes are given by length and SHA-256. "
        "`refusals`: bytes to decode as `kind` and the code; `then_fill` repeated `then_bytes` times follows `hex`."
    )
    vectors = [described(*kind) for kind in KINDS]
    text = json.dumps({"about": about, "kinds": vectors, "refusals": [refused(*row) for row in REFUSALS]}, ensure_ascii=False, indent=1)
    if "--check" in sys.argv:
        return 0 if FILE.read_text() == text + "\n" else 1
    FILE.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
