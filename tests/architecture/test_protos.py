"""The wire contract: generated code is fresh, and every word of the API is written with care.

The rules are those of `buf lint` (STANDARD) that can go wrong here, and one that buf lacks: each
field has a comment, which is where its unit, the meaning of zero and its absence are told.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from google.protobuf import descriptor_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROTOS: Final = REPOSITORY / "protos"

# Numbers of fields in descriptor.proto, of which source locations' paths are made.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM = 2, 3, 4
ENUM_VALUE, SERVICE_METHOD = 2, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[pb.FileDescriptorProto]:
    """Every .proto of ours, as protoc understands it, with its comments."""
    out = tmp_path_factory.mktemp("protos") / "all.pb"
    names = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    options = [f"-I{PROTOS}", "--include_source_info", f"--descriptor_set_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *names], check=True)
    return list(pb.FileDescriptorSet.FromString(out.read_bytes()).file)


def test_generated_code_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/protos.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_path_equals_package(files: list[pb.FileDescriptorProto]) -> None:
    assert [
        f.name for f in files if Path(f.name).parent.as_posix() != f.package.replace(".", "/")
    ] == []
    assert [
        f.package for f in files if not re.fullmatch(r"slipform\.api\.[a-z]+\.v\d+", f.package)
    ] == []


def test_everything_has_a_comment(files: list[pb.FileDescriptorProto]) -> None:
    silent = []
    for file in files:
        spoken = {
            tuple(location.path)
            for location in file.source_code_info.location
            if location.leading_comments.strip() or location.trailing_comments.strip()
        }
        silent += [f"{file.name}: {name}" for path, name in elements(file) if path not in spoken]
    assert silent == []


def test_enums_start_unspecified(files: list[pb.FileDescriptorProto]) -> None:
    wrong = []
    for enum in (e for f in files for e in enums(f)):
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper()
        first = enum.value[0]
        if (first.name, first.number) != (f"{prefix}_UNSPECIFIED", 0):
            wrong.append(f"{enum.name}: {first.name} = {first.number}")
        wrong += [
            f"{enum.name}: {v.name}" for v in enum.value if not v.name.startswith(f"{prefix}_")
        ]
    assert wrong == []


def test_each_rpc_owns_its_messages(files: list[pb.FileDescriptorProto]) -> None:
    wrong = []
    for file in files:
        for service in file.service:
            assert service.name.endswith("Service"), service.name
            for rpc in service.method:
                expected = (
                    f".{file.package}.{rpc.name}Request",
                    f".{file.package}.{rpc.name}Response",
                )
                if (rpc.input_type, rpc.output_type) != expected:
                    wrong.append(f"{service.name}.{rpc.name}: {rpc.input_type} → {rpc.output_type}")
    assert wrong == []


def test_names_are_in_the_usual_case(files: list[pb.FileDescriptorProto]) -> None:
    wrong = []
    for file in files:
        for path, name in elements(file):
            last = name.rpartition(".")[2]
            # A path of even length ends in an index; the number before it is the kind of element.
            is_field = len(path) >= 4 and path[0] == FILE_MESSAGE and path[-2] == MESSAGE_FIELD
            usual = r"[a-z][a-z0-9_]*" if is_field else r"[A-Z][A-Za-z0-9_]*"
            if not re.fullmatch(usual, last):
                wrong.append(f"{file.name}: {name}")
    assert wrong == []


Element = tuple[tuple[int, ...], str]


def elements(file: pb.FileDescriptorProto) -> Iterator[Element]:
    """Yields (source path, name) of each message, field, enum, enum value, service and RPC."""
    for i, message in enumerate(file.message_type):
        yield from message_elements(message, (FILE_MESSAGE, i), message.name)
    for i, enum in enumerate(file.enum_type):
        yield from enum_elements(enum, (FILE_ENUM, i), enum.name)
    for i, service in enumerate(file.service):
        yield (FILE_SERVICE, i), service.name
        for j, rpc in enumerate(service.method):
            yield (FILE_SERVICE, i, SERVICE_METHOD, j), f"{service.name}.{rpc.name}"


def message_elements(
    message: pb.DescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[Element]:
    """Yields a message, its fields and what is nested in it; not the entries of its maps."""
    if message.options.map_entry:
        return
    # The Request and Response of an RPC are told by the RPC's own comment.
    if not name.endswith(("Request", "Response")):
        yield path, name
    for i, field in enumerate(message.field):
        yield (*path, MESSAGE_FIELD, i), f"{name}.{field.name}"
    for i, nested in enumerate(message.nested_type):
        yield from message_elements(nested, (*path, MESSAGE_NESTED, i), f"{name}.{nested.name}")
    for i, enum in enumerate(message.enum_type):
        yield from enum_elements(enum, (*path, MESSAGE_ENUM, i), f"{name}.{enum.name}")


def enum_elements(
    enum: pb.EnumDescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[Element]:
    """Yields an enum and its values, but not the first, which says all by its name."""
    yield path, name
    for i, value in enumerate(enum.value):
        if i > 0:
            yield (*path, ENUM_VALUE, i), f"{name}.{value.name}"


def enums(file: pb.FileDescriptorProto) -> Iterator[pb.EnumDescriptorProto]:
    """Yields every enum of a file, also the nested ones."""
    yield from file.enum_type
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        yield from message.enum_type
        waiting += message.nested_type
