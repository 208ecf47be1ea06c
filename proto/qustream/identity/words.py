"""A user's passphrase of 12 or 24 BIP-39 words, and every key that comes from it (`proto/spec/identity.md`, "Words").

The words are the user: whoever has them is the user. They are asked for when a device is linked or renewed and stored nowhere.
"""

from __future__ import annotations

from mnemonic import Mnemonic

from qustream.errors import fault
from qustream.identity.hpke import HpkeKey
from qustream.identity.sealing import derive
from qustream.identity.signing import SigningKey

__all__ = ["WORD_COUNTS", "UserSecrets", "new_words"]

WORD_COUNTS = (12, 24)  # 128 and 256 bits
TEXT_MAX_CHARACTERS = 1024  # 24 words of at most eight letters, with room for odd spacing

_BIP39 = Mnemonic("english")


def new_words(count: int = 12) -> str:
    """Fresh words from the operating system's randomness, single spaces between. `count`: 12, or 24 for who wants 256 bits."""
    if count not in WORD_COUNTS:
        raise ValueError("12 or 24 words")
    return _BIP39.generate(strength=count // 3 * 32)


def _checked(words: str) -> str:
    """The words in their one form. Says at which place a word is wrong, never which: messages end up in logs."""
    if len(words) > TEXT_MAX_CHARACTERS:
        raise fault("E-PASSPHRASE-WORDS", "too long for 24 words")
    listed = words.lower().split()
    if len(listed) not in WORD_COUNTS:
        raise fault("E-PASSPHRASE-WORDS", f"12 or 24 words are needed, these are {len(listed)}")
    wrong = [str(place) for place, word in enumerate(listed, 1) if word not in _BIP39.wordlist]
    if wrong:
        raise fault("E-PASSPHRASE-WORDS", f"not in the word list: word {', '.join(wrong)}")
    text = " ".join(listed)
    if not _BIP39.check(text):
        raise fault("E-PASSPHRASE-WORDS", "the checksum does not match: a word is wrong, or two are swapped")
    return text


class UserSecrets:
    """Everything the words give. Short-lived: make it, sign with it, let it go.

    `master`: signs device certificates and the HPKE key; its id is the user. `hpke`: opens what is sealed to the user. `ruid_key`: 32
    bytes, the first generation. `account`: pays. Purposes: `user/master`, `user/hpke`, `user/ruid/<generation>`, `user/account`.
    """

    __slots__ = ("_root", "account", "hpke", "master", "ruid_key")

    def __init__(self, root: bytes) -> None:
        """`root`: the 64-byte BIP-39 seed."""
        self._root = root
        self.master = SigningKey(derive(root, "user/master"))
        self.account = SigningKey(derive(root, "user/account"))
        self.hpke = HpkeKey(derive(root, "user/hpke"))
        self.ruid_key = self.ruid_key_of(0)

    @classmethod
    def from_words(cls, words: str) -> UserSecrets:
        """`words` as somebody typed them: any case and spacing. Errors: `E-PASSPHRASE-WORDS`."""
        return cls(Mnemonic.to_seed(_checked(words), passphrase=""))

    def ruid_key_of(self, generation: int) -> bytes:
        """The 32-byte rUID key after `generation` rotations: a revoked device knows the earlier ones."""
        return derive(self._root, f"user/ruid/{generation}")

    def __repr__(self) -> str:
        return f"<UserSecrets of {self.master.id.hex()[:12]}>"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not pickled")
