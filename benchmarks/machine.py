"""Where the figures come from: machine, interpreter and versions."""

from __future__ import annotations

import gc
import os
import platform
import sys
import sysconfig
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import taskscope

PACKAGES = ("aiomonitor", "anyio", "pyleak", "trio", "uvloop")


def machine() -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "taskscope": taskscope.__version__,
        "python": {
            "version": sys.version,
            "implementation": platform.python_implementation(),
            "compiler": platform.python_compiler(),
            "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            "gc_thresholds": gc.get_threshold(),
        },
        "packages": {package: _version(package) for package in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
    }


def headline() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"taskscope {taskscope.__version__} on {python}, {system}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            for line in cpuinfo:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or None
