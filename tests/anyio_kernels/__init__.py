"""The kernels once more, on AnyIO's primitives: the same programs for asyncio and Trio."""

import sys

# pytest knows this package as `anyio_kernels`, `python -m tests.anyio_kernels.score` by its whole name: as `kernels`.
if __name__ != "anyio_kernels":
    import tests.kernels  # noqa: F401
sys.modules.setdefault("anyio_kernels", sys.modules[__name__])
