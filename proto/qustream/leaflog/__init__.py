"""The leaf log of a QRNG server: its format, where it is read from, its audit (`proto/spec/leaf-log.md`)."""
