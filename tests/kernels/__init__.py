"""Small programs with one concurrency bug each, and what a scope must say about them."""

import sys

# pytest knows this package as `kernels`, `python -m tests.kernels.score` by its whole name: it is one and the same.
sys.modules.setdefault("kernels", sys.modules[__name__])
