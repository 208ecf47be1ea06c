"""Signatures of a request: what is verified, what is remembered, and that failures are not."""

import pytest
from support.keys_world import World

from qnode.service import keys_verify
from qnode.service.keys_verify import CertificateCache, Verdict, verify_request
from qustream.model.base import Signed
from qustream.model.keys import DeviceCertificate
from qustream.wire.codec import decode
from qustream.wire.keys import DeviceRequest


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def parts(world, device):
    request = decode(world.alerts(world.alice, device), DeviceRequest, max_bytes=40_000)
    return request, device.certificate


def opened(device):
    return decode(device.certificate.body, DeviceCertificate, max_bytes=10_000)


def test_both_signatures_are_verified(world):
    phone = world.alice.phone
    request, signed = parts(world, phone)
    assert verify_request(request, opened(phone), signed, world.alice.master.public) == Verdict(True, True)
    assert verify_request(request, opened(phone), signed, world.mallory.master.public) == Verdict(True, False)
    assert verify_request(request, opened(world.alice.laptop), signed, world.alice.master.public) == Verdict(False, False)
    assert verify_request(request, opened(phone), signed, None) == Verdict(True, True)


def test_a_certificate_is_remembered_by_its_bytes_and_its_master(world):
    cache, signed, master = CertificateCache(), world.alice.phone.certificate, world.alice.master.public
    cache.remember(cache.name(signed, master))
    assert cache.knows(cache.name(signed, master))
    assert not cache.knows(cache.name(signed, world.bob.master.public))
    assert not cache.knows(cache.name(Signed(signed.body + b"\0", signed.signature), master))
    assert not cache.knows(cache.name(Signed(signed.body, signed.signature[:-1] + b"\0"), master))


def test_the_cache_is_bounded_and_the_one_longest_not_seen_goes(monkeypatch):
    monkeypatch.setattr(keys_verify, "CERTIFICATES_MAX", 3)
    cache = CertificateCache()
    for name in (b"a", b"b", b"c"):
        cache.remember(name)
    assert cache.knows(b"a")
    cache.remember(b"d")
    assert len(cache) == 3
    assert [cache.knows(name) for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
