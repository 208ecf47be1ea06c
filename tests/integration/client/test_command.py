"""The command `qustream` as somebody types it: real processes, real nodes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from support.lies import COMMUNITY, LETTER, another_block, answering, collected, refusing
from support.typed import Typed
from support.village import PASSPHRASE, Node, User, Village


@pytest.fixture
def a(net: Village, alice: User, tmp_path: Path) -> Typed:
    typed = Typed(alice, tmp_path / "alice")
    (typed.folder / "letter.txt").write_bytes(LETTER)
    return typed


@pytest.fixture
def b(net: Village, bob: User, tmp_path: Path) -> Typed:
    return Typed(bob, tmp_path / "bob")


# -- files ----------------------------------------------------------------------------------------------------------------


def test_encrypt_and_open_a_file(a: Typed, b: Typed) -> None:
    out, err = a("encrypt", "letter.txt", "--to", b.user.text, "--explain")
    assert out == ""
    assert "letter.txt.qs: 2.7 kB for 1 recipient, request " in err
    assert err.count("EMULATOR") == 6
    envelope = a.folder / "letter.txt.qs"
    assert envelope.stat().st_mode & 0o777 == 0o600
    out, err = b("open", envelope, "-o", "copy.txt")
    assert f"copy.txt: 2.7 kB from {a.user.text} (alice)" in err
    assert (b.folder / "copy.txt").read_bytes() == LETTER
    assert (b.folder / "copy.txt").stat().st_mode & 0o777 == 0o600


def test_without_o_the_suffix_comes_and_goes_and_nothing_is_replaced(a: Typed) -> None:
    a("encrypt", "letter.txt", "--to", a.user.text)
    _, err = a("encrypt", "letter.txt", "--to", a.user.text, code=78)
    assert "there is a file already" in err
    a("encrypt", "letter.txt", "--to", a.user.text, "--overwrite")
    _, err = a("open", "letter.txt.qs", code=78)
    assert "there is a file already" in err
    (a.folder / "letter.txt").write_bytes(b"overwritten")
    a("open", "letter.txt.qs", "--overwrite")
    assert (a.folder / "letter.txt").read_bytes() == LETTER
    (a.folder / "letter.txt.qs").rename(a.folder / "envelope")
    _, err = a("open", "envelope", code=2)
    assert "-o" in err
    assert a.files() == ["envelope", "letter.txt"]


def test_the_name_of_a_file_may_be_a_strangers(a: Typed, b: Typed) -> None:
    (a.folder / "letter").write_bytes(LETTER)
    a("encrypt", "letter", "--to", b.user.text)
    names = ("x\x1b]0;renamed\x07.qs", "..qs", "...qs")
    for name in names:
        (b.folder / name).write_bytes((a.folder / "letter.qs").read_bytes())
    for name in names[1:]:
        assert "-o" in b("open", name, code=2)[1]
    out, err = b("open", "no\x1b]0;thing\x07.qs", code=78)
    assert "\x1b" not in out + err
    for command in ("verify", "open"):
        out, err = b(command, names[0])
        assert "\x1b" not in out + err
        assert "?]0;renamed?" in out + err
    assert sorted(b.files()) == sorted((*names, names[0].removesuffix(".qs")))


def test_streams(a: Typed, b: Typed) -> None:
    envelope, err = a.raw("encrypt", "-", "--to", b.user.text, "--lifetime", "1h", stdin=LETTER)
    assert envelope.startswith(b"QUSTREAM")
    assert "-: 2.7 kB for 1 recipient" in err
    facts, _ = b("inspect", "-", "--json", stdin=envelope)
    assert json.loads(facts)["sender"] == a.user.text
    b("verify", "-", stdin=envelope)
    copy, _ = b.raw("open", "-", "-o", "-", stdin=envelope)
    assert copy == LETTER
    assert b.files() == []


def test_json_for_programs(a: Typed, b: Typed) -> None:
    done = json.loads(a("encrypt", "letter.txt", "--to", b.user.text, "--json")[0])
    assert done["size_bytes"] == len(LETTER)
    assert done["grant"].startswith("qg1")
    # A busy machine may keep an honest node from answering the command in time.
    assert [suspect for suspect in done["suspects"] if suspect["is_fault"]] == []
    assert set(done["unacknowledged"]) <= {block["node"] for block in done["blocks"]}
    assert [block["node_class"] for block in done["blocks"]].count("foundation") == 3
    assert all(block["node"].startswith("qn1") and block["server"].startswith("qr1") and block["emulated"] for block in done["blocks"])
    report = json.loads(b("verify", a.folder / "letter.txt.qs", "--blocks", "--json")[0])
    assert (report["sender"], len(report["blocks"])) == (a.user.text, 6)
    opened, err = b.raw("open", a.folder / "letter.txt.qs", "-o", "-", "--json")
    assert opened == LETTER  # content on standard output, the report beside it
    assert json.loads(err)["sender_device"].startswith("qd1")


def test_a_suspect_is_shown(a: Typed, b: Typed) -> None:
    liar = a.user.next_ranks()[COMMUNITY][0]
    liar.twist = answering(another_block)
    _, err = a("encrypt", "letter.txt", "--to", b.user.text)
    assert "WARNING: another node served instead of qn1" in err
    assert "E-BLOCK-OPEN" in err
    liar.twist = refusing("E-NODE-FULL")
    done = json.loads(a("encrypt", "letter.txt", "--to", b.user.text, "--overwrite", "--json")[0])
    for suspect in done["suspects"]:
        assert not suspect["is_fault"]
        assert suspect["code"] in ("E-NODE-FULL", "E-DEADLINE")  # the latter of an honest one, if the machine is busy
        assert suspect["node"].startswith("qn1")


def test_pad_mode(a: Typed, b: Typed) -> None:
    a("encrypt", "letter.txt", "--to", b.user.text, "--pad")
    out, _ = b("inspect", a.folder / "letter.txt.qs")
    assert "mode            pad, 2.7 kB" in out
    b("open", a.folder / "letter.txt.qs", "-o", "copy")
    assert (b.folder / "copy").read_bytes() == LETTER
    (a.folder / "large").write_bytes(bytes(196_609))
    _, err = a("encrypt", "large", "--to", b.user.text, "--pad", code=78)
    assert "E-PAD-SIZE" in err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("encrypt", "letter.txt"), 2, "--to"),
        (("encrypt", "letter.txt", "--to", "nobody"), 78, "E-ID-TEXT"),
        (("encrypt", "none.txt", "--to", "BOB"), 78, "E-FILE"),
        (("encrypt", "letter.txt", "--to", "BOB", "--lifetime", "week"), 2, "7d"),
        (("encrypt", "letter.txt", "--to", "BOB", "--lifetime", "31d"), 1, "E-LIFETIME"),
        (("open", "letter.txt", "-o", "x"), 1, "E-ENVELOPE-FORMAT"),
        (("verify", "none.qs"), 78, "E-FILE"),
        (("inspect", "letter.txt"), 1, "E-ENVELOPE-FORMAT"),
        (("revoke", "letter.txt"), 1, "E-ENVELOPE-FORMAT"),
        (("--home", "nowhere", "whoami"), 78, "E-HOME"),
        (("--home", "nowhere", "encrypt", "letter.txt", "--to", "BOB"), 78, "E-HOME"),
        (("whoami", "--offer", "5"), 2, "--offer-file"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_exit_code(a: Typed, b: Typed, arguments: tuple[str, ...], code: int, word: str) -> None:
    typed = [b.user.text if argument == "BOB" else argument for argument in arguments]
    _, err = a(*typed, code=code)
    assert word in err
    assert a.files() == ["letter.txt"]


def test_a_class_that_is_down_is_temporary(net: Village, a: Typed, b: Typed) -> None:
    for node in net.of(COMMUNITY):
        node.stop()
    _, err = a("encrypt", "letter.txt", "--to", b.user.text, code=75)
    assert "E-CLASS-SHORT" in err
    assert "community" in err
    assert err.count("Connection refused") == 5
    assert a.files() == ["letter.txt"]


# -- examining ------------------------------------------------------------------------------------------------------------


def test_inspect_needs_neither_keys_nor_network(net: Village, a: Typed, b: Typed) -> None:
    a("encrypt", "letter.txt", "--to", b.user.text, "--to", a.user.text)
    for node in net.nodes:
        node.stop()
    out, _ = b("--home", "nowhere", "inspect", a.folder / "letter.txt.qs")
    assert out.count("recipients") == 2
    assert out.count("foundation qn1") == 3
    assert f"sender          {a.user.text}" in out
    assert "mode            stream" in out


def test_verify_says_what_holds_and_exits_accordingly(net: Village, a: Typed, b: Typed) -> None:
    a("encrypt", "letter.txt", "--to", b.user.text)
    envelope = a.folder / "letter.txt.qs"
    out, _ = b("verify", envelope, "--blocks")
    assert f"sent by {a.user.text} (alice)" in out
    assert "content as signed" in out
    assert out.count("samples healthy") == 6
    done = json.loads(b("verify", envelope, "--blocks", "--json")[0])
    node = next(node for node in net.nodes if done["blocks"][0]["node"].endswith(_text(node.id)[-20:]))
    node.twist = collected(another_block)
    out, _ = b("verify", envelope, "--blocks", code=1)
    assert "NOT verified: qn1" in out
    node.stop()
    out, _ = b("verify", envelope, "--blocks", code=75)
    assert "E-PEER-UNREACHABLE" in out
    data = bytearray(envelope.read_bytes())
    data[-4000] ^= 1
    (b.folder / "changed.qs").write_bytes(data)
    _, err = b("verify", "changed.qs", code=1)
    assert "E-ENVELOPE-SENDER" in err


def _text(node: bytes) -> str:
    from qustream.model.ids import IdKind, to_text

    return to_text(IdKind.NODE, node)


def test_revoke(net: Village, a: Typed, b: Typed) -> None:
    a("encrypt", "letter.txt", "--to", b.user.text)
    envelope = a.folder / "letter.txt.qs"
    _, err = b("revoke", envelope, code=1)
    assert "E-NOT-SENDER" in err
    for node in net.nodes:
        node.twist = refusing("E-NODE-READONLY")
    out, _ = a("revoke", envelope, code=75)
    assert out.count("NOT erased: E-NODE-READONLY") == 6
    assert "it can still be opened" in out
    for node in net.nodes:
        node.twist = None
    out, _ = a("revoke", envelope)
    assert out.count("erased 20") == 6
    assert "cannot open it any more" in out
    done = json.loads(a("revoke", envelope, "--json")[0])
    assert done["holds"]
    assert len(done["nodes"]) == 6
    _, err = b("open", envelope, "-o", "x", code=1)
    assert "E-NOT-HELD" in err
    assert "revoked" in err


# -- interrupted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_nodes_are_asked(net: Village, a: Typed, b: Typed, sign: signal.Signals, code: int) -> None:
    overdue: list[bool] = []  # of each request when its asker left

    async def waiting(node: Node, body: Any, honest: Any) -> bytes:
        deadline = trio.current_effective_deadline()
        try:
            await trio.sleep_forever()
        finally:
            overdue.append(trio.current_time() >= deadline)

    for node in net.nodes:
        node.twist = waiting
    process = a.start("encrypt", "letter.txt", "--to", b.user.text)
    _until(lambda: sum(len(node.asked) for node in net.nodes) >= 6)
    assert len(a.files()) == 2  # the envelope in the making
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    _until(lambda: len(overdue) >= sum(len(node.asked) for node in net.nodes))
    assert not any(overdue)  # it did not wait for any of them
    assert b"Traceback" not in err
    assert a.files() == ["letter.txt"]


def test_interrupted_amid_the_content(net: Village, a: Typed, b: Typed) -> None:
    """Input that never ends: the envelope is being written when Ctrl-C comes."""
    process = a.start("encrypt", "-", "--to", b.user.text, "-o", "never.qs", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for _ in range(40):
        process.stdin.write(bytes(1 << 16))
    process.stdin.flush()
    _until(lambda: any("never" in name and (a.folder / name).stat().st_size for name in a.files()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.decode().strip().endswith("qustream: interrupted")
    assert a.files() == ["letter.txt"]


def test_a_reader_that_goes_away(a: Typed, b: Typed) -> None:
    (a.folder / "big").write_bytes(bytes(4 << 20))
    a("encrypt", "big", "--to", b.user.text)
    process = b.start("open", a.folder / "big.qs", "-o", "-")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert b"Traceback" not in err
    assert b"Exception" not in err


def test_a_disk_that_is_full_behind_standard_output(a: Typed, b: Typed) -> None:
    with open("/dev/full", "wb") as full:
        process = a.start("encrypt", "letter.txt", "--to", b.user.text, "-o", "-", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 78, err
    assert b"E-DISK-FULL" in err
    assert b"Traceback" not in err


def _until(holds: Any) -> None:
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


# -- who one is -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def new(net: Village, a: Typed, tmp_path: Path) -> Typed:
    """Somebody with a shell and no directory yet."""
    typed = Typed(a.user, tmp_path / "new")
    typed.environment["QUSTREAM_HOME"] = str(typed.folder / "home")
    return typed


def test_init_shows_the_words_once_and_whoami_knows_the_rest(net: Village, new: Typed) -> None:
    network = ("--network", net.path, "--network-key", net.network_key)
    out, err = new("init", *network, "--label", "laptop")
    user = out.strip()
    words = re.search(r"\n    ([a-z]+(?: [a-z]+){11})\n", err)
    assert user.startswith("qu1")
    assert words
    assert not any(words[1].encode() in path.read_bytes() for path in (new.folder / "home").rglob("*") if path.is_file())
    out, _ = new("whoami")
    assert user in out
    assert "(laptop, number 0)" in out
    assert "not enrolled" in out
    assert "none that is good now" in out
    out, _ = new("whoami", "--json", "--enrolment", "enrolment", "--offer", "7", "--offer-file", "offer")
    answer = json.loads(out)
    assert (answer["user"], answer["enrolled"], answer["grants"], answer["alerts"]) == (user, False, [], [])
    assert "E-REGISTRY-UNKNOWN" in answer["trouble"]
    _enrol(net, new, user)
    answer = json.loads(new("whoami", "--json")[0])
    assert answer["enrolled"]
    assert [grant["left"] for grant in answer["grants"]] == [7]
    assert answer["trouble"] == ""
    _, err = new("init", *network, code=78)
    assert "E-KEYSTORE-EXISTS" in err

    again = Typed(new.user, new.folder.parent / "again")
    again.environment["QUSTREAM_HOME"] = str(again.folder / "home")
    out, err = again("init", *network, "--restore", "--stripe", "1", stdin=words[1].encode() + b"\n")
    assert out.strip() == user
    assert words[1] not in err
    again("whoami", "--enrolment", "enrolment")
    answer = json.loads(again("whoami", "--json")[0])
    assert (answer["user"], answer["stripe"], answer["enrolled"]) == (user, 1, False)


def _enrol(net: Village, typed: Typed, user: str) -> None:
    from qustream.identity.enrolment import decode_enrolment
    from qustream.identity.grants import GrantOffer
    from qustream.model.ids import IdKind, from_text
    from qustream.wire.codec import decode

    net.writer.enrol(decode_enrolment((typed.folder / "enrolment").read_bytes()), "")
    offer = decode((typed.folder / "offer").read_bytes(), GrantOffer, max_bytes=1000)
    net.writer.grant(offer, from_text(user, IdKind.USER), lifetime_max_ms=86_400_000, epoch=0)
    net.writer.write()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"--network": "none.toml"}, "E-FILE"),
        ({"--network-key": "qnet1nonsense"}, "E-ID-TEXT"),
        ({"--network-key": "KEY OF ANOTHER"}, "E-REGISTRY-SIGNATURE"),
        ({"--label": ""}, "E-CONFIG"),
    ],
)
def test_init_finds_a_wrong_network_before_anything_is_made(net: Village, new: Typed, options: dict[str, str], word: str) -> None:
    from qustream.model.ids import IdKind, to_text

    right = {"--network": str(net.path), "--network-key": net.network_key, "--label": "x"}
    given = {name: to_text(IdKind.NETWORK, bytes(32)) if "ANOTHER" in value else value for name, value in (right | options).items()}
    _, err = new("init", *(part for pair in given.items() for part in pair), code=78)
    assert word in err
    assert not (new.folder / "home" / "device.keystore").exists()


@pytest.mark.parametrize("words", ["", "one two three", "zoo " * 12])
def test_restore_refuses_what_are_no_words(net: Village, new: Typed, words: str) -> None:
    _, err = new("init", "--network", net.path, "--network-key", net.network_key, "--restore", stdin=words.encode() + b"\n", code=78)
    assert "E-PASSPHRASE-WORDS" in err
    assert "zoo" not in err
    assert not (new.folder / "home").exists()


def test_twenty_four_words(net: Village, new: Typed) -> None:
    _, err = new("init", "--network", net.path, "--network-key", net.network_key, "--words", "24")
    assert re.search(r"\n    ([a-z]+(?: [a-z]+){23})\n", err)


def test_the_passphrase(a: Typed, new: Typed, net: Village) -> None:
    del a.environment["CREDENTIALS_DIRECTORY"]
    _, err = a("whoami", code=78)
    assert "E-SECRET-MISSING" in err
    secret = a.folder / "secret"
    secret.write_bytes(b"wrong")
    secret.chmod(0o644)
    _, err = a("--passphrase-file", "secret", "whoami", code=78)
    assert "E-KEYSTORE-MODE" in err
    secret.chmod(0o600)
    _, err = a("--passphrase-file", "secret", "whoami", code=78)
    assert "E-KEYSTORE-OPEN" in err
    secret.write_bytes(PASSPHRASE)
    a("--passphrase-file", "secret", "whoami")


def test_an_alert_is_shown(net: Village, tmp_path: Path) -> None:
    from qustream.identity.user import UserHome

    carol = net.user("carol")
    client = carol.client()
    grant = client.grants()[0][0]
    thief = UserHome.create(tmp_path / "thief", carol.words, "thief", b"x", now_ms=net.clock_ms())
    thief.adopt_grant(grant, nonce=carol.device.grant_nonce(grant.grant))
    robbed = User(net, tmp_path, "", thief)
    from support.lies import refused, sealed

    refused(lambda: sealed(robbed, robbed), "E-DEVICE-UNKNOWN")
    out, _ = Typed(carol, tmp_path / "carol")("whoami")
    assert out.count("ALERT") == 1  # not one a node
    assert "E-DEVICE-UNKNOWN" in out
    assert "refused up to 1 times by a node" in out


def test_help_and_version(a: Typed) -> None:
    out, _ = a("--help")
    for command in ("init", "whoami", "encrypt", "open", "verify", "inspect", "revoke", "log"):
        assert command in out
        assert "Usage" in a(command, "-h")[0]
    assert re.fullmatch(r"qustream, version \d+\.\d+\.\d+\n", a("--version")[0])
