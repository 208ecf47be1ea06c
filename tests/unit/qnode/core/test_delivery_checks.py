"""Every refusal of spec §3, each by the one thing that is wrong, and the edges of every bound."""

import hashlib

import pytest
from msgspec.structs import replace

from qnode.core.delivery_checks import (
    CLOCK_SKEW_MS,
    EPOCH_EDGE_MS,
    LIFETIME_CAP_MS,
    REGISTRY_AGE_MAX_MS,
    REQUEST_VALIDITY_MAX_MS,
    Channel,
    check_binding,
    check_certificate,
    check_device,
    check_grant,
    check_key_body,
    grant_end_ms,
)
from qustream.model.base import Signed
from qustream.model.keys import DeviceCertificate, PublicKey
from qustream.model.network import DeviceEntry, Epoch, Grant, UserRecord
from qustream.rules.merkle import Tree
from qustream.wire.keys import Binding, KeyBody

NOW = 1_800_000_000_000
DAY = 86_400_000
EPOCH = Epoch(7, NOW - DAY, bytes(32), 3 * DAY)
NODE, EXPORTER, ALICE, BOB, GRANT = (bytes([n]) * 32 for n in range(1, 6))
SEED = bytes(126)
SIGNED = Signed(b"", bytes(3373))
CHANNEL = Channel("net", NODE, EXPORTER, EPOCH, 0)
BINDING = Binding("net", NODE, 7, NOW + 60_000, EXPORTER, ALICE, SIGNED)
DEVICE = PublicKey(bytes(32), bytes(1952))
CERTIFICATE = DeviceCertificate(ALICE, DEVICE, 1, "phone", NOW - DAY, NOW + DAY)
USER = UserRecord(PublicKey(bytes(32), bytes([1]) * 1952), SIGNED, (DeviceEntry(DEVICE.id, False),))
RUIDS = Tree([bytes([n]) * 32 for n in range(12)])
THE_GRANT = Grant(GRANT, ALICE, RUIDS.root, 12, 3, 6, 10 * DAY, None)
BODY = KeyBody(BINDING, GRANT, 4, bytes([4]) * 32, RUIDS.path(4), (BOB,), DAY, hashlib.sha256(SEED).digest())


def code_of(refusal):
    return None if refusal is None else refusal.code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"chain": "other"}, "E-PEER-CHAIN"),
        ({"node": bytes(32)}, "E-REQUEST-NODE"),
        ({"exporter": bytes(32)}, "E-REQUEST-NODE"),
        ({"exporter": b""}, "E-REQUEST-NODE"),
        ({"expires_ms": NOW - CLOCK_SKEW_MS}, "E-REQUEST-EXPIRED"),
        ({"expires_ms": NOW - CLOCK_SKEW_MS + 1}, None),
        ({"expires_ms": NOW + REQUEST_VALIDITY_MAX_MS + CLOCK_SKEW_MS}, None),
        ({"expires_ms": NOW + REQUEST_VALIDITY_MAX_MS + CLOCK_SKEW_MS + 1}, "E-REQUEST-EXPIRED"),
        ({"epoch": 6}, "E-REQUEST-EXPIRED"),
        ({"epoch": 8}, "E-REQUEST-EXPIRED"),
    ],
)
def test_binding(changes, code):
    assert code_of(check_binding(replace(BINDING, **changes), CHANNEL, NOW)) == code


@pytest.mark.parametrize(
    ("epoch", "now_ms", "fits"),
    [
        (6, EPOCH.boundary_ms, True),
        (6, EPOCH.boundary_ms + EPOCH_EDGE_MS - 1, True),
        (6, EPOCH.boundary_ms + EPOCH_EDGE_MS, False),
        (5, EPOCH.boundary_ms, False),
        (8, EPOCH.boundary_ms + EPOCH.length_ms - 1, True),
        (8, EPOCH.boundary_ms + EPOCH.length_ms - EPOCH_EDGE_MS, True),
        (8, EPOCH.boundary_ms + EPOCH.length_ms - EPOCH_EDGE_MS - 1, False),
        (9, EPOCH.boundary_ms + EPOCH.length_ms - 1, False),
    ],
)
def test_the_neighbouring_epoch_is_good_at_its_edge_alone(epoch, now_ms, fits):
    binding = replace(BINDING, epoch=epoch, expires_ms=now_ms + 1000)
    assert code_of(check_binding(binding, CHANNEL, now_ms)) == (None if fits else "E-REQUEST-EXPIRED")


def test_a_node_that_hears_nothing_of_the_network_serves_nobody():
    for age_ms, code in ((REGISTRY_AGE_MAX_MS, None), (REGISTRY_AGE_MAX_MS + 1, "E-CHAIN-STALE")):
        channel = Channel("net", NODE, EXPORTER, EPOCH, age_ms)
        assert code_of(check_binding(BINDING, channel, NOW)) == code


@pytest.mark.parametrize(
    ("certificate", "user", "code"),
    [
        (CERTIFICATE, USER, None),
        (CERTIFICATE, None, "E-DEVICE-UNKNOWN"),
        (replace(CERTIFICATE, user=BOB), USER, "E-REQUEST-INVALID"),
        (replace(CERTIFICATE, device_key=USER.master), USER, "E-DEVICE-UNKNOWN"),
        (CERTIFICATE, replace(USER, devices=()), "E-DEVICE-UNKNOWN"),
        (CERTIFICATE, replace(USER, devices=(DeviceEntry(DEVICE.id, True),)), "E-DEVICE-REVOKED"),
        (replace(CERTIFICATE, expires_ms=NOW), USER, "E-DEVICE-EXPIRED"),
        (replace(CERTIFICATE, expires_ms=NOW + 1), USER, None),
    ],
)
def test_device(certificate, user, code):
    assert code_of(check_device(BINDING, certificate, user, NOW)) == code


def test_certificate():
    assert check_certificate(by_master=True) is None
    assert code_of(check_certificate(by_master=False)) == "E-DEVICE-UNKNOWN"


@pytest.mark.parametrize(
    ("changes", "seed", "code"),
    [
        ({}, SEED, None),
        ({}, SEED[:-1], "E-REQUEST-INVALID"),
        ({}, b"x" + SEED[1:], "E-REQUEST-INVALID"),
        ({"seed_hash": hashlib.sha256(b"").digest()}, b"", "E-REQUEST-INVALID"),
        ({"recipients": (BOB, ALICE, BOB)}, SEED, "E-REQUEST-INVALID"),
        ({"lifetime_ms": 0}, SEED, "E-REQUEST-INVALID"),
        ({"lifetime_ms": 0, "recipients": ()}, SEED, None),
    ],
)
def test_key_body(changes, seed, code):
    assert code_of(check_key_body(replace(BODY, **changes), seed)) == code


def in_epoch(number):
    return {"binding": replace(BINDING, epoch=number)}


@pytest.mark.parametrize(
    ("changes", "grant", "code"),
    [
        ({}, THE_GRANT, None),
        ({}, None, "E-GRANT-UNKNOWN"),
        ({}, replace(THE_GRANT, owner=BOB), "E-GRANT-RUID"),
        (in_epoch(5), THE_GRANT, "E-GRANT-UNKNOWN"),
        (in_epoch(6), THE_GRANT, None),
        (in_epoch(8), THE_GRANT, "E-GRANT-EXPIRED"),
        ({"index": 13}, THE_GRANT, "E-REQUEST-INVALID"),
        ({"index": 5}, THE_GRANT, "E-REQUEST-INVALID"),  # another device's stripe
        ({"index": 7}, THE_GRANT, "E-GRANT-RUID"),  # the right stripe, another rUID
        ({"ruid": bytes(32)}, THE_GRANT, "E-GRANT-RUID"),
        ({"path": BODY.path[:-1]}, THE_GRANT, "E-GRANT-RUID"),
        ({"path": (*BODY.path, bytes(32))}, THE_GRANT, "E-GRANT-RUID"),
        ({"lifetime_ms": 10 * DAY}, THE_GRANT, None),
        ({"lifetime_ms": 10 * DAY + 1}, THE_GRANT, "E-LIFETIME"),
        ({"lifetime_ms": LIFETIME_CAP_MS + 1}, replace(THE_GRANT, lifetime_max_ms=2**63 - 1), "E-LIFETIME"),
    ],
)
def test_grant(changes, grant, code):
    assert code_of(check_grant(replace(BODY, **changes), CERTIFICATE, grant)) == code


def test_a_mark_outlives_the_last_epoch_of_its_grant():
    end_ms = EPOCH.boundary_ms + EPOCH.length_ms
    assert grant_end_ms(THE_GRANT, EPOCH) == end_ms
    assert grant_end_ms(replace(THE_GRANT, epoch=7), EPOCH) == end_ms + EPOCH.length_ms
    # signed in the grant's last epoch, arriving just after its edge
    assert grant_end_ms(replace(THE_GRANT, epoch=5), EPOCH) == end_ms
