"""Strict reading: every mistake is refused with its path, a typo with the nearest known key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.registry.parse import parse
from qustream.registry.signed_file import open_file


@pytest.fixture
def text(network) -> str:
    return open_file(network.path.read_bytes(), network.key.id)


def refusal(text: str) -> str:
    with pytest.raises(QuStreamError) as caught:
        parse(text)
    assert caught.value.code == "E-REGISTRY-FORMAT"
    return caught.value.detail


def test_reads_what_the_writer_wrote(text, network):
    assert parse(text) == network.writer.contents


@pytest.mark.parametrize(
    ("old", "new", "path", "nearest"),
    [
        ("weight =", "wieght =", "nodes[0].wieght", "weight"),
        ("class =", "node_class =", "nodes[0].node_class", "class"),
        ("epoch_length_ms =", "epoch_lenght_ms =", "epoch_lenght_ms", "epoch_length_ms"),
        ("[[grants]]", "[[grant]]", "grant", "grants"),
        ("emulated =", "emulate =", "qrng_servers[0].emulate", "emulated"),
        ("hpke_signature =", "hpke_sig =", "users[0].hpke_sig", "hpke_signature"),
        ("revoked =", "revoke =", "users[0].devices[0].revoke", "revoked"),
        ("lifetime_max_ms =", "lifetime_ms =", "grants[0].lifetime_ms", "lifetime_max_ms"),
        ("emulated = true", "emulated = true\ndevice_authority = ''", "qrng_servers[0].device_authority", "device_authorities"),
    ],
)
def test_a_typo_is_refused_with_a_suggestion(text, old, new, path, nearest):
    assert old in text
    assert refusal(text.replace(old, new)) == f"unknown key {path}; did you mean {nearest}?"


def test_an_unknown_key_like_no_other_gets_no_suggestion(text):
    assert refusal(text.replace("weight =", "zzz =")) == "unknown key nodes[0].zzz"


@pytest.mark.parametrize(
    ("pattern", "new", "words"),
    [
        (r"weight = 1000\n", "", r"nodes\[0\].*missing.*weight"),
        (r"weight = 1000", "weight = '1000'", r"nodes\[0\].*`int`.*weight"),
        (r"weight = 1000", "weight = 0", r"nodes\[0\].*weight"),
        (r"weight = 1000", "weight = 1000.0", r"nodes\[0\].*weight"),
        (r"weight = 1000", "weight = true", r"nodes\[0\].*weight"),
        (r"class = 'community'", "class = 'guest'", r"nodes\[\d\].*guest"),
        (r"licence = '.", "licence = '-", r"nodes\[0\].*licence"),
        (r"active = true", "active = 1", r"nodes\[0\].*active"),
        (r"id = 'qn1..", "id = 'qn1", r"nodes\[0\]: id"),
        (r"key = '....", "key = '", r"nodes\[0\]: key"),
        (r"key = '.", "key = '!", r"nodes\[0\]: key: not base64"),
        (r"addresses = \[", "addresses = [3, ", r"nodes\[0\].*addresses"),
        (r"operator = '[^']+'", 'operator = "\\u001b[31m"', r"nodes\[0\]: operator"),
        (r"operator = '[^']+'", "operator = ''", r"nodes\[0\]: operator"),
        (r"format = 1", "format = 2", "format"),
        (r"seed = '..", "seed = '", "seed"),
        (r"seed = '..", "seed = 'xx", "seed: not hexadecimal"),
        (r"seed = '..", "seed = 'AB", "seed: .* lower case"),
        (r"version = 1", "version = -1", "version"),
        (r"version = 1", "version = 9223372036854775808", "version"),
        (r"epoch_length_ms = \d+", "epoch_length_ms = 0", "epoch_length_ms"),
        (r"genesis_ms = \d+", "genesis_ms = 1979-05-27T07:32:00Z", "genesis_ms"),
        (r"chain = 'qustream-test'", "chain = 'a/b'", "chain"),
        (r"hpke = '........", "hpke = 'AAAAAAAA", r"users\[0\]: hpke: .*signature"),
        (r"hpke_signature = '....", "hpke_signature = '", r"users\[0\]"),
        (r"id = 'qd1....", "id = 'qd1aaaa", r"users\[0\].*"),
        (r"id = 'qd1", "id = 'qn1", r"users\[0\].*"),
        (r"root = '..", "root = 'AB", r"grants\[0\]: root"),
        (r"root = '..", "root = '", r"grants\[0\].*root"),
        (r"count = 1000", "count = 1048577", r"grants\[0\].*count"),
        (r"stripes = 2", "stripes = 0", r"grants\[0\].*stripes"),
        (r"\nepoch = 0", "\nepoch = -1", r"grants\[0\].*epoch"),
        (r"lifetime_max_ms = 3600000", "lifetime_max_ms = 3600000\npinned = 'x'", r"grants\[0\].*licence"),
        (r"emulated = true", "emulated = true\ndevice_authorities = 'a'", r"qrng_servers\[0\].*device_authorities"),
        (r"emulated = true", "emulated = true\ndevice_authorities = ['zz']", r"qrng_servers\[0\]: device_authorities: not hex"),
        (r"emulated = true", "emulated = true\ndevice_authorities = ['00']", r"qrng_servers\[0\].*device_authorities"),
        (r"version = 1\n", "version = 1\nversion = 1\n", "not TOML"),
        (r"\[\[users\]\]", "[users]", "."),
    ],
)
def test_every_mistake_names_its_place(text, pattern, new, words):
    changed, times = re.subn(pattern, lambda _: new, text, count=1)
    assert times == 1
    assert re.search(words, refusal(changed))


@pytest.mark.parametrize("table", ["nodes", "qrng_servers", "users", "grants"])
def test_nothing_stands_twice(text, table):
    blocks = re.split(r"\n(?=\[\[(?!users\.))", text)
    again = next(block for block in blocks if block.startswith(f"[[{table}]]"))
    assert "twice" in refusal(text + "\n" + again)


def test_a_licence_runs_one_node(text):
    licences = re.findall(r"licence = '([^']+)'", text)
    assert "licence" in refusal(text.replace(licences[1], licences[0]))


def test_two_users_never_share_a_label_nor_a_device_row(text):
    assert "label" in refusal(text.replace("label = 'bob'", "label = 'alice'"))
    devices = re.findall(r"\n\[\[users\.devices\]\]\n[^\n]+\n[^\n]+\n", text)
    assert "twice" in refusal(text.replace(devices[0], devices[0] * 2, 1))


def test_a_grant_belongs_to_a_user_and_has_its_own_identifiers(text):
    body, _, _ = text.partition("[[users]]")
    _, _, grants = text.partition("[[grants]]")
    assert "owner" in refusal(body + "[[grants]]" + grants)
    other = re.sub(r"id = '[^']+'", "id = 'qg1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqnhcs8z'", "[[grants]]" + grants, count=1)
    assert re.search(r"grants\[1\]: ", refusal(text + "\n" + other))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_garbled_text_gives_contents_or_a_coded_refusal(data):
    """No signature protects the parser here: whatever the text, nothing but a coded error comes out."""
    lines = SAMPLE.split("\n")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(lines) - 1))
        action = data.draw(st.sampled_from(["drop", "twice", "garble", "insert"]))
        if action == "drop" and len(lines) > 1:
            del lines[place]
        elif action == "twice":
            lines.insert(place, lines[place])
        elif action == "insert":
            lines.insert(place, data.draw(st.text(max_size=20)))
        else:
            line = lines[place]
            cut = data.draw(st.integers(0, len(line)))
            lines[place] = line[:cut] + data.draw(st.text(max_size=5)) + line[cut + data.draw(st.integers(0, 3)) :]
    assert outcome("\n".join(lines)) in ("contents", "E-REGISTRY-FORMAT")


def outcome(text: str) -> str:
    try:
        parse(text)
    except QuStreamError as error:
        return error.code
    return "contents"


SAMPLE = """format = 1
chain = 'sample'
version = 1
genesis_ms = 0
epoch_length_ms = 1000
seed = '0000000000000000000000000000000000000000000000000000000000000000'

[[nodes]]
id = 'qn1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq0000000'
class = 'foundation'
operator = 'somebody'
licence = '00000-00000-00000-00000-00000-00000'
addresses = ['host:1']
weight = 1
active = true
since_epoch = 0
key = 'AAAA'

[[grants]]
id = 'x'
owner = 'y'
root = '00'
count = 1
stripes = 1
epoch = 0
lifetime_max_ms = 1
"""
