"""The status table: complete, reversible, and carrying what a program can act on."""

from __future__ import annotations

import grpc
import pytest

from slipform.core import errors, execution
from slipform.core.source import SourceRange
from slipform.rpc import codes, status

KINDS = [
    kind
    for module in (errors, execution)
    for kind in vars(module).values()
    if isinstance(kind, type)
    and issubclass(kind, errors.DomainError)
    and kind is not errors.DomainError
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_domain_error_has_a_row_and_survives_the_wire(
    kind: type[errors.DomainError],
) -> None:
    sent = kind("blob x: want y")
    got = codes.error_of(codes.number_of(sent), str(sent), codes.details_of(sent))
    assert type(got) is kind
    assert str(got) == "blob x: want y"


def test_numbers_are_distinct_and_grpcs() -> None:
    assert len(set(codes.NUMBERS.values())) == len(codes.NUMBERS)
    assert status.code_of(errors.NotFound("x")) is grpc.StatusCode.NOT_FOUND
    assert status.code_of(errors.DigestMismatch("x")) is grpc.StatusCode.DATA_LOSS
    assert status.code_of(errors.Conflict("x")) is grpc.StatusCode.ABORTED


def test_source_range_travels() -> None:
    sent = errors.InvalidArgument(
        "unknown instruction: RUNN",
        source=SourceRange("Dockerfile", 3, 4, 2),
        source_line="RUNN x",
        expected="an instruction",
    )
    got = codes.error_of(codes.number_of(sent), str(sent), codes.details_of(sent))
    assert isinstance(got, errors.InvalidArgument)
    assert (got.source, got.source_line, got.expected) == (
        SourceRange("Dockerfile", 3, 4, 2),
        "RUNN x",
        "an instruction",
    )


def test_foreign_status_is_mapped_by_its_code() -> None:
    assert isinstance(codes.error_of(5, "gone"), errors.NotFound)
    assert isinstance(codes.error_of(13, "bug"), errors.Unavailable)
