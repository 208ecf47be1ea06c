"""Asking a node about its chain, and giving it transactions (`proto/spec/chain-api.md`). Blocking, standard library alone.

A node is believed what it says: whoever cannot trust it asks for proofs (`proto/spec/light-client.md`). It is bounded all the same: in
time, in bytes, and in what it can make its reader do.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from qustream.errors import CODES, Family, QuStreamError, fault
from qustream.identity.wallet import Signed, Terms
from qustream.model.amount import UNITS_MAX
from qustream.model.ids import IdKind, to_text
from qustream.model.state import Parameters
from qustream.wire.bundle import BUNDLE_HEAD_BYTES, BUNDLE_MAX_BYTES, BUNDLE_TRANSACTIONS_MAX, ITEM_HEAD_BYTES, Bundle
from qustream.wire.chain_entries import AccountPage, Amount, ParametersPage
from qustream.wire.chain_json import ChainStatus, CheckPage, SubmittedBundlePage, SubmittedPage, TransactionPage
from qustream.wire.codec import encode
from qustream.wire.json_text import decode_json

__all__ = ["ChainClient", "units"]

PREFIX = "/v1/chain/"
# The largest page is a full block with its events, half a megabyte.
ANSWER_MAX_BYTES = 4 << 20
# For one answer, from the first byte to the last: a node makes the slowest page in a second.
ANSWER_S = 15.0
# Between two looks whether a transaction has become of something: a block a second.
LOOK_S = 0.5
# A code from a node is of our table or is not repeated; its words are cut and made printable.
DETAIL_MAX_CHARACTERS = 256
_READ_BYTES = 65_536
_T = TypeVar("_T")


def units(amount: Amount) -> int:
    """What an amount of a page is. Errors: `E-ANSWER-INVALID`."""
    if not (amount.units.isascii() and amount.units.isdigit() and len(amount.units) < 20 and int(amount.units) <= UNITS_MAX):
        raise fault("E-ANSWER-INVALID", "an amount that is none")
    return int(amount.units)


class ChainClient:
    """One node, one chain. `chain`: what the node must say it is of, before anything is signed for it."""

    def __init__(self, address: str, chain: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`address`: http://host:port, or https. Errors: `E-CONFIG`."""
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.username:
            raise fault("E-CONFIG", f"{address!r} is not where a node's pages are; such as http://127.0.0.1:7480")
        self.chain, self.address = chain, f"{parts.scheme}://{parts.netloc}"
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._clock = host, port, clock
        self._is_checked = False

    # -- asking ---------------------------------------------------------------------------------------------------------

    def get(self, path: str, kind: type[_T]) -> _T:
        """A page below the prefix. Errors: `E-PEER-UNREACHABLE`, `E-PEER-VERSION`, `E-PEER-CHAIN`, `E-ANSWER-INVALID`, `E-DEADLINE`, and
        what the node refuses with."""
        self._check_chain()
        return self._page("GET", path, b"", kind)

    def json(self, path: str) -> Any:
        """The same page as its JSON says it."""
        return self.get(path, Any)

    def status(self) -> ChainStatus:
        """Where the chain is."""
        return self.get("status", ChainStatus)

    def account(self, account: bytes) -> AccountPage:
        """An account of 20 bytes."""
        return self.get(f"accounts/{to_text(IdKind.ACCOUNT, account)}", AccountPage)

    def parameters(self) -> Parameters:
        """The chain's figures."""
        page = self.get("parameters", ParametersPage)
        try:
            return msgspec.convert([page.parameters[name] for name in Parameters.__struct_fields__], Parameters)
        except (KeyError, msgspec.ValidationError):
            raise fault("E-PEER-VERSION", "this node's chain has other parameters than this version knows") from None

    def terms(self, account: bytes) -> Terms:
        """What an account's next transaction has to say."""
        held, status = self.account(account), self.status()
        return Terms(held.next_nonce, status.height, held.known, self.parameters())

    def _check_chain(self) -> None:
        if self._is_checked:
            return
        found = self._page("GET", "status", b"", ChainStatus)
        if found.chain != self.chain:
            raise fault("E-PEER-CHAIN", f"{self.address} is a node of {printable(found.chain)!r}, and this is for {self.chain!r}")
        self._is_checked = True

    # -- sending --------------------------------------------------------------------------------------------------------

    def check(self, signed: Signed) -> CheckPage:
        """What would become of a transaction now."""
        self._check_chain()
        return self._page("POST", "transactions/check", signed.raw, CheckPage)

    def submit(self, signed: Signed) -> None:
        """Give the node a transaction; doing it twice is no harm. Errors: `E-LEDGER-…`, `E-MEMPOOL-FULL`, those of `get`."""
        self._check_chain()
        try:
            found = self._page("POST", "transactions", signed.raw, SubmittedPage)
        except QuStreamError as error:
            if error.code != "E-LEDGER-NONCE" or not self._knows(signed):
                raise
            return  # it stands in a block already
        if found.id != signed.id.hex():
            raise fault("E-ANSWER-INVALID", "the node calls the transaction by another id")

    def submit_all(self, several: Sequence[Signed]) -> list[str]:
        """Give the node several, in their order and few requests: the code of why not for each, or "". Errors: those of `get`; what was
        sent before is sent."""
        self._check_chain()
        codes: list[str] = []
        for bundle in _bundles(several):
            found = self._page("POST", "transactions/bundle", encode(Bundle(tuple(each.raw for each in bundle))), SubmittedBundlePage)
            if [line.id for line in found.transactions] != [each.id.hex() for each in bundle]:
                raise fault("E-ANSWER-INVALID", "the node calls the transactions by other ids")
            for each, line in zip(bundle, found.transactions, strict=True):
                if line.code and line.code not in CODES:
                    raise fault("E-ANSWER-INVALID", "the node refuses with a code that there is not")
                codes.append("" if line.code == "E-LEDGER-NONCE" and self._knows(each) else line.code)
        return codes

    def _knows(self, signed: Signed) -> bool:
        try:
            return bool(self.get(f"transactions/{signed.id.hex()}", TransactionPage).state)
        except QuStreamError:
            return False

    def wait(self, signed: Signed, timeout_s: float, *, sleep: Callable[[float], None] = time.sleep) -> TransactionPage:
        """Until a transaction has been executed: what became of it (`code`). A node that does not answer for a while is asked again.

        Errors: `E-DEADLINE` when the time is over; `E-LEDGER-EXPIRED` if it can no longer come into a block."""
        until_s, expired = self._clock() + timeout_s, False
        while True:
            try:
                expired = self.status().executed > signed.expires  # asked first: it may be executed between the two answers
                found = self.get(f"transactions/{signed.id.hex()}", TransactionPage)
                if found.state == "executed":
                    return found
            except QuStreamError as error:
                if error.code != "E-LEDGER-UNKNOWN" and error.row.family is not Family.UNAVAILABLE:
                    raise
                if error.code == "E-LEDGER-UNKNOWN" and expired:
                    raise fault("E-LEDGER-EXPIRED", f"transaction {signed.id.hex()} came into no block in time") from None
            if self._clock() >= until_s:
                raise fault("E-DEADLINE", f"transaction {signed.id.hex()} is not executed yet; ask for it again later")
            sleep(LOOK_S)

    # -- HTTP -----------------------------------------------------------------------------------------------------------

    def _page(self, method: str, path: str, body: bytes, kind: type[_T]) -> _T:
        status, answer = self._exchange(method, path, body)
        if status in (200, 202):
            try:
                return decode_json(answer, kind)
            except ValueError:
                raise fault("E-PEER-VERSION", f"{self.address}: the page {path.partition('?')[0]} is not what this version knows") from None
        raise self._refusal(status, answer)

    def _refusal(self, status: int, answer: bytes) -> QuStreamError:
        try:
            said = decode_json(answer, dict[str, Any])
        except ValueError:
            said = {}
        code, why = said.get("code"), printable(str(said.get("error", "")))
        if isinstance(code, str) and code in CODES and CODES[code].family is not Family.OPERATOR:
            return fault(code, why)
        if code == "E-ID-TEXT":
            return fault(code, why)
        if status == 404 and not code:
            return fault("E-PEER-VERSION", f"{self.address} has no pages about a chain, or older ones")
        return fault("E-ANSWER-INVALID", f"{self.address} answers {status}{': ' * bool(why)}{why}")

    def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """One request on a connection of its own, within `ANSWER_S` in all: a node that sends a byte a second is left."""
        connection = self._kind(self._host, self._port, timeout=ANSWER_S)
        reached: list[socket.socket] = []  # the connection gives it away while an answer is read
        is_over = threading.Event()
        watchdog = threading.Timer(ANSWER_S, lambda: _shut(reached, is_over))
        watchdog.daemon = True
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/octet-stream"} if method == "POST" else {})
        try:
            watchdog.start()
            connection.connect()
            reached.append(connection.sock)
            connection.request(method, PREFIX + path, body or None, headers)
            with connection.getresponse() as response:
                answer = response.status, self._read(response)
            if is_over.is_set():
                raise TimeoutError  # it ended because we ended it
            return answer
        except (OSError, ValueError, http.client.HTTPException) as error:
            if is_over.is_set() or isinstance(error, TimeoutError):
                raise fault("E-DEADLINE", f"{self.address} took more than {ANSWER_S:g} s") from None
            why = getattr(error, "strerror", None) or type(error).__name__
            raise fault("E-PEER-UNREACHABLE", f"no node answers at {self.address}: {why}") from None
        finally:
            watchdog.cancel()
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        data = bytearray()
        while part := response.read1(_READ_BYTES):
            data += part
            if len(data) > ANSWER_MAX_BYTES:
                raise fault("E-ANSWER-INVALID", f"{self.address} answers with more than {ANSWER_MAX_BYTES} bytes")
        return bytes(data)


def _bundles(several: Sequence[Signed]) -> Iterator[Sequence[Signed]]:
    """In their order, as many together as may travel together."""
    bundle: list[Signed] = []
    size = BUNDLE_HEAD_BYTES
    for each in several:
        more = len(each.raw) + ITEM_HEAD_BYTES
        if bundle and (size + more > BUNDLE_MAX_BYTES or len(bundle) == BUNDLE_TRANSACTIONS_MAX):
            yield bundle
            bundle, size = [], BUNDLE_HEAD_BYTES
        bundle.append(each)
        size += more
    if bundle:
        yield bundle


def _shut(reached: list[socket.socket], is_over: threading.Event) -> None:
    """Wakes whoever reads from it."""
    is_over.set()
    for sock in reached:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already


def printable(text: str) -> str:
    """Somebody else's words for a terminal, cut."""
    return "".join(c if c.isprintable() else "?" for c in text[:DETAIL_MAX_CHARACTERS])
