from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.core.errors import InvalidArgument
from slipform.core.oci.reference import Reference, is_tag

HEX = "a" * 64
PIN = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "normalised", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/me/x", "docker.io/me/x:latest", "me/x:latest"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("reg.example/a/b/c:T_1.x-y", "reg.example/a/b/c:T_1.x-y", "reg.example/a/b/c:T_1.x-y"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("HOST/app", "HOST/app:latest", "HOST/app:latest"),
        (f"busybox@{PIN}", f"docker.io/library/busybox@{PIN}", f"busybox@{PIN}"),
        (f"busybox:1@{PIN}", f"docker.io/library/busybox:1@{PIN}", f"busybox:1@{PIN}"),
        ("a__b/c-----d.e_f", "docker.io/a__b/c-----d.e_f:latest", "a__b/c-----d.e_f:latest"),
        ("busybox:" + "t" * 128, "docker.io/library/busybox:" + "t" * 128, "busybox:" + "t" * 128),
    ],
)
def test_every_spelling_has_one_normal_form(text: str, normalised: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert reference.normalised == normalised
    assert reference.familiar == familiar
    assert Reference.parse(normalised) == reference
    assert Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("busybox:", "invalid reference format"),
        ("busybox@", "invalid reference format"),
        ("busybox@sha256:abc", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("a:b\n", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a_-b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("../etc/passwd", "invalid reference format"),
        ("büsybox", "invalid reference format"),
        ("busybox:" + "t" * 129, "invalid reference format"),
        ("busybox:-t", "invalid reference format"),
        ("x" * 100_000, "invalid reference format"),
        ("Busybox", "invalid reference format: repository name must be lowercase"),
        ("me/App", "invalid reference format: repository name must be lowercase"),
        ("reg.example/App:x", "invalid reference format: repository name must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("reg.example/" + "a" * 250, "repository name must not be more than 255 characters"),
        (
            f"a@md5:{'0' * 32}",
            'invalid reference format: unsupported digest algorithm "md5"',
        ),
        (f"a@sha256:{'0' * 63}", "invalid reference format: invalid checksum digest length"),
        (f"a@sha256:{'A' * 64}", "invalid reference format: invalid checksum digest format"),
    ],
)
def test_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Reference.parse(text)
    assert str(caught.value) == message


def test_parts() -> None:
    reference = Reference.parse(f"localhost:5000/a/b:1@{PIN}")
    assert reference.registry == "localhost:5000"
    assert reference.repository == "a/b"
    assert reference.name == reference.familiar_name == "localhost:5000/a/b"
    assert reference.tag == "1"
    assert str(reference.digest) == PIN
    assert reference.without_digest().normalised == "localhost:5000/a/b:1"
    assert Reference.parse(f"a@{PIN}").without_digest().familiar == "a:latest"


def test_tags() -> None:
    assert is_tag("v1.0_x-Y")
    assert not is_tag(".x")
    assert not is_tag("x" * 129)
    assert not is_tag("")


LIKELY = st.from_regex(
    r"(?:[a-z0-9.]{1,9}(?::[0-9]{1,4})?/)?[a-z0-9._-]{1,9}(?::[\w.-]{1,9})?", fullmatch=True
)


@given(st.text(max_size=400) | LIKELY)
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(reference.normalised) == reference
    assert Reference.parse(reference.familiar) == reference
