"""The compiled filter is run by a small interpreter of classic BPF and compared with the policy."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.core.errors import Unsupported
from slipform.core.linux.seccomp import numbers
from slipform.core.linux.seccomp.compiler import compile_policy
from slipform.executor.seccomp_policy import policy
from slipform.executor.spec import DEFAULT_CAPABILITIES

ALLOW = 0x7FFF0000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS
KILL = 0x80000000
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7


def decide(program: bytes, arch: int, number: int, *args: int) -> int:
    data = struct.pack("=IIQ6Q", number, arch, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        opcode, yes, no, operand = code[at]
        at += 1
        if opcode == 0x06:
            return int(operand)
        if opcode == 0x20:
            accumulator = struct.unpack_from("=I", data, operand)[0]
        elif opcode == 0x54:
            accumulator &= operand
        elif opcode == 0x05:
            at += operand
        else:
            taken = {0x15: accumulator == operand, 0x25: accumulator > operand,
                     0x35: accumulator >= operand}[opcode]  # fmt: skip
            at += yes if taken else no


@pytest.fixture(scope="module")
def filtered() -> bytes:
    found = policy(DEFAULT_CAPABILITIES, "x86_64")
    assert found is not None
    return compile_policy(found)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("read", (), ALLOW),
        ("chroot", (), ALLOW),
        ("mount", (), EPERM),
        ("keyctl", (), EPERM),
        ("bpf", (), EPERM),
        ("io_uring_setup", (), EPERM),
        ("clone3", (), ENOSYS),
        ("clone", (0x11,), ALLOW),
        ("clone", (0x10000011,), EPERM),
        ("personality", (0,), ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x40000,), EPERM),
        ("socket", (1,), ALLOW),
        ("socket", (2,), ALLOW),
        ("socket", (44,), ALLOW),
        ("socket", (40,), EPERM),
        ("socket", (40 | 1 << 32,), EPERM),
    ],
)
def test_dockers_policy(filtered: bytes, name: str, args: tuple[int, ...], expected: int) -> None:
    assert decide(filtered, X86_64, numbers.X86_64[name], *args) == expected
    if name in numbers.I386:
        assert decide(filtered, I386, numbers.I386[name], *args) == expected


def test_what_no_table_knows(filtered: bytes) -> None:
    assert decide(filtered, X86_64, 5000) == ENOSYS
    assert decide(filtered, X86_64, 0x40000000 | 1) == ENOSYS
    assert decide(filtered, AARCH64, 1) == KILL


def test_every_number_has_the_outcome_of_its_rule(filtered: bytes) -> None:
    found = policy(DEFAULT_CAPABILITIES, "x86_64")
    assert found is not None
    plain = {n for rule in found["syscalls"] if "args" not in rule
             and rule["action"] == "SCMP_ACT_ALLOW" for n in rule["names"]}  # fmt: skip
    conditional = {n for rule in found["syscalls"] if "args" in rule for n in rule["names"]}
    for name, number in numbers.X86_64.items():
        if name in conditional or name == "clone3":
            continue
        expected = ALLOW if name in plain else EPERM
        assert decide(filtered, X86_64, number) == expected, name


def test_capabilities_open_system_calls() -> None:
    found = policy(("CAP_SYS_ADMIN",), "aarch64")
    assert found is not None
    program = compile_policy(found)
    for name in ("mount", "unshare", "clone3", "setns"):
        assert decide(program, AARCH64, numbers.AARCH64[name]) == ALLOW
    assert decide(program, AARCH64, numbers.AARCH64["clone"], 0x10000000) == ALLOW


def test_unknown_words_are_refused() -> None:
    base = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"]}
    with pytest.raises(Unsupported):
        compile_policy({**base, "defaultAction": "SCMP_ACT_NOTIFY"})
    with pytest.raises(Unsupported):
        compile_policy({**base, "architectures": ["SCMP_ARCH_MIPS"]})


def test_machines_without_tables_have_no_policy() -> None:
    assert policy((), "riscv64") is None


WORDS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63]))
OPERATORS = {
    "SCMP_CMP_EQ": lambda a, v, w: a == v,
    "SCMP_CMP_NE": lambda a, v, w: a != v,
    "SCMP_CMP_LT": lambda a, v, w: a < v,
    "SCMP_CMP_LE": lambda a, v, w: a <= v,
    "SCMP_CMP_GT": lambda a, v, w: a > v,
    "SCMP_CMP_GE": lambda a, v, w: a >= v,
    "SCMP_CMP_MASKED_EQ": lambda a, v, w: a & v == w,
}


@given(
    conditions=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(sorted(OPERATORS)), WORDS, WORDS),
        min_size=1,
        max_size=3,
    ),
    args=st.tuples(*[WORDS] * 6),
    number=st.integers(0, numbers.NEWEST),
)
def test_conditions_compare_64_bits(
    conditions: list[tuple[int, str, int, int]], args: tuple[int, ...], number: int
) -> None:
    entry = {
        "names": ["socket"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": i, "op": op, "value": v, "valueTwo": w} for i, op, v, w in conditions],
    }
    program = compile_policy(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [entry],
        }
    )
    holds = all(OPERATORS[op](args[i], v, w) for i, op, v, w in conditions)
    socket = numbers.X86_64["socket"]
    assert decide(program, X86_64, socket, *args) == (ALLOW if holds else EPERM)
    if number != socket:
        assert decide(program, X86_64, number, *args) == EPERM
