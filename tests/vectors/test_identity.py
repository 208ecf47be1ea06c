"""The known answers of `proto/vectors/identity.json`."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qustream.errors import QuStreamError
from qustream.identity import keystore
from qustream.identity.enrolment import check_certificate, open_hpke_statement
from qustream.identity.hpke import HpkeKey
from qustream.identity.sealing import derive, unseal
from qustream.identity.signing import SigningKey, verify
from qustream.identity.words import UserSecrets
from qustream.model.base import Signed
from qustream.model.ids import IdKind, account_id, to_text

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/identity.json").read_text())
raw = bytes.fromhex
# KEM X-Wing 0x647a, KDF HKDF-SHA256 1, AEAD AES-256-GCM 2.
SUITE = b"HPKE" + raw("647a00010002")


@pytest.mark.parametrize("case", VECTORS["signing_keys"], ids=lambda case: case["seed"][:8])
def test_signing_keys(case: dict) -> None:
    public = SigningKey(raw(case["seed"])).public
    assert public.ed25519.hex() == case["ed25519"]
    assert hashlib.sha256(public.mldsa).hexdigest() == case["mldsa_sha256"]
    assert public.mldsa.hex() == case.get("mldsa", public.mldsa.hex())
    assert public.id.hex() == case["id"]


@pytest.mark.parametrize("case", VECTORS["signatures"]["cases"], ids=lambda case: case["purpose"])
def test_signatures(case: dict) -> None:
    public = SigningKey(raw(VECTORS["signatures"]["seed"])).public
    assert verify(public, case["purpose"], raw(case["message"]), raw(case["signature"]))
    assert not verify(public, "another", raw(case["message"]), raw(case["signature"]))


def test_a_statement_is_what_both_halves_sign() -> None:
    case = VECTORS["signatures"]["cases"][0]
    public = SigningKey(raw(VECTORS["signatures"]["seed"])).public
    full = b"qustream/1/" + case["purpose"].encode()
    assert raw(case["statement"]) == bytes([len(full)]) + full + public.ed25519 + public.mldsa + raw(case["message"])


@pytest.mark.parametrize("case", VECTORS["hpke"]["seals"], ids=lambda case: case["plaintext"][:8] or "empty")
def test_hpke_seals(case: dict) -> None:
    key = HpkeKey(raw(case["seed"]))
    assert key.public.hex() == VECTORS["hpke"]["public"]
    assert case["sealed"].startswith(VECTORS["hpke"]["xwing"]["enc"])
    assert key.open(raw(case["sealed"]), raw(case["info"])) == raw(case["plaintext"])


def labelled_extract(salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + SUITE + label + secret, "sha256")


def labelled_expand(key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # One HMAC gives the 32 bytes at most that are asked for here.
    info = length.to_bytes(2, "big") + b"HPKE-v1" + SUITE + label + info
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


@pytest.mark.parametrize("case", VECTORS["hpke"]["seals"], ids=lambda case: case["plaintext"][:8] or "empty")
def test_hpke_seals_are_what_rfc_9180_makes_of_the_x_wing_secret(case: dict) -> None:
    xwing = VECTORS["hpke"]["xwing"]
    context = b"\x00" + labelled_extract(b"", b"psk_id_hash", b"") + labelled_extract(b"", b"info_hash", raw(case["info"]))
    secret = labelled_extract(raw(xwing["shared_secret"]), b"secret", b"")
    key, nonce = labelled_expand(secret, b"key", context, 32), labelled_expand(secret, b"base_nonce", context, 12)
    assert raw(case["sealed"]) == raw(xwing["enc"]) + AESGCM(key).encrypt(nonce, raw(case["plaintext"]), b"")


@pytest.mark.parametrize("case", VECTORS["derived"], ids=lambda case: f"{case['purpose']} {case['length']}")
def test_derived_keys(case: dict) -> None:
    assert derive(raw(case["key"]), case["purpose"], case["length"]).hex() == case["derived"]


@pytest.mark.parametrize("case", VECTORS["sealed"], ids=lambda case: case["aad"])
def test_sealed_values(case: dict) -> None:
    assert unseal(raw(case["key"]), raw(case["sealed"]), raw(case["aad"])) == raw(case["plaintext"])


@pytest.mark.parametrize("case", VECTORS["keystores"], ids=lambda case: case["kind"])
def test_keystores(case: dict, tmp_path: Path) -> None:
    path = tmp_path / "keystore"
    path.write_bytes(raw(case["file"]))
    path.chmod(0o600)
    assert keystore.read(path, case["kind"], raw(case["passphrase"])) == raw(case["secret"])


@pytest.mark.parametrize("case", VECTORS["words"], ids=lambda case: case["words"].split()[0])
def test_words(case: dict) -> None:
    user = UserSecrets.from_words(case["words"])
    assert user.master.seed.hex() == case["master_seed"]
    assert user.account.seed.hex() == case["account_seed"]
    assert user.hpke.seed.hex() == case["hpke_seed"]
    assert [user.ruid_key_of(generation).hex() for generation in range(3)] == case["ruid_keys"]
    assert user.ruid_key.hex() == case["ruid_keys"][0]
    assert to_text(IdKind.USER, user.master.id) == case["user"]
    assert to_text(IdKind.ACCOUNT, account_id(user.account.id)) == case["account"]


@pytest.mark.parametrize("case", VECTORS["words_refused"], ids=lambda case: case["why"])
def test_refused_words(case: dict) -> None:
    with pytest.raises(QuStreamError) as caught:
        UserSecrets.from_words(case["words"])
    assert caught.value.code == "E-PASSPHRASE-WORDS"


def test_a_device_certificate() -> None:
    case = VECTORS["certificate"]
    master, device = SigningKey(raw(case["master_seed"])), SigningKey(raw(case["device_seed"]))
    signed = Signed(raw(case["body"]), raw(case["signature"]))
    opened = check_certificate(signed, master.public, now_ms=case["issued_ms"])
    assert (opened.user, opened.device_key) == (master.id, device.public)
    fields = (opened.stripe, opened.label, opened.issued_ms, opened.expires_ms)
    assert fields == (case["stripe"], case["label"], case["issued_ms"], case["expires_ms"])
    with pytest.raises(QuStreamError) as caught:
        check_certificate(signed, master.public, now_ms=case["expires_ms"])
    assert caught.value.code == "E-DEVICE-EXPIRED"


def test_an_hpke_key_statement() -> None:
    case = VECTORS["hpke_statement"]
    master = SigningKey(raw(VECTORS["certificate"]["master_seed"])).public
    assert open_hpke_statement(Signed(raw(case["body"]), raw(case["signature"])), master).hex() == VECTORS["hpke"]["public"]
