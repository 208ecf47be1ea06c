"""What a master says of its devices: signed by the right key, about the right user, in time."""

import msgspec
import pytest

from qustream.errors import QuStreamError
from qustream.identity.enrolment import (
    CERTIFICATE_LIFETIME_MS,
    Enrolment,
    certify_device,
    check_certificate,
    check_enrolment,
    decode_enrolment,
    open_hpke_statement,
    state_hpke_key,
)
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SigningKey
from qustream.model.keys import DeviceCertificate, HpkeKeyStatement
from qustream.wire.codec import encode

MASTER, DEVICE, MALLORY = (SigningKey(bytes([n] * 32)) for n in (1, 2, 3))
HPKE = HpkeKey(bytes([4] * 32))
NOW = 1_700_000_000_000


def certified(**changes):
    return certify_device(MASTER, DEVICE.public, **{"stripe": 0, "label": "laptop", "now_ms": NOW, **changes})


def enrolled():
    return Enrolment(MASTER.public, state_hpke_key(MASTER, HPKE.public), certified())


def refused(code, call, *arguments, **named):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    return caught.value.detail


def test_a_certificate_says_who_and_until_when():
    opened = check_certificate(certified(stripe=7), MASTER.public, now_ms=NOW)
    wanted = DeviceCertificate(MASTER.id, DEVICE.public, 7, "laptop", NOW, NOW + CERTIFICATE_LIFETIME_MS)
    assert opened == wanted


def test_a_certificate_ends_to_the_millisecond():
    certificate = certified()
    end = NOW + CERTIFICATE_LIFETIME_MS
    check_certificate(certificate, MASTER.public, now_ms=end - 1)
    refused("E-DEVICE-EXPIRED", check_certificate, certificate, MASTER.public, now_ms=end)
    assert "5 days" in refused("E-DEVICE-EXPIRED", check_certificate, certificate, MASTER.public, now_ms=end + 5 * 86_400_000)
    assert check_certificate(certificate, MASTER.public, now_ms=None).stripe == 0


def test_another_master_proves_nothing():
    refused("E-SIGNATURE", check_certificate, certified(), MALLORY.public, now_ms=NOW)
    refused("E-SIGNATURE", open_hpke_statement, state_hpke_key(MASTER, HPKE.public), MALLORY.public)


def test_nobody_speaks_for_another_user():
    claim = DeviceCertificate(MASTER.id, MALLORY.public, 0, "x", NOW, NOW + 1000)
    forged = MALLORY.sign_noun("device-certificate", claim)
    refused("E-SIGNATURE", check_certificate, forged, MALLORY.public, now_ms=NOW)
    forged = MALLORY.sign_noun("hpke-key", HpkeKeyStatement(MASTER.id, HPKE.public))
    refused("E-SIGNATURE", open_hpke_statement, forged, MALLORY.public)


def test_a_statement_for_one_purpose_is_none_for_another():
    body = DeviceCertificate(MASTER.id, DEVICE.public, 0, "x", NOW, NOW + 1000)
    refused("E-SIGNATURE", check_certificate, MASTER.sign_noun("hpke-key", body), MASTER.public, now_ms=NOW)


def test_an_enrolment_is_checked_whole():
    enrolment = enrolled()
    assert check_enrolment(enrolment, now_ms=NOW).label == "laptop"
    for part, forged in (
        ("master", MALLORY.public),
        ("hpke", state_hpke_key(MALLORY, HPKE.public)),
        ("certificate", certify_device(MALLORY, DEVICE.public, stripe=0, label="x", now_ms=NOW)),
    ):
        refused("E-SIGNATURE", check_enrolment, msgspec.structs.replace(enrolment, **{part: forged}))
    assert open_hpke_statement(enrolment.hpke, enrolment.master) == HPKE.public


def test_an_enrolment_comes_back_from_its_bytes():
    enrolment = enrolled()
    data = encode(enrolment)
    assert decode_enrolment(data) == enrolment
    refused("E-WIRE-MALFORMED", decode_enrolment, data[:-1])
    refused("E-WIRE-MALFORMED", decode_enrolment, b"")
    refused("E-WIRE-OVERSIZE", decode_enrolment, bytes(20_000))


@pytest.mark.parametrize("changes", [{"stripe": -1}, {"stripe": 256}, {"label": ""}, {"label": "x" * 65}, {"label": "a\nb"}])
def test_impossible_devices_are_refused(changes):
    refused("E-CONFIG", certified, **changes)
