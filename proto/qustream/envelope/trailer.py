"""The end of an envelope: the sender's signature over header and content (`proto/spec/envelope.md`, "Trailer").

Every recipient knows the content key and could make another content with it. The signature covers the header's hash and the hash of
the content's bytes, so none can pass his own writing off as the sender's.
"""

from __future__ import annotations

from qustream.envelope.header import Header
from qustream.errors import fault
from qustream.identity.signing import SIGNATURE_BYTES, SigningKey, verify

__all__ = ["TRAILER_BYTES", "check_trailer", "make_trailer"]

# Tells a file that was cut from one that was changed; no security rests on it.
END = b"QUST-END"
TRAILER_BYTES = SIGNATURE_BYTES + len(END)
PURPOSE = "envelope-content"


def make_trailer(device: SigningKey, header_hash: bytes, content_hash: bytes) -> bytes:
    """Both hashes are SHA-256, over all bytes before the content and over the content's bytes as they stand in the file."""
    return device.sign(PURPOSE, header_hash + content_hash) + END


def check_end(tail: bytes) -> None:
    """Errors: `E-ENVELOPE-TRUNCATED` if the last bytes of a file are not an envelope's."""
    if not tail.endswith(END):
        raise fault("E-ENVELOPE-TRUNCATED", "the file does not end like an envelope: it was cut, or something was appended")


def check_trailer(trailer: bytes, header: Header, content_hash: bytes) -> None:
    """Errors: `E-ENVELOPE-TRUNCATED`, `E-ENVELOPE-SENDER`."""
    check_end(trailer)
    signature = trailer[: -len(END)]
    if not verify(header.certificate.device_key, PURPOSE, header.hash + content_hash, signature):
        raise fault("E-ENVELOPE-SENDER", "the sender did not sign this content: it was replaced by somebody who had its key")
