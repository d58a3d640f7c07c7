"""Which variables of a suspended frame can still be read: one that is assigned anew before that holds nothing."""

from __future__ import annotations

import dis
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_NONE: Final[frozenset[str]] = frozenset()

# What does not go on to the next instruction. One that is missing here leads to more places than it does in truth, and
# then a variable counts as live that is not.
_ENDS: Final = frozenset(
    {
        "RETURN_VALUE",
        "RETURN_CONST",
        "RAISE_VARARGS",
        "RERAISE",
        "JUMP_FORWARD",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
    }
)

# What gives values to all the variables that it names, or takes them away. Every other one that names any reads them.
_WRITES: Final = frozenset({"STORE_FAST", "STORE_FAST_STORE_FAST", "DELETE_FAST"})

# By these all variables may be read.
_READERS_OF_ALL: Final = frozenset({"locals", "vars", "dir", "eval", "exec", "_getframe", "currentframe"})


class _Known(NamedTuple):
    code: weakref.ref[types.CodeType]
    dead: frozenset[str]


# By the ids of code objects, whose own hash goes through all that they consist of.
_known: dict[tuple[int, int], _Known] = {}
_MOST_KNOWN: Final = 10_000


def dead_variables(code: types.CodeType, at: int) -> frozenset[str]:
    """The variables of a frame that waits at an instruction whose values no way from there on comes to read.

    What is in doubt is none of them: variables that other functions share, and all where the code cannot be understood.
    """
    known = _known.get((id(code), at))
    if known is not None and known.code() is code:
        return known.dead
    try:
        dead = _find_dead(code, at)
    except Exception:  # the bytecode of a Python that is not known yet
        dead = _NONE
    if len(_known) < _MOST_KNOWN:
        _known[id(code), at] = _Known(weakref.ref(code), dead)
    return dead


def _find_dead(code: types.CodeType, at: int) -> frozenset[str]:
    own = frozenset(code.co_varnames).difference(code.co_cellvars, code.co_freevars)
    if not own or not _READERS_OF_ALL.isdisjoint(code.co_names):
        return _NONE
    if "super" in code.co_names:
        own -= {code.co_varnames[0]}  # `super()` reads it behind the back of the bytecode
    flow = _Flow(code)
    live: set[str] = set()
    # At an instruction, the variables that still have the values they had at the beginning.
    unchanged: dict[int, frozenset[str]] = {}
    ahead = deque((place, own) for place in flow.after(flow.places[max(at, 0)]))
    while ahead:
        place, names = ahead.popleft()
        new = names - unchanged.get(place, _NONE) - live
        if not new:
            continue
        unchanged[place] = unchanged.get(place, _NONE) | new
        reads, writes = _effect(flow.instructions[place])
        live |= new & reads
        ahead.extend((following, new - reads - writes) for following in flow.after(place))
    return own - live


class _Flow:
    """Which instruction may follow which."""

    def __init__(self, code: types.CodeType) -> None:
        bytecode: Any = dis.Bytecode(code)
        self.instructions: list[dis.Instruction] = list(bytecode)
        self.places = {instruction.offset: place for place, instruction in enumerate(self.instructions)}
        self._handlers: list[Any] = list(bytecode.exception_entries)

    def after(self, place: int) -> Iterator[int]:
        instruction = self.instructions[place]
        if instruction.opname not in _ENDS:
            yield place + 1
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            yield self.places[instruction.argval]
        for handler in self._handlers:
            if handler.start <= instruction.offset < handler.end:
                yield self.places[handler.target]


def _effect(instruction: dis.Instruction) -> tuple[frozenset[str], frozenset[str]]:
    """The variables that an instruction reads, and those that it only writes."""
    if instruction.opcode not in dis.haslocal and "FAST" not in instruction.opname:
        return _NONE, _NONE
    value: Any = instruction.argval
    names = [value] if isinstance(value, str) else list(map(str.__str__, value))  # which fails for anything else
    if instruction.opname in _WRITES:
        return _NONE, frozenset(names)
    if instruction.opname == "STORE_FAST_LOAD_FAST":  # in this order
        written, read = names
        return frozenset({read}) - {written}, frozenset({written})
    return frozenset(names), _NONE
