from __future__ import annotations

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.oci.config import Healthcheck, RunConfig
from slipform.images.changes import apply_changes

SECOND = 10**9


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', RunConfig(cmd=("a", "b c"))),
        ("CMD a 'b c'", RunConfig(cmd=("/bin/sh", "-c", "a 'b c'"))),
        ("cmd []", RunConfig(cmd=())),
        ('ENTRYPOINT ["/x"]', RunConfig(entrypoint=("/x",))),
        ("ENTRYPOINT exec x", RunConfig(entrypoint=("/bin/sh", "-c", "exec x"))),
        ("ENV A=b C='d e' D=\"f g\" E=h\\ i", RunConfig(env=("A=b", "C=d e", "D=f g", "E=h i"))),
        ("ENV A b c  d", RunConfig(env=("A=b c  d",))),
        ("ENV A=1\nENV B=$A-${A}-${X:-y}-${A:+z}", RunConfig(env=("A=1", "B=1-1-y-z"))),
        ("ENV A=1\nENV B='$A' C=\\$A", RunConfig(env=("A=1", "B=$A", "C=$A"))),
        ("ENV A=1 B=2\nENV A=3", RunConfig(env=("A=3", "B=2"))),
        ("ENV A=a=b", RunConfig(env=("A=a=b",))),
        ("LABEL k=v 'a b'=\"c d\"", RunConfig(labels={"k": "v", "a b": "c d"})),
        (
            "EXPOSE 80 443/udp 9000-9001",
            RunConfig(exposed_ports=("443/udp", "80/tcp", "9000/tcp", "9001/tcp")),
        ),
        ("USER app:app", RunConfig(user="app:app")),
        ("VOLUME /a /b", RunConfig(volumes=("/a", "/b"))),
        ('VOLUME ["/a b"]', RunConfig(volumes=("/a b",))),
        ("WORKDIR /a\nWORKDIR b/../c", RunConfig(working_dir="/a/c")),
        ("WORKDIR x", RunConfig(working_dir="/x")),
        ("STOPSIGNAL SIGRTMIN+3", RunConfig(stop_signal="SIGRTMIN+3")),
        ("ONBUILD RUN make  all", RunConfig(on_build=("RUN make  all",))),
        ("HEALTHCHECK NONE", RunConfig(healthcheck=Healthcheck(("NONE",)))),
        (
            'HEALTHCHECK --interval=1m30s --timeout=2s --retries=4 CMD ["a"]',
            RunConfig(healthcheck=Healthcheck(("CMD", "a"), 90 * SECOND, 2 * SECOND, retries=4)),
        ),
        ("HEALTHCHECK CMD a b", RunConfig(healthcheck=Healthcheck(("CMD-SHELL", "a b")))),
        ("# nothing\n\n", RunConfig()),
    ],
)
def test_instructions(change: str, expected: RunConfig) -> None:
    assert apply_changes(RunConfig(), [change]) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN true", '"RUN" is not a valid change command'),
        ("FROM x", '"FROM" is not a valid change command'),
        ("CMD", "CMD requires at least one argument"),
        ("ENV A", '"A" needs a value'),
        ("ENV A=b c", '"c" is not name=value'),
        ("ENV A='b", "unterminated '"),
        ("ENV A=${b", "missing }"),
        ("ENV A=${b%x}", "unsupported modifier"),
        ("EXPOSE 80/icmp", 'invalid port "80/icmp"'),
        ("EXPOSE 70000", "invalid port"),
        ("EXPOSE 9-8", "invalid port"),
        ("STOPSIGNAL bad signal", "invalid signal"),
        ("ONBUILD ONBUILD RUN x", "chaining ONBUILD"),
        ("ONBUILD FROM x", "FROM isn't allowed"),
        ("HEALTHCHECK a", "want HEALTHCHECK"),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK --interval=5 CMD a", "is not a duration"),
        ("HEALTHCHECK --interval=5us CMD a", "less than 1ms"),
        ("HEALTHCHECK --what=1 CMD a", "unknown flag --what"),
        ('VOLUME [""]', "can not be an empty string"),
    ],
)
def test_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message.replace("}", "\\}").replace("(", "\\(")):
        apply_changes(RunConfig(), [change])
