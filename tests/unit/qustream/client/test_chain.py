"""A client of a node's pages about its chain: what it reads, sends and waits for, and nodes that mean harm."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ledger_world import QST, LedgerWorld, key
from support.living_chain import Town, living
from support.pages import garbled, pages
from support.places import free_port, host

from qnode.core.ledger.defaults import DEFAULTS
from qustream.client import chain as module
from qustream.client.chain import ChainClient, units
from qustream.errors import QuStreamError
from qustream.identity.wallet import Terms, Wallet
from qustream.model.ids import account_id
from qustream.wire.chain_entries import Amount
from qustream.wire.transactions import BuyLicence, Transfer

PERSON, OTHER = key("person", 0), key("person", 1)
STATUS = {"chain": "c", "genesis": "", "height": 1, "digest": "", "time_ms": 1, "executed": 1, "root": "", "certified": 0, "epoch": 0,
          "rotation": 1, "view": 1, "edge_ms": 0, "waiting": 0}  # fmt: skip


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with living(tmp_path_factory.mktemp("town"), LedgerWorld(validators=1, nodes=0, idle=1, people=2)) as made:
        yield made


def code_of(address: str, chain: str = "c") -> str:
    with pytest.raises(QuStreamError) as caught:
        ChainClient(address, chain).status()
    assert len(str(caught.value)) < 800
    assert str(caught.value).isprintable()
    return caught.value.code


def test_an_account_pays_and_waits_until_it_is_final(town: Town) -> None:
    client, wallet = ChainClient(town.api, town.name), Wallet(PERSON, town.name)
    before = client.account(account_id(OTHER.id))
    for nonce in range(2):
        terms = client.terms(wallet.account)
        assert (terms.nonce, terms.knows_key, terms.parameters) == (nonce, nonce > 0, town.world.parameters)
        signed = wallet.sign(Transfer(account_id(OTHER.id), 5 * QST), terms)
        assert client.check(signed).code == ""
        client.submit(signed)
        client.submit(signed)  # no harm
        done = client.wait(signed, 30)
        client.submit(signed)
        assert (done.state, done.code, done.nonce, units(done.fee)) == ("executed", "", nonce, signed.fee)
    assert units(client.account(account_id(OTHER.id)).balance) == units(before.balance) + 10 * QST


def test_several_are_sent_in_few_requests_and_each_has_its_code(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    client, wallet = ChainClient(town.api, town.name), Wallet(PERSON, town.name)
    terms = client.terms(wallet.account)
    several = [wallet.sign(Transfer(bytes(20), 5), dataclasses.replace(terms, nonce=terms.nonce + number)) for number in range(30)]
    far = wallet.sign(Transfer(bytes(20), 5), dataclasses.replace(terms, nonce=terms.nonce + 500))
    asked: list[str] = []
    exchange = client._exchange
    monkeypatch.setattr(client, "_exchange", lambda method, path, body: asked.append(path) or exchange(method, path, body))
    assert client.submit_all([*several, far]) == [""] * 30 + ["E-LEDGER-NONCE"]
    assert 2 <= asked.count("transactions/bundle") <= 4
    assert client.wait(several[-1], 30).code == ""
    assert client.submit_all(several[:2]) == ["", ""], "they stand in a block already"
    assert client.submit_all([]) == []


@pytest.mark.parametrize("lines", [[], [{"id": "00", "code": "", "detail": ""}], [{"id": "own", "code": "E-NO-SUCH", "detail": ""}]])
def test_a_node_that_answers_for_others_or_with_codes_of_its_own_is_not_believed(lines) -> None:
    signed = Wallet(PERSON, "c").sign(Transfer(bytes(20), 5), Terms(0, 0, False, DEFAULTS))
    told = [line | {"id": signed.id.hex()} if line["id"] == "own" else line for line in lines]
    client = ChainClient("127.0.0.1:1", "c")
    answers = {"GET": STATUS, "POST": {"transactions": told}}
    client._exchange = lambda method, _path, _body: (200, json.dumps(answers[method]).encode())  # type: ignore[method-assign]
    with pytest.raises(QuStreamError, match="E-ANSWER-INVALID"):
        client.submit_all([signed])


def test_what_the_chain_refuses_is_said_with_its_code(town: Town) -> None:
    client, wallet = ChainClient(town.api, town.name), Wallet(OTHER, town.name)
    signed = wallet.sign(BuyLicence(town.world.licences[1], 5), client.terms(wallet.account))
    assert client.check(signed).outcome == "E-LEDGER-STATUS"
    client.submit(signed)
    assert client.wait(signed, 30).code == "E-LEDGER-STATUS"
    other = wallet.sign(BuyLicence(town.world.licences[1], 6), Terms(0, 0, False, town.world.parameters))
    with pytest.raises(QuStreamError, match="E-LEDGER-NONCE"):
        client.submit(other)
    with pytest.raises(QuStreamError, match="E-LEDGER-UNKNOWN"):
        client.json("transactions/" + "0" * 64)


def test_nothing_is_signed_for_a_node_of_another_chain(town: Town) -> None:
    assert code_of(town.api, "another") == "E-PEER-CHAIN"


def test_waiting_ends(town: Town) -> None:
    client, wallet = ChainClient(town.api, town.name), Wallet(OTHER, town.name)
    terms = client.terms(wallet.account)
    signed = wallet.sign(Transfer(bytes(20), 5), terms)
    town.holds.set()
    try:
        client.submit(signed)
        with pytest.raises(QuStreamError, match="E-DEADLINE"):
            client.wait(signed, 0)
    finally:
        town.holds.clear()
    assert client.wait(signed, 30).code == ""
    never = wallet.sign(Transfer(bytes(20), 5), terms)
    with pytest.raises(QuStreamError, match="E-DEADLINE"):
        client.wait(never, 0)
    late = type(never)(never.id, never.raw, never.fee, 0)
    with pytest.raises(QuStreamError, match="E-LEDGER-EXPIRED"):
        client.wait(late, 30)


@pytest.mark.parametrize(
    "address", ["", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x", "http://127.0.0.1:1/path", "http://u@h:1", "http://h:1?q", "[::1"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(QuStreamError, match="E-CONFIG"):
        ChainClient(address, "c")


def test_nobody_there() -> None:
    assert code_of(f"{host(8)}:{free_port(8)}") == "E-PEER-UNREACHABLE"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "E-PEER-UNREACHABLE"),
        (b"SSH-2.0-x\r\n", "E-PEER-UNREACHABLE"),
        (HEAD + b"Content-Length: 2\r\n\r\n{}", "E-PEER-VERSION"),
        (HEAD + b"Content-Length: 9\r\n\r\n{}", "E-PEER-VERSION"),
        (HEAD + b"\r\n" + b"[" * 100_000, "E-PEER-VERSION"),
        (HEAD + b"\r\n\xff\xfe", "E-PEER-VERSION"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n", "E-PEER-UNREACHABLE"),
        (b"HTTP/1.1 404 No\r\n\r\n", "E-PEER-VERSION"),
        (b"HTTP/1.1 500 No\r\n\r\n" + b'{"error": "\\u001b[2J\\u202e' + b"x" * 9000 + b'"}', "E-ANSWER-INVALID"),
        (b'HTTP/1.1 422 No\r\n\r\n{"error": "no", "code": "E-LEDGER-FEE"}', "E-LEDGER-FEE"),
        (b'HTTP/1.1 422 No\r\n\r\n{"error": "no", "code": "E-DISK-FULL"}', "E-ANSWER-INVALID"),
        (b'HTTP/1.1 422 No\r\n\r\n{"error": "no", "code": ["E-LEDGER-FEE"]}', "E-ANSWER-INVALID"),
        (b'HTTP/1.1 422 No\r\n\r\n{"error": [1], "code": "E-NOBODY"}', "E-ANSWER-INVALID"),
        (b"HTTP/1.1 302 Gone\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "E-ANSWER-INVALID"),
        (HEAD + b"\r\n" + json.dumps(STATUS | {"chain": "\x1b[31mred" * 50}).encode(), "E-PEER-CHAIN"),
        (HEAD + b"\r\n" + json.dumps(STATUS | {"height": -1.5}).encode(), "E-PEER-VERSION"),
    ],
)
def test_nodes_that_answer_nonsense(answer: bytes, code: str) -> None:
    with garbled(answer) as address:
        assert code_of(address) == code


def test_more_than_anybody_wants_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_MAX_BYTES", 100_000)
    with garbled(HEAD + b"\r\n" + b" " * 200_000) as address:
        assert code_of(address) == "E-ANSWER-INVALID"


@contextmanager
def dripping(every_s: float) -> Iterator[str]:
    """A server that sends a byte now and then, for ever."""
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            try:
                connection.recv(65_536)
                connection.sendall(HEAD + b"\r\n")
                while not stop.wait(every_s):
                    connection.sendall(b" ")
            except OSError:
                return  # the client has left

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        stop.set()
        thread.join()


def test_a_node_that_never_ends_its_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    with dripping(0.05) as address:
        assert code_of(address) == "E-DEADLINE"


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "9223372036854775808", "9" * 30, "١"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(QuStreamError, match="E-ANSWER-INVALID"):
        units(Amount("1", text))


def test_parameters_of_a_later_version() -> None:
    shown = {"/v1/chain/status": (200, json.dumps(STATUS).encode())}
    shown["/v1/chain/parameters"] = (200, b'{"parameters": {"epoch_ms": 1}, "amounts": {}}')
    with pages(shown) as address, pytest.raises(QuStreamError, match="E-PEER-VERSION"):
        ChainClient(address, "c").parameters()


def test_an_id_that_is_not_the_transactions(tmp_path: Path) -> None:
    """A node that says it took something else."""
    wallet = Wallet(PERSON, "c")
    signed = wallet.sign(Transfer(bytes(20), 5), Terms(0, 0, False, DEFAULTS))
    body = b'{"id": "00"}'
    answers = [HEAD + b"\r\n" + json.dumps(STATUS).encode(), b"HTTP/1.1 202 OK\r\n\r\n" + body]

    def serve() -> None:
        for answer in answers:
            with listening.accept()[0] as connection, connection.makefile("rb") as request:
                # All of it: who closes with something unread resets the connection.
                head = iter(request.readline, b"\r\n")
                request.read(sum(int(line.split()[1]) for line in head if line.lower().startswith(b"content-length")))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(QuStreamError, match="E-ANSWER-INVALID"):
            ChainClient(f"127.0.0.1:{listening.getsockname()[1]}", "c").submit(signed)
        thread.join()
