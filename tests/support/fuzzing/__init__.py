"""Fuzz targets: functions of bytes that either return or fail (`scripts/soak fuzz`, and in short `tests/fuzz/test_targets.py`)."""
