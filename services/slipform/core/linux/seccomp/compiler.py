"""From the runtime-spec's ``linux.seccomp`` to classic BPF.

For each architecture the system call numbers fall into ranges with the same outcome; a binary
search over the ranges decides in some ten instructions what a list would in hundreds.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import Unsupported
from slipform.core.linux.seccomp import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JA: Final = 0x05
_JEQ: Final = 0x15
_JGT: Final = 0x25
_JGE: Final = 0x35
_RET: Final = 0x06

_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16

_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_NO_SYSCALL: Final = _ERRNO | errno.ENOSYS
_X32_BIT: Final = 0x40000000
_FARTHEST: Final = 255
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class _Machine:
    audit: int
    numbers: Mapping[str, int]


_MACHINES: Final = {
    "SCMP_ARCH_X86_64": _Machine(0xC000003E, numbers.X86_64),
    "SCMP_ARCH_X86": _Machine(0x40000003, numbers.I386),
    "SCMP_ARCH_AARCH64": _Machine(0xC00000B7, numbers.AARCH64),
}

Code = list[tuple[int, int, int, int]]
"""(opcode, jump if true, jump if false, operand)."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """An action, when all conditions on the arguments hold."""

    action: int
    conditions: tuple[tuple[int, str, int, int], ...] = ()
    """(argument, operator, value, second value)."""


def compile_policy(policy: Mapping[str, Any]) -> bytes:
    """Make the filter of a runtime-spec policy.

    System calls that are newer than our tables answer ENOSYS, so that programs fall back to what
    they did before; those of an architecture that the policy does not name kill the process.

    Raises:
        Unsupported: an action or operator that is not known, or no known architecture.
    """
    default = _action(policy["defaultAction"], policy.get("defaultErrnoRet"))
    machines = [_MACHINES[name] for name in policy["architectures"] if name in _MACHINES]
    if not machines:
        raise Unsupported(f"seccomp: none of {policy['architectures']} is known")
    code: Code = [(_LD, 0, 0, _ARCHITECTURE)]
    for machine in machines:
        section = _section(machine, policy.get("syscalls") or (), default)
        code += [(_JEQ, 1, 0, machine.audit), (_JA, 0, 0, len(section)), *section]
    code.append((_RET, 0, 0, _KILL_PROCESS))
    if len(code) > _LONGEST:
        raise Unsupported(f"seccomp: {len(code)} instructions, the kernel takes {_LONGEST}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _action(name: str, error: int | None) -> int:
    if name not in _ACTIONS:
        raise Unsupported(f"seccomp: action {name} is not known")
    if name == "SCMP_ACT_ERRNO":
        return _ERRNO | (errno.EPERM if error is None else error)
    return _ACTIONS[name]


def _section(machine: _Machine, entries: Sequence[Mapping[str, Any]], default: int) -> Code:
    """Everything for one architecture; always ends in a return."""
    rules = _rules(machine, entries)
    outcomes = [(*rules.get(n, ()), _Rule(default)) for n in range(numbers.NEWEST + 1)]
    ranges = [(0, outcomes[0])]
    for number, outcome in enumerate(outcomes):
        if outcome != ranges[-1][1]:
            ranges.append((number, outcome))
    ranges.append((numbers.NEWEST + 1, (_Rule(_NO_SYSCALL),)))
    return [(_LD, 0, 0, _NUMBER), *_search(ranges)]


def _rules(machine: _Machine, entries: Sequence[Mapping[str, Any]]) -> dict[int, tuple[_Rule, ...]]:
    """The rules of each system call number, in the order of the policy."""
    found: dict[int, tuple[_Rule, ...]] = {}
    for entry in entries:
        conditions = tuple(
            (int(arg["index"]), str(arg["op"]), int(arg["value"]), int(arg.get("valueTwo", 0)))
            for arg in entry.get("args") or ()
        )
        rule = _Rule(_action(entry["action"], entry.get("errnoRet")), conditions)
        for name in entry["names"]:
            number = machine.numbers.get(name)
            if number is not None:
                found[number] = (*found.get(number, ()), rule)
    return found


def _search(ranges: Sequence[tuple[int, tuple[_Rule, ...]]]) -> Code:
    if len(ranges) == 1:
        return _outcome(ranges[0][1])
    middle = len(ranges) // 2
    lower, upper = _search(ranges[:middle]), _search(ranges[middle:])
    first = ranges[middle][0]
    if len(lower) <= _FARTHEST:
        return [(_JGE, len(lower), 0, first), *lower, *upper]
    return [(_JGE, 0, 1, first), (_JA, 0, 0, len(lower)), *lower, *upper]


def _outcome(rules: Sequence[_Rule]) -> Code:
    """The first rule whose conditions hold decides; the last one has none."""
    code: Code = []
    for rule in rules:
        code += _rule(rule)
        if not rule.conditions:
            break
    return code


def _rule(rule: _Rule) -> Code:
    body: Code = [(_RET, 0, 0, rule.action)]
    for condition in reversed(rule.conditions):
        body = _condition(*condition, body)
    return body


def _condition(argument: int, operator: str, value: int, second: int, then: Code) -> Code:
    """Run ``then`` (which returns) when the 64-bit argument compares so, else fall through."""
    low, high = _ARGUMENTS + 8 * argument, _ARGUMENTS + 8 * argument + 4
    after = len(then)
    vh, vl = value >> 32, value & 0xFFFFFFFF
    if operator == "SCMP_CMP_EQ":
        return [(_LD, 0, 0, high), (_JEQ, 0, after + 2, vh), (_LD, 0, 0, low),
                (_JEQ, 0, after, vl), *then]  # fmt: skip
    if operator == "SCMP_CMP_NE":
        return [(_LD, 0, 0, high), (_JEQ, 0, 2, vh), (_LD, 0, 0, low),
                (_JEQ, after, 0, vl), *then]  # fmt: skip
    if operator == "SCMP_CMP_MASKED_EQ":
        sh, sl = second >> 32, second & 0xFFFFFFFF
        return [(_LD, 0, 0, high), (_AND, 0, 0, vh), (_JEQ, 0, after + 3, sh), (_LD, 0, 0, low),
                (_AND, 0, 0, vl), (_JEQ, 0, after, sl), *then]  # fmt: skip
    if operator in ("SCMP_CMP_GT", "SCMP_CMP_GE"):
        last = _JGT if operator == "SCMP_CMP_GT" else _JGE
        return [(_LD, 0, 0, high), (_JGT, 3, 0, vh), (_JEQ, 0, after + 2, vh), (_LD, 0, 0, low),
                (last, 0, after, vl), *then]  # fmt: skip
    if operator in ("SCMP_CMP_LT", "SCMP_CMP_LE"):
        last = _JGE if operator == "SCMP_CMP_LT" else _JGT
        return [(_LD, 0, 0, high), (_JGT, after + 3, 0, vh), (_JEQ, 0, 2, vh), (_LD, 0, 0, low),
                (last, after, 0, vl), *then]  # fmt: skip
    raise Unsupported(f"seccomp: operator {operator} is not known")
