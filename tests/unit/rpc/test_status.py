"""The status table: complete, reversible, and carrying what a program can act on."""

from __future__ import annotations

import grpc
import pytest

from slipform.core import errors
from slipform.core.source import SourceRange
from slipform.rpc import status

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, errors.DomainError)
    and kind is not errors.DomainError
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_domain_error_has_a_row_and_survives_the_wire(
    kind: type[errors.DomainError],
) -> None:
    sent = kind("blob x: want y")
    got = status.error_of(status.code_of(sent), str(sent), status.details_of(sent))
    assert type(got) is kind
    assert str(got) == "blob x: want y"


def test_codes_are_distinct() -> None:
    assert len(set(status.CODES.values())) == len(status.CODES)


def test_source_range_travels() -> None:
    sent = errors.InvalidArgument(
        "unknown instruction: RUNN",
        source=SourceRange("Dockerfile", 3, 4, 2),
        source_line="RUNN x",
        expected="an instruction",
    )
    got = status.error_of(status.code_of(sent), str(sent), status.details_of(sent))
    assert isinstance(got, errors.InvalidArgument)
    assert (got.source, got.source_line, got.expected) == (
        SourceRange("Dockerfile", 3, 4, 2),
        "RUNN x",
        "an instruction",
    )


def test_foreign_status_is_mapped_by_its_code() -> None:
    assert isinstance(status.error_of(grpc.StatusCode.NOT_FOUND, "gone"), errors.NotFound)
    assert isinstance(status.error_of(grpc.StatusCode.INTERNAL, "bug"), errors.Unavailable)
