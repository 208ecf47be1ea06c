"""Envelopes: keys out of blocks, and files under them (`proto/spec/envelope.md`). Not pure: draws randomness, signs, writes files.

Sending: `make_header` and `encrypt_stream`, or `seal_pad`. Opening: `read_header`, `verify_sender`, `unseal`, then the blocks from the
nodes, `content_key`, `open_to_path`.
"""

from qustream.envelope.behind import write_all
from qustream.envelope.content import ContentKey
from qustream.envelope.files import file_in_making, open_to_path
from qustream.envelope.header import PAD_MAX_BYTES, RECIPIENTS_MAX, BlockReference, EnvelopeCore, Header, read_exactly, read_header
from qustream.envelope.pad import seal_pad
from qustream.envelope.recipient import Blocks, ClientSecrets, VerifiedSender, content_key, unseal, verify_sender
from qustream.envelope.sender import HeldBlock, Recipients, Sender, make_header
from qustream.envelope.stream import Progress, decrypt_stream, encrypt_stream
from qustream.envelope.verification import verify_content

__all__ = [
    "PAD_MAX_BYTES",
    "RECIPIENTS_MAX",
    "BlockReference",
    "Blocks",
    "ClientSecrets",
    "ContentKey",
    "EnvelopeCore",
    "Header",
    "HeldBlock",
    "Progress",
    "Recipients",
    "Sender",
    "VerifiedSender",
    "content_key",
    "decrypt_stream",
    "encrypt_stream",
    "file_in_making",
    "make_header",
    "open_to_path",
    "read_exactly",
    "read_header",
    "seal_pad",
    "unseal",
    "verify_content",
    "verify_sender",
    "write_all",
]
