"""The log in which this server publishes the leaves of its batches (`proto/spec/leaf-log.md`): writing it, and its pages."""

from qrngd.leaflog.log import LeafLog, SegmentInfo
from qrngd.leaflog.pages import log_pages

__all__ = ["LeafLog", "SegmentInfo", "log_pages"]
