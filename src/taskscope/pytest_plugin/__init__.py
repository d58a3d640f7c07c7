"""The pytest plugin: tests and fixtures that leave tasks behind are named, and fail."""
