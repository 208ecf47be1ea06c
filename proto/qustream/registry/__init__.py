"""The one question-answerer about the network; its first implementation, the signed network file (`proto/spec/registry.md`)."""

from qustream.registry.interface import Change, ChangeKind, Registry, if_known
from qustream.registry.network_file import NetworkFileRegistry
from qustream.registry.writer import NetworkFileWriter

__all__ = ["Change", "ChangeKind", "NetworkFileRegistry", "NetworkFileWriter", "Registry", "if_known"]
