"""That the time tests hold against a bound leaves out what a busy machine took for others, and nothing else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import stopwatch
from stopwatch import Stopwatch


def write_schedstat(threads: Path, thread: str, delay: float) -> None:
    (threads / thread).mkdir(exist_ok=True)
    (threads / thread / "schedstat").write_text(f"5000000000 {int(delay * 1e9)} 7\n")


def test_it_leaves_out_what_threads_waited_for_a_processor(tmp_path: Path) -> None:
    with mock.patch.object(stopwatch, "_THREADS", tmp_path), mock.patch("time.perf_counter", return_value=100.0) as now:
        write_schedstat(tmp_path, "1", 20)
        write_schedstat(tmp_path, "2", 40)
        watch = Stopwatch()
        now.return_value = 110.0
        assert watch.seconds() == pytest.approx(10)
        write_schedstat(tmp_path, "1", 21)  # one that was there
        (tmp_path / "2" / "schedstat").unlink()  # one that has ended
        write_schedstat(tmp_path, "3", 2)  # one that has come
        assert watch.seconds() == pytest.approx(10 - 1 - 2)


def test_it_counts_idle_time_in_full() -> None:
    watch, before = Stopwatch(), time.perf_counter()
    time.sleep(0.2)
    assert watch.seconds() > 0.15
    assert watch.seconds() <= time.perf_counter() - before + 0.001


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what threads waited for")
def test_threads_of_this_process_are_found() -> None:
    assert stopwatch._delays()
