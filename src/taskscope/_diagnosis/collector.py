"""The collector's own searches, as they are before a test puts something else in their place."""

from gc import get_objects, get_referrers

__all__ = ["get_objects", "get_referrers"]
