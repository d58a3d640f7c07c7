"""How much a run does: a full one, or a quick one that only shows the order of magnitude."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Numbers of rounds and sizes of samples.

    Attributes:
        spawn_rounds, scope_rounds, proof_rounds, memory_rounds, import_rounds: Rounds of each benchmark; the last for
            all that starts processes.
        tasks: Tasks in a sample of the spawn benchmarks, for subjects that are not slow.
        slow_tasks: The same for those that are.
        scopes: Scopes entered and left in a sample.
        sample_seconds: About how long a sample takes of what is done as often as there is time for.
        passing_tasks: Tasks that pass through the one scope whose memory is watched.
    """

    spawn_rounds: int
    scope_rounds: int
    proof_rounds: int
    memory_rounds: int
    import_rounds: int
    tasks: int
    slow_tasks: int
    scopes: int
    sample_seconds: float
    passing_tasks: int


FULL = Effort(
    spawn_rounds=15,
    scope_rounds=11,
    proof_rounds=7,
    memory_rounds=3,
    import_rounds=15,
    tasks=20_000,
    slow_tasks=2_000,
    scopes=5_000,
    sample_seconds=0.05,
    passing_tasks=5_000_000,
)
QUICK = Effort(
    spawn_rounds=3,
    scope_rounds=3,
    proof_rounds=3,
    memory_rounds=1,
    import_rounds=3,
    tasks=3_000,
    slow_tasks=1_000,
    scopes=1_000,
    sample_seconds=0.01,
    passing_tasks=200_000,
)
