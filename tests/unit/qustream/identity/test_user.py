"""A user's home: made from the words, opened without them, and holding neither the words nor the master."""

import os
import pickle
import stat
import threading

import pytest

from qustream.errors import QuStreamError
from qustream.identity import keystore, user
from qustream.identity.enrolment import CERTIFICATE_LIFETIME_MS, check_certificate, check_enrolment, decode_enrolment
from qustream.identity.hpke import hpke_seal
from qustream.identity.signing import verify
from qustream.identity.user import UserHome
from qustream.identity.words import UserSecrets
from qustream.model.network import Grant
from qustream.rules.merkle import leaf_hash, root_of_path
from qustream.rules.ruid import ruid

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
OTHERS = "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"
SECRETS = UserSecrets.from_words(WORDS)
PASSPHRASE = b"correct horse"
NOW = 1_700_000_000_000


def refused(code, call, *arguments, **named):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    for word in WORDS.split():
        assert word not in str(caught.value).split()
    return caught.value.detail


@pytest.fixture
def home(tmp_path):
    return UserHome.create(tmp_path / "alice", WORDS, "laptop", PASSPHRASE, now_ms=NOW)


def granted(home, offer, **changes):
    fields = {"grant": bytes([9] * 32), "owner": home.user, "root": offer.root, "count": offer.count, "stripes": offer.stripes}
    return Grant(**{**fields, "epoch": 0, "lifetime_max_ms": 0, "pinned": None, **changes})


def test_what_is_made_is_opened(home):
    again = UserHome.load(home.directory, PASSPHRASE, now_ms=NOW)
    assert again.user == home.user == SECRETS.master.id
    assert again.device.public == home.device.public
    assert again.certificate == home.certificate
    assert again.ruid_key == home.ruid_key == SECRETS.ruid_key
    assert again.hpke.public == home.hpke.public == SECRETS.hpke.public
    assert (again.label, again.stripe) == ("laptop", 0)
    assert again.expires_ms == NOW + CERTIFICATE_LIFETIME_MS
    assert again.enrolment() == home.enrolment() == decode_enrolment((home.directory / "enrolment.bin").read_bytes())


def test_the_enrolment_holds_and_names_the_device(home):
    certificate = check_enrolment(home.enrolment(), now_ms=NOW)
    assert certificate.device_key == home.device.public
    assert verify(certificate.device_key, "x", b"message", home.device.sign("x", b"message"))
    assert home.hpke.open(hpke_seal(SECRETS.hpke.public, b"to the user", b""), b"") == b"to the user"


def test_neither_words_nor_master_nor_any_secret_lie_on_the_disk(home):
    home.new_grant_offer(4, NOW)
    stored = b"".join(path.read_bytes() for path in home.directory.rglob("*") if path.is_file())
    secrets = [SECRETS.master.seed, SECRETS.account.seed, SECRETS.hpke.seed, SECRETS.ruid_key, home.device.seed]
    for secret in [*secrets, b"winner", PASSPHRASE]:
        assert secret not in stored
    opened = keystore.read(home.directory / "device.keystore", "user-device", PASSPHRASE)
    for secret in [SECRETS.master.seed, SECRETS.account.seed, b"winner"]:
        assert secret not in opened


def test_the_directory_is_private(home):
    assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((home.directory / "device.keystore").stat().st_mode) == 0o600
    (home.directory / "device.keystore").chmod(0o644)
    refused("E-KEYSTORE-MODE", UserHome.load, home.directory, PASSPHRASE)


def test_nothing_secret_is_shown(home):
    shown = repr(home)
    assert "qu1" in shown
    for secret in (home.device.seed, home.hpke.seed, home.ruid_key):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(home)


def test_a_device_is_never_overwritten(home):
    before = {path: path.read_bytes() for path in home.directory.rglob("*") if path.is_file()}
    refused("E-KEYSTORE-EXISTS", UserHome.create, home.directory, OTHERS, "x", PASSPHRASE, now_ms=NOW)
    assert {path: path.read_bytes() for path in home.directory.rglob("*") if path.is_file()} == before


def test_of_two_who_create_at_once_one_wins_whole(tmp_path):
    outcomes = []

    def create(words):
        try:
            outcomes.append(UserHome.create(tmp_path / "a", words, "x", PASSPHRASE, now_ms=NOW).user)
        except QuStreamError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=create, args=(words,)) for words in (WORDS, OTHERS) * 3]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert outcomes.count("E-KEYSTORE-EXISTS") == 5
    assert UserHome.load(tmp_path / "a", PASSPHRASE).user in outcomes


def test_the_grants_of_a_lost_keystore_are_not_mixed_with_another_device(home):
    home.new_grant_offer(4, NOW)
    (home.directory / "device.keystore").unlink()
    refused("E-KEYSTORE-EXISTS", UserHome.create, home.directory, WORDS, "x", PASSPHRASE, now_ms=NOW)


def test_a_creation_that_was_cut_short_can_be_repeated(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(keystore, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            UserHome.create(tmp_path / "a", OTHERS, "x", PASSPHRASE, now_ms=NOW)
    UserHome.create(tmp_path / "a", WORDS, "x", PASSPHRASE, now_ms=NOW)
    assert UserHome.load(tmp_path / "a", PASSPHRASE).user == SECRETS.master.id


@pytest.mark.parametrize(
    ("words", "named", "code"),
    [
        ("not words", {}, "E-PASSPHRASE-WORDS"),
        (WORDS, {"stripe": 256}, "E-CONFIG"),
        (WORDS, {"stripe": -1}, "E-CONFIG"),
        (WORDS, {"ruid_generation": 64}, "E-CONFIG"),
    ],
)
def test_a_refused_creation_leaves_nothing(tmp_path, words, named, code):
    refused(code, UserHome.create, tmp_path / "a", words, "x", PASSPHRASE, now_ms=NOW, **named)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_hold_a_directory(tmp_path):
    (tmp_path / "file").touch()
    refused("E-FILE", UserHome.create, tmp_path / "file", WORDS, "x", PASSPHRASE, now_ms=NOW)


def test_a_wrong_passphrase_opens_nothing(home):
    refused("E-KEYSTORE-OPEN", UserHome.load, home.directory, b"wrong")
    refused("E-FILE", UserHome.load, home.directory / "absent", PASSPHRASE)


def test_an_expired_device_is_refused_and_renewed(home):
    later = NOW + CERTIFICATE_LIFETIME_MS + 1
    refused("E-DEVICE-EXPIRED", UserHome.load, home.directory, PASSPHRASE, now_ms=later)
    expired = UserHome.load(home.directory, PASSPHRASE)
    refused("E-DEVICE-EXPIRED", expired.require_valid, later)
    refused("E-DEVICE-EXPIRED", expired.new_grant_offer, 4, later)
    certificate = expired.renew(WORDS, later)
    assert certificate == expired.certificate != home.certificate
    renewed = UserHome.load(home.directory, PASSPHRASE, now_ms=later)
    assert renewed.certificate == certificate
    assert renewed.expires_ms == later + CERTIFICATE_LIFETIME_MS
    assert renewed.device.public == home.device.public
    assert (renewed.stripe, renewed.label) == (home.stripe, home.label)


def test_the_words_of_another_user_renew_nothing(home):
    before = (home.directory / "enrolment.bin").read_bytes()
    assert "another user" in refused("E-PASSPHRASE-WORDS", home.renew, OTHERS, NOW)
    refused("E-PASSPHRASE-WORDS", home.renew, "nonsense", NOW)
    refused("E-PASSPHRASE-WORDS", home.rotate_ruid_key, OTHERS, PASSPHRASE)
    assert (home.directory / "enrolment.bin").read_bytes() == before


def test_a_second_device_is_the_same_user_with_another_key(home, tmp_path):
    phone = UserHome.link(tmp_path / "phone", WORDS, "phone", PASSPHRASE, stripe=1, now_ms=NOW, user=home.user)
    assert phone.user == home.user
    assert phone.stripe == 1
    assert phone.device.id != home.device.id
    assert phone.ruid_key == home.ruid_key
    assert phone.hpke.public == home.hpke.public
    check_certificate(phone.certificate, home.enrolment().master, now_ms=NOW)
    refused("E-PASSPHRASE-WORDS", UserHome.link, tmp_path / "x", OTHERS, "x", PASSPHRASE, stripe=1, now_ms=NOW, user=home.user)
    assert not (tmp_path / "x").exists()


def test_files_of_two_devices_are_not_mixed(home, tmp_path):
    phone = UserHome.create(tmp_path / "phone", WORDS, "phone", PASSPHRASE, stripe=1, now_ms=NOW)
    stranger = UserHome.create(tmp_path / "bob", OTHERS, "bob", PASSPHRASE, now_ms=NOW)
    for other in (phone, stranger):
        (home.directory / "enrolment.bin").write_bytes((other.directory / "enrolment.bin").read_bytes())
        assert "together" in refused("E-DATA-CORRUPT", UserHome.load, home.directory, PASSPHRASE)


@pytest.mark.parametrize("at", [0, 10, 1000, 2100, 8000, -1])
def test_a_damaged_enrolment_is_named(home, at):
    path = home.directory / "enrolment.bin"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert "enrolment.bin" in refused("E-DATA-CORRUPT", UserHome.load, home.directory, PASSPHRASE)


def test_a_grant_from_offer_to_proof(home):
    offer = home.new_grant_offer(33, NOW)
    assert (offer.count, offer.stripes) == (33, 1)
    grant = granted(home, offer)
    home.adopt_grant(grant)
    again = UserHome.load(home.directory, PASSPHRASE)
    for each in (home, again):
        j = each.next_index(grant.grant)
        identifier, path = each.ruid(grant.grant, j)
        assert identifier == ruid(SECRETS.ruid_key, home.grant_nonce(grant.grant), j)
        assert root_of_path(leaf_hash(identifier), j, 33, path) == grant.root
    for j in (-1, 33):
        with pytest.raises(ValueError, match="index"):
            home.ruid(grant.grant, j)


def test_every_offer_is_another(home):
    assert home.new_grant_offer(4, NOW).root != home.new_grant_offer(4, NOW).root


@pytest.mark.parametrize(("count", "stripes"), [(0, 1), ((1 << 20) + 1, 1), (4, 0), (4, 257), (-5, 1)])
def test_impossible_offers_are_refused(home, count, stripes):
    refused("E-CONFIG", home.new_grant_offer, count, NOW, stripes=stripes)
    assert home.grants.records() == []


def test_a_grant_of_another_user_is_not_adopted(home):
    offer = home.new_grant_offer(4, NOW)
    refused("E-GRANT-UNKNOWN", home.adopt_grant, granted(home, offer, owner=bytes(32)))
    refused("E-GRANT-UNKNOWN", home.adopt_grant, granted(home, offer, root=bytes(32)))
    refused("E-GRANT-UNKNOWN", home.next_index, bytes([9] * 32))


def test_two_devices_share_a_grant_without_meeting(home, tmp_path):
    phone = UserHome.create(tmp_path / "phone", WORDS, "phone", PASSPHRASE, stripe=1, now_ms=NOW)
    grant = granted(home, home.new_grant_offer(11, NOW, stripes=2))
    home.adopt_grant(grant)
    refused("E-GRANT-UNKNOWN", phone.adopt_grant, grant)
    refused("E-GRANT-UNKNOWN", phone.adopt_grant, grant, nonce=bytes(32))
    refused("E-GRANT-UNKNOWN", phone.adopt_grant, grant, nonce=b"short")
    phone.adopt_grant(grant, nonce=home.grant_nonce(grant.grant))
    own = [home.next_index(grant.grant) for _ in range(6)]
    theirs = [phone.next_index(grant.grant) for _ in range(5)]
    assert sorted(own + theirs) == list(range(11))
    refused("E-GRANT-EXHAUSTED", home.next_index, grant.grant)
    refused("E-GRANT-EXHAUSTED", phone.next_index, grant.grant)
    assert phone.ruid(grant.grant, 3) == home.ruid(grant.grant, 3)


def test_a_second_device_offers_for_both_unless_told(home, tmp_path):
    phone = UserHome.create(tmp_path / "phone", WORDS, "phone", PASSPHRASE, stripe=1, now_ms=NOW)
    assert phone.new_grant_offer(4, NOW).stripes == 2


def test_rotation_leaves_old_grants_usable_and_new_ones_unlinked(home, tmp_path):
    old = granted(home, home.new_grant_offer(8, NOW))
    home.adopt_grant(old)
    before = home.ruid(old.grant, 0)
    refused("E-KEYSTORE-OPEN", home.rotate_ruid_key, WORDS, b"wrong")
    assert home.rotate_ruid_key(WORDS, PASSPHRASE) == 1
    assert home.ruid_key == SECRETS.ruid_key_of(1)
    new = granted(home, home.new_grant_offer(8, NOW), grant=bytes([8] * 32))
    home.adopt_grant(new)
    again = UserHome.load(home.directory, PASSPHRASE)
    assert again.ruid(old.grant, 0) == before
    identifier, path = again.ruid(new.grant, 0)
    assert identifier == ruid(SECRETS.ruid_key_of(1), again.grant_nonce(new.grant), 0)
    assert root_of_path(leaf_hash(identifier), 0, 8, path) == new.root
    phone = UserHome.create(tmp_path / "p", WORDS, "p", PASSPHRASE, stripe=1, now_ms=NOW, ruid_generation=1)
    for grant in (old, new):
        phone.adopt_grant(grant, nonce=home.grant_nonce(grant.grant))
        assert phone.ruid(grant.grant, 5) == again.ruid(grant.grant, 5)


def test_rotations_are_bounded(tmp_path):
    home = UserHome.create(tmp_path / "a", WORDS, "x", PASSPHRASE, now_ms=NOW, ruid_generation=63)
    assert UserHome.load(home.directory, PASSPHRASE).ruid_key == SECRETS.ruid_key_of(63)
    refused("E-CONFIG", home.rotate_ruid_key, WORDS, PASSPHRASE)


def test_the_trees_in_memory_are_bounded(home, monkeypatch):
    monkeypatch.setattr(user, "TREE_LEAVES_MAX", 20)
    grants = []
    for number in range(4):
        grant = granted(home, home.new_grant_offer(8, NOW), grant=bytes([number] * 32))
        home.adopt_grant(grant)
        grants.append(grant)
    assert [tree.size for tree in home._trees.values()] == [8, 8]
    for grant in grants:
        identifier, path = home.ruid(grant.grant, 7)
        assert root_of_path(leaf_hash(identifier), 7, 8, path) == grant.root
    assert len(home._trees) == 2
    big = granted(home, home.new_grant_offer(64, NOW), grant=bytes([7] * 32))
    home.adopt_grant(big)
    assert [tree.size for tree in home._trees.values()] == [64]


def test_a_record_whose_nonce_does_not_fit_is_named(home):
    grant = granted(home, home.new_grant_offer(8, NOW))
    home.adopt_grant(grant)
    path = home.directory / "grants" / (grant.root.hex() + ".grant")
    nonce = home.grant_nonce(grant.grant)
    path.write_bytes(path.read_bytes().replace(nonce, bytes(32)))
    refused("E-DATA-CORRUPT", UserHome.load(home.directory, PASSPHRASE).ruid, grant.grant, 0)
