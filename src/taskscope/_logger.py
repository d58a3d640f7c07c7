"""Where taskscope logs."""

from __future__ import annotations

import logging
from typing import Final

logger: Final = logging.getLogger("taskscope")
