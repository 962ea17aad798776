"""Whatever stands in a Dockerfile: a plan, or ``InvalidArgument``, and soon."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.core.errors import InvalidArgument
from slipform.core.oci.platform import Platform
from slipform.core.plan import NeedBases, Plan, PlanRequest, PlanResult, ResolvedBase
from slipform.frontend.dockerfile.printer import print_dockerfile
from slipform.frontend.frontend import DockerfileFrontend
from slipform.rpc.convert.frontend import parsed_from_pb, parsed_to_pb, result_from_pb, result_to_pb

FRONTEND = DockerfileFrontend()
AMD64 = Platform("linux", "amd64")
NAMES = (
    "FROM RUN COPY ADD ENV ARG LABEL WORKDIR USER EXPOSE VOLUME CMD ENTRYPOINT SHELL STOPSIGNAL "
    "HEALTHCHECK ONBUILD MAINTAINER from Run RUM # ## \\"
).split(" ")
PIECES = (
    "a b / . .. /x/ --from=a --from=0 --mount=type=cache,target=/c --mount=from=a,target=/m "
    "--link --chown=$a --x -- $a ${a} ${a:-b} ${a:+$b} ${a#*} ${a//b/c} ${a ${ } $ a=1 b=$a c= "
    '=d scratch AS a* [b] [ ] ["a"] ["a", "b"] [1] "a b" \'c d\' " \' \\ \\\\ <<E <<-E <<\'E\' '
    '<<"E <<< << E NONE CMD 80 80-90/udp a:1 https://h/p https://h/p.git $(( )) \t \u00e9 \u2028 '
    "\udcff \x0b --interval=1s --checksum=sha256:a |&;"
).split(" ")

words = st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join)
lines = st.one_of(
    st.tuples(st.sampled_from(NAMES), words).map(" ".join),
    words,
    st.sampled_from(
        ["", "E", "\tE", "# escape=`", "# check=skip=all", "FROM scratch", "FROM a AS a"]
    ),
)
files = st.tuples(
    st.sampled_from(["", "FROM scratch\n", "\ufeff# escape=`\n", "FROM scratch AS a\n"]),
    st.lists(lines, max_size=12),
    st.sampled_from(["\n", "\r\n", " \\\n"]),
).map(lambda parts: (parts[0] + parts[2].join(parts[1])).encode("utf-8", "surrogateescape"))


def _plan(dockerfile: bytes) -> PlanResult:
    request = PlanRequest(dockerfile, build_platform=AMD64, build_args=(("b", "1 2"),))
    config = b'{"architecture":"amd64","os":"linux","config":{"OnBuild":["RUN $a","COPY . /x"]}}'
    for _ in range(4):
        result = FRONTEND.plan(request)
        if isinstance(result, Plan):
            return result
        bases = (ResolvedBase(b.reference, b.platform, "sha256:0", config) for b in result.bases)
        request = replace(request, bases=(*request.bases, *bases))
    raise AssertionError("ever more bases")


def _check(dockerfile: bytes) -> None:
    try:
        result = _plan(dockerfile)
    except InvalidArgument as e:
        # All of it can be shown and sent.
        f"{e}{e.source_line}{e.expected}".encode()
    else:
        assert not isinstance(result, NeedBases)
        assert result_from_pb(result_to_pb(result)) == result


@given(files)
def test_structured_input(dockerfile: bytes) -> None:
    _check(dockerfile)


@given(st.binary(max_size=200))
def test_any_bytes(dockerfile: bytes) -> None:
    _check(dockerfile)
    _check(b"FROM scratch\n" + dockerfile)


@given(files)
def test_printing_and_parsing_again_changes_nothing(dockerfile: bytes) -> None:
    try:
        parsed = FRONTEND.parse(dockerfile)
    except InvalidArgument:
        return
    again = FRONTEND.parse(print_dockerfile(parsed.instructions, parsed.escape))
    where = parsed.instructions[0].source
    assert [replace(i, source=where) for i in again.instructions] == [
        replace(i, source=where) for i in parsed.instructions
    ]
    assert parsed_from_pb(parsed_to_pb(parsed)) == parsed


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "line",
    [
        "RUN " + "<<" * 20_000,
        "RUN " + "<<a " * 5_000,
        "ENV a=" + "${a:-" * 10_000,
        "ENV a=" + "\\" * 60_000,
        "ENV " + "'" * 60_001,
        'LABEL "' + '\\"' * 30_000,
        "RUN " + "[" * 60_000,
        "COPY " + "a " * 30_000 + "/",
        "EXPOSE " + "0-65535 " * 200,
        "COPY --from=" + "a" * 60_000 + " / /",
        "FROM " + "a/" * 30_000,
        "RUN --mount=" + "," * 60_000 + " x",
        "HEALTHCHECK --interval=" + "1h" * 30_000 + " CMD x",
        "RUN $((" + "$((<<" * 10_000,
        "ENV a=" + "$a" * 30_000,
        "ENV b=${PATH//" + "*a" * 5_000 + "/x}",
    ],
)
def test_long_lines_take_no_long_time(line: str) -> None:
    _check(f"FROM scratch\n{line}\n".encode())


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "line",
    [
        "RUN \\",
        "RUN a <<A",
        "ENV a$a=1",
        "ARG a=1\nRUN x",
        "FROM scratch",
        "ONBUILD ENV a=1\nFROM 0",
        "ENV PATH=$PATH:$PATH:$PATH",
        "LABEL a=${PATH//?/$PATH}",
    ],
)
def test_long_files_take_no_long_time(line: str) -> None:
    _check(f"FROM scratch\n{(line + chr(10)) * 5_000}".encode())
