#!/usr/bin/env python3
"""Write `proto/vectors/ledger.json`: a genesis, and what some blocks make of it (`proto/spec/ledger.md`), executed from the text of the
specification alone: plain lists and `msgpack`, no code of the library's.

Of the actions those of §3 that move money are here; execution checks no signatures, so the ones in the transactions are zeros.

    scripts/vectors/ledger.py            write the file
    scripts/vectors/ledger.py --check    exit 1 if the file is not what this program would write
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgpack

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/ledger.json"
QST, START, DAY, CHAIN, SUPPLY = 10**9, 1_700_000_000_000, 86_400_000, "qustream-test", 10**18
LONG_BYTES = 256  # longer values of the state are given by their hash
# In the order of the noun.
PARAMETERS = {
    "epoch_ms": 10_000, "rotation_ms": 3_600_000, "interval_ms": 1_000, "idle_ms": 5_000, "delta_ms": 500, "validators_max": 100,
    "body_bytes_max": 4 << 20, "fee_byte": 3, "fee_gas": 1_000, "stake": 200_000 * QST, "lock_ms": 30 * DAY, "unbonding_ms": 28 * DAY,
    "evidence_ms": 21 * DAY, "top_up_ms": 3 * DAY, "removed_ms": 30 * DAY, "market_rest_ms": 21 * DAY, "market_fee_bp": 100,
    "delegation_min": 10 * QST, "double_sign_bp": 1_000, "appeal_ms": 14 * DAY, "suspension_ms": 3_600_000, "price_request": QST // 100,
    "price_megabyte_day": QST // 1_000, "roll_over_bp": 5_000, "lifetime_max_ms": 7 * DAY, "nodes_bp": 6_000, "operations_bp": 3_000,
}  # fmt: skip
STAKE, COMMISSION = PARAMETERS["stake"], 1_250
# Tables.
PARAMETER, PROGRESS, TOTALS, POOL, ACCOUNT, KEY, LICENCE, NODE, VALIDATOR, VOTE_KEY, DELEGATION = range(1, 12)
EPOCH, ROTATION, OWNED = 19, 20, 22
IDLE, ACTIVE, RESERVE, REWARDS = 1, 2, 3, 4
LIQUID, STAKED, POOLS = 2, 3, 5  # places in the totals' noun
# Places in a licence's noun.
OWNER, STATUS, AT_NODE, PAYEE, SINCE_EPOCH, HAS_STAKED, LOCKED, UNBONDING, UNSTAKED, PRICE, INCIDENTS = 1, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14


def hashed(label: str, *parts: bytes) -> bytes:
    return hashlib.sha256(b"".join([bytes([len(label)]), label.encode(), *parts])).digest()


def key(number: int) -> list[bytes]:
    """Somebody's public key: bytes of one value."""
    return [bytes([number]) * 32, bytes([number]) * 1952]


def named(public: list[bytes]) -> bytes:
    return hashlib.blake2b(b"".join(public), digest_size=32).digest()


def account(number: int) -> bytes:
    return named(key(number))[:20]


def licence(number: int) -> bytes:
    return bytes([number]) * 16


VOTE = bytes([0x56]) * 1312
REVEALS = [hashlib.sha256(b"the secret end of a hash chain").digest()]
for _ in range(20):
    REVEALS.append(hashed("qustream/1/reveal", REVEALS[-1]))
REVEALS.reverse()  # the anchor first
SEED = hashlib.sha256(b"the seed of a chain").digest()


def genesis() -> list[Any]:
    """Licence 1 votes, 2 runs a node, 3 is for sale; their owners hold money, and so does 0x14."""
    vote = [VOTE, REVEALS[0], 20, COMMISSION]
    accounts = sorted([account(number), 1_000_000 * QST + number] for number in (0x11, 0x12, 0x13, 0x14))
    licences = [
        [licence(1), 1, account(0x11), "site one", 0, [key(0x21), account(0x15), ["127.0.0.1:7400"], True, vote]],
        [licence(2), 2, account(0x12), "", 0, [key(0x22), account(0x12), ["127.0.0.1:7401", "[::1]:7401"], False, None]],
        [licence(3), 2, account(0x13), "", 7_777 * QST + 77, None],
    ]
    server = [key(0x31), "first light", True, True, []]
    return [CHAIN, START, SEED, list(PARAMETERS.values()), accounts, licences, [server]]


class Refused(Exception):
    """Why an action was."""


class Ledger:
    """Lists by table and name; and what nonces the senders have used."""

    def __init__(self) -> None:
        self.entries: dict[bytes, list[Any]] = {}
        self.nonces: dict[int, int] = {}

    def get(self, table: int, name: bytes = b"") -> list[Any] | None:
        return self.entries.get(bytes([table]) + name)

    def put(self, table: int, name: bytes, *fields: Any) -> None:
        self.entries[bytes([table]) + name] = list(fields)

    def packed(self) -> dict[bytes, bytes]:
        return {name: msgpack.packb(fields) for name, fields in self.entries.items()}

    def liquid(self, who: bytes, change: int) -> None:
        nonce, held = self.get(ACCOUNT, who) or (0, 0)
        if held + change < 0:
            raise Refused("E-LEDGER-FUNDS")
        self.put(ACCOUNT, who, nonce, held + change)

    def shift(self, source: int, target: int, amount: int) -> None:
        totals = list(self.get(TOTALS) or [])
        totals[source] -= amount
        totals[target] += amount
        self.put(TOTALS, b"", *totals)

    def pool(self, which: int, change: int) -> None:
        self.put(POOL, bytes([which]), (self.get(POOL, bytes([which])) or [0])[0] + change)

    def begin(self) -> bytes:
        document = genesis()
        digest = hashed("qustream/1/genesis", msgpack.packb(document))
        accounts, licences, servers = document[4:]
        liquid = sum(amount for _, amount in accounts)
        self.put(PARAMETER, b"", *PARAMETERS.values())
        self.put(PROGRESS, b"", 0, digest, START, 0, 0, 0, SEED, True)
        self.put(TOTALS, b"", SUPPLY, 0, liquid, STAKE, 0, SUPPLY - liquid - STAKE)
        for number in range(1, 6):
            self.put(POOL, bytes([number]), SUPPLY - liquid - STAKE if number == RESERVE else 0)
        for who, amount in accounts:
            self.put(ACCOUNT, who, 0, amount)
        for name, node_class, owner, site, price, node in licences:
            staked = STAKE if node and node[3] else 0
            payee = node[1] if node else owner
            at = named(node[0]) if node else None
            self.put(LICENCE, name, node_class, owner, site, ACTIVE if node else IDLE, at, payee, 0, staked,
                     START + PARAMETERS["lock_ms"] if staked else 0, 0, 0, 0, 0, price, 0, 0, 0)  # fmt: skip
            self.put(OWNED, owner + name)
            if node:
                self.put(NODE, at, name, node[0], node[2])
        vote = hashlib.sha256(VOTE).digest()
        self.put(VOTE_KEY, vote, licence(1), named(key(0x21)), VOTE)
        self.put(VALIDATOR, licence(1), vote, REVEALS[0], 20, COMMISSION, 0, 0, bytes(16), bytes(16), 0, START, *[0] * 7, bytes(32), 0)
        for server in servers:
            self.put(17, named(server[0]), *server)
        self.put(EPOCH, bytes(8), 0, START, SEED)
        seats, seed = [[licence(1), vote, STAKE, True]], hashed("qustream/1/leaders-seed", SEED)
        self.put(ROTATION, (1).to_bytes(8, "big"), seats, seed, 0, digest, START + PARAMETERS["rotation_ms"], 0, 0)
        self.put(ROTATION, (2).to_bytes(8, "big"), seats, seed, 0, bytes(32), 0, 0, 0)
        return digest

    def transaction(self, told: dict[str, Any], number: int, time: int, epoch: int) -> list[Any]:
        """The receipt."""
        _, sender, nonce, _, fee, action = told["body"]
        if told["key"] is not None:
            self.put(KEY, sender, *told["key"])
        self.liquid(sender, -fee)
        self.put(ACCOUNT, sender, nonce + 1, (self.get(ACCOUNT, sender) or [])[1])
        before = {name: list(fields) for name, fields in self.entries.items()}
        try:
            events = self.act(sender, action, time, epoch)
        except Refused as refused:
            self.entries = before
            return [told["id"], str(refused), fee, []]
        return [told["id"], "", fee, events]

    def act(self, sender: bytes, action: list[Any], time: int, epoch: int) -> list[list[Any]]:
        number, *fields = action
        acts = {1: self.transfer, 2: self.activate, 5: self.offer, 7: self.buy, 8: self.stake, 14: self.delegate, 24: self.claim}
        return acts[number](sender, time, epoch, *fields)

    def owned(self, sender: bytes, name: bytes, status: int) -> list[Any]:
        entry = self.get(LICENCE, name)
        if entry is None:
            raise Refused("E-LEDGER-UNKNOWN")
        if entry[OWNER] != sender:
            raise Refused("E-LEDGER-OWNER")
        if entry[STATUS] != status:
            raise Refused("E-LEDGER-STATUS")
        return list(entry)

    def transfer(self, sender: bytes, _time: int, _epoch: int, to: bytes, amount: int) -> list[list[Any]]:
        if sender == to:
            raise Refused("E-LEDGER-STATUS")
        self.liquid(sender, -amount)
        self.liquid(to, amount)
        return [["transferred", sender, to, amount]]

    def activate(self, sender: bytes, _time: int, epoch: int, *fields: Any) -> list[list[Any]]:
        name, node, payee, at, _proof = fields
        entry, node_name = self.owned(sender, name, IDLE), named(node)
        if self.get(NODE, node_name):
            raise Refused("E-LEDGER-KNOWN")
        entry[STATUS], entry[AT_NODE], entry[PAYEE], entry[SINCE_EPOCH], entry[PRICE] = ACTIVE, node_name, payee, epoch + 1, 0
        self.put(LICENCE, name, *entry)
        self.put(NODE, node_name, name, node, at)
        return [["licence-activated", name, node_name, 0]]

    def offer(self, sender: bytes, _time: int, _epoch: int, name: bytes, price: int) -> list[list[Any]]:
        entry = self.owned(sender, name, IDLE)
        assert not any(entry[place] for place in (HAS_STAKED, UNBONDING, UNSTAKED, INCIDENTS)), "never staked in these blocks"
        entry[PRICE] = price
        self.put(LICENCE, name, *entry)
        return [["licence-listed", name, sender, price]]

    def buy(self, sender: bytes, _time: int, _epoch: int, name: bytes, price: int) -> list[list[Any]]:
        entry = list(self.get(LICENCE, name) or [])
        seller = entry[OWNER]
        if not entry[PRICE]:
            raise Refused("E-LEDGER-STATUS")
        if seller == sender:
            raise Refused("E-LEDGER-OWNER")
        if entry[PRICE] != price:
            raise Refused("E-LEDGER-PRICE")
        fee = price * PARAMETERS["market_fee_bp"] // 10_000
        self.liquid(sender, -price)
        self.liquid(seller, price - fee)
        self.pool(RESERVE, fee)
        self.shift(LIQUID, POOLS, fee)
        entry[OWNER], entry[PAYEE], entry[PRICE] = sender, sender, 0
        self.put(LICENCE, name, *entry)
        del self.entries[bytes([OWNED]) + seller + name]
        self.put(OWNED, sender + name)
        return [["licence-bought", name, sender, price], ["licence-sold", name, seller, price - fee]]

    def stake(self, sender: bytes, time: int, _epoch: int, name: bytes) -> list[list[Any]]:
        entry = self.owned(sender, name, ACTIVE)
        if entry[HAS_STAKED]:
            raise Refused("E-LEDGER-STATUS")
        self.liquid(sender, -STAKE)
        self.shift(LIQUID, STAKED, STAKE)
        entry[HAS_STAKED], entry[LOCKED] = STAKE, time + PARAMETERS["lock_ms"]
        self.put(LICENCE, name, *entry)
        return [["staked", name, sender, STAKE]]

    def delegate(self, sender: bytes, _time: int, _epoch: int, name: bytes, amount: int) -> list[list[Any]]:
        validator = list(self.get(VALIDATOR, name) or [])
        if not validator:
            raise Refused("E-LEDGER-UNKNOWN")
        if amount < PARAMETERS["delegation_min"]:
            raise Refused("E-LEDGER-PRICE")
        bonded, shares, index = validator[4:7]
        got = amount * shares // bonded if shares else amount
        self.liquid(sender, -amount)
        self.shift(LIQUID, STAKED, amount)
        held = self.get(DELEGATION, name + sender) or [0, index, 0]
        self.put(DELEGATION, name + sender, held[0] + got, index, self.due(held, index))
        validator[4:6] = bonded + amount, shares + got
        self.put(VALIDATOR, name, *validator)
        return [["delegated", name, sender, amount]]

    @staticmethod
    def due(held: list[Any], index: bytes) -> int:
        grown = int.from_bytes(index, "big") - int.from_bytes(held[1], "big")
        return held[2] + held[0] * grown // 2**64

    def claim(self, sender: bytes, _time: int, _epoch: int, name: bytes) -> list[list[Any]]:
        validator, entry, events = list(self.get(VALIDATOR, name) or []), self.get(LICENCE, name), []
        held = self.get(DELEGATION, name + sender)
        if held and self.due(held, validator[6]):
            amount = self.due(held, validator[6])
            self.put(DELEGATION, name + sender, held[0], validator[6], 0)
            events.append(["delegator-paid", name, sender, amount])
            self.paid(sender, amount)
        if entry and entry[OWNER] == sender and validator and validator[8]:
            events.append(["operator-paid", name, entry[PAYEE], validator[8]])
            self.paid(entry[PAYEE], validator[8])
            validator[8] = 0
            self.put(VALIDATOR, name, *validator)
        if not events:
            raise Refused("E-LEDGER-NOTHING")
        return events

    def paid(self, who: bytes, amount: int) -> None:
        self.liquid(who, amount)
        self.pool(REWARDS, -amount)
        self.shift(POOLS, LIQUID, amount)

    def fees(self, units: int) -> None:
        validator = list(self.get(VALIDATOR, licence(1)) or [])
        bonded, shares = validator[4:6]
        own = units * STAKE // (STAKE + bonded)
        commission = (units - own) * COMMISSION // 10_000
        theirs = units - own - commission
        if theirs:
            step, rest = divmod(theirs * 2**64 + int.from_bytes(validator[7], "big"), shares)
            validator[6:8] = (int.from_bytes(validator[6], "big") + step).to_bytes(16, "big"), rest.to_bytes(16, "big")
        validator[8] += own + commission
        self.put(VALIDATOR, licence(1), *validator)
        self.pool(REWARDS, units)
        self.shift(LIQUID, POOLS, units)

    def told(self, number: int, fee: int, action: list[Any]) -> dict[str, Any]:
        nonce = self.nonces.setdefault(number, 0)
        self.nonces[number] += 1
        body = [CHAIN, account(number), nonce, 1_000, fee, action]
        has, encoded = None if nonce else key(number), msgpack.packb(body)
        name = hashed("qustream/1/transaction-id", msgpack.packb([100, encoded, has, bytes(3373)]))
        return {"body": body, "encoded": encoded, "key": has, "number": number, "id": name}

    def block(self, skipped: int, after: int, transactions: list[dict[str, Any]]) -> dict[str, Any]:
        height, digest, time, epoch, _, view, fold, over = self.get(PROGRESS) or []
        before, height, time, parent_view = self.packed(), height + 1, time + after, 0 if over else view
        view = parent_view + skipped + 1
        header = [CHAIN, 1, view, height, digest, parent_view, time, max(0, height - 3), bytes([height]) * 32,
                  bytes([0xAA]) * 32, len(transactions), REVEALS[height], bytes(32), 0]  # fmt: skip
        digest = hashed("qustream/1/chain-header", msgpack.packb(header))
        fold = hashed("qustream/1/fold", fold, REVEALS[height])
        if (time - START) // PARAMETERS["epoch_ms"] > epoch:
            epoch = (time - START) // PARAMETERS["epoch_ms"]
            self.put(EPOCH, epoch.to_bytes(8, "big"), height, time, fold)
        validator, entry = list(self.get(VALIDATOR, licence(1)) or []), list(self.get(ROTATION, (1).to_bytes(8, "big")) or [])
        # The only validator leads every view: one miss each that was skipped, then a hit.
        validator[11] = (((validator[11] << skipped) | ((1 << skipped) - 1)) << 1) & 1023
        validator[12] = min(10, validator[12] + skipped + 1)
        validator[1:3] = REVEALS[height], 20 - height
        self.put(VALIDATOR, licence(1), *validator)
        entry[5:7] = entry[5] + skipped + 1, entry[6] + skipped
        self.put(ROTATION, (1).to_bytes(8, "big"), *entry)
        receipts = [self.transaction(told, height, time, epoch) for told in transactions]
        self.fees(sum(receipt[2] for receipt in receipts))
        self.put(PROGRESS, b"", height, digest, time, epoch, 1, view, fold, False)
        after_it = self.packed()
        assert sum((self.get(TOTALS) or [])[2:]) == SUPPLY
        changes = {name: shown(value) for name, value in sorted(after_it.items()) if before.get(name) != value}
        gone = dict.fromkeys(sorted(set(before) - set(after_it)))
        return {
            "header": msgpack.packb(header).hex(), "digest": digest.hex(),
            "transactions": [
                {"id": told["id"].hex(), "body": told["encoded"].hex(), "key": told["number"] if told["key"] else None}
                for told in transactions
            ],
            "receipts": [*map(receipt_shown, receipts), [digest.hex(), "", 0, []]],
            "changes": {name.hex(): value for name, value in (changes | gone).items()},
        }  # fmt: skip


def shown(value: bytes) -> str:
    return value.hex() if len(value) <= LONG_BYTES else "sha256:" + hashlib.sha256(value).hexdigest()


def receipt_shown(receipt: list[Any]) -> list[Any]:
    name, code, fee, events = receipt
    return [name.hex(), code, fee, [[what, subject.hex(), other.hex(), amount] for what, subject, other, amount in events]]


def blocks(ledger: Ledger) -> list[dict[str, Any]]:
    told = ledger.told
    stranger = bytes([0x99]) * 20
    return [
        ledger.block(0, 1_000, []),
        ledger.block(0, 1_000, [
            told(0x11, 20_003, [1, stranger, 5 * QST]),
            told(0x14, 30_001, [1, stranger, 2**63 - 1]),
            told(0x14, 10_007, [1, account(0x14), 1]),
            told(0x14, 10_009, [1, account(0x11), 123_456_789]),
        ]),
        ledger.block(2, 3_500, [
            told(0x12, 40_000, [7, licence(3), 7_777 * QST]),
            told(0x12, 40_000, [7, licence(3), 7_777 * QST + 77]),
            told(0x13, 40_000, [5, licence(3), 1]),
            told(0x13, 40_000, [24, licence(1)]),
            told(0x12, 40_000, [5, licence(3), 2**63 - 1]),
        ]),
        ledger.block(0, 6_000, [
            told(0x12, 50_000, [2, licence(3), key(0x21), account(0x12), [], bytes(3373)]),
            told(0x12, 50_000, [2, licence(3), key(0x23), account(0x15), ["node.example:7400"], bytes(3373)]),
            told(0x12, 50_000, [8, licence(2)]),
            told(0x12, 50_000, [8, licence(2)]),
            told(0x14, 50_000, [14, licence(1), 10 * QST - 1]),
            told(0x14, 50_001, [14, licence(1), 33_333 * QST + 1]),
            told(0x13, 50_001, [14, licence(1), 66_666 * QST + 2]),
        ]),
        ledger.block(1, 1_000, [told(0x11, 1_000_003, [1, account(0x12), 1]), told(0x14, 77_777, [14, licence(1), 1_000 * QST])]),
        ledger.block(9, 21_000, [
            told(0x14, 60_000, [24, licence(1)]), told(0x11, 60_000, [24, licence(1)]), told(0x13, 60_000, [24, licence(1)]),
            told(0x13, 60_000, [24, licence(1)]),
        ]),
    ]  # fmt: skip


def main() -> int:
    about = (
        "Ledger (proto/spec/ledger.md), executed by another implementation than the library's, from the text. `genesis`: the document; "
        "`state`: all entries after it; of each block its header, its transactions (signatures are zeros: execution asks for none; `key`: "
        "a public key of bytes of that value comes along, or null), its receipts, and what it changes: key to value, null for what goes. "
        "Values above 256 bytes are given by their SHA-256. The executed root and the payload in the headers are made up."
    )
    ledger, document = Ledger(), msgpack.packb(genesis())
    digest = ledger.begin()
    state = {name.hex(): shown(value) for name, value in sorted(ledger.packed().items())}
    made = {"about": about, "genesis": document.hex(), "digest": digest.hex(), "state": state, "blocks": blocks(ledger)}
    text = json.dumps(made, ensure_ascii=False, indent=1) + "\n"
    if "--check" in sys.argv:
        return 0 if FILE.read_text() == text else 1
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
