"""Bytes on the wire: the codec and every message. Tags are listed in `proto/spec/encoding.md`."""
