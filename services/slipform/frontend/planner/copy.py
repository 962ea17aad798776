"""``COPY``, ``ADD`` and ``WORKDIR``: steps that write files."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from slipform.core.plan import CopyOp, InlineFile, WorkdirOp
from slipform.frontend.planner import history
from slipform.frontend.planner.configure import clean_path
from slipform.frontend.planner.run import check_file_name

if TYPE_CHECKING:
    from slipform.frontend.dockerfile import instructions as ins
    from slipform.frontend.dockerfile.lexer import Statement
    from slipform.frontend.planner.session import StageContext

_HTTP: Final = re.compile(r"https?://", re.IGNORECASE)
_GIT: Final = re.compile(r"(?:git://|ssh://|git@[^/:]+:|https?://[^?#]*\.git/?(?:[?#]|\Z))")
_OCTAL: Final = re.compile(r"[0-7]{1,8}")
_SYMBOLIC: Final = re.compile(
    r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*"
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_PIVOT: Final = "/./"


def workdir(context: StageContext, instruction: ins.Value) -> None:
    """``WORKDIR``: a layer, unless it is the root."""
    state, statement = context.state, instruction.statement
    value = context.expand(instruction.value, statement)
    if not state.own_workdir and not value.startswith("/"):
        message = (
            f"Relative workdir '{value}' can have unexpected results if the base image changes"
        )
        context.session.advice.add("WorkdirRelativePath", message, statement)
    state.own_workdir = True
    state.working_dir = path = clean_path(value, state.working_dir)
    if path == "/":
        context.number += 1
        state.history.append(history.empty("WORKDIR /"))
    else:
        context.layer(WorkdirOp(path, state.user), statement, history.layer(f"WORKDIR {path}"))


def copy(context: StageContext, instruction: ins.Copy) -> None:
    """Plan one COPY or ADD step."""
    statement = instruction.statement
    session = context.session
    dest = context.expand(instruction.dest, statement)
    chown = context.expand(instruction.chown, statement)
    chmod = _chmod(context.expand(instruction.chmod, statement), statement)
    sources, urls, files, written = _sources(context, instruction)
    is_dir = _is_directory(dest)
    if len(written) > 1 and not is_dir:
        message = (
            f"When using {statement.name} with more than one source file, "
            "the destination must be a directory and end with a /"
        )
        raise statement.fault(message, statement.start, "a destination that ends with /")
    _check_urls(urls, statement, is_dir=is_dir)
    from_step = None
    if instruction.from_:
        source = session.graph.source(instruction.from_, context.stage, statement)
        from_step = session.root(source, context.stage.label, statement)
    op = CopyOp(
        dest=clean_path(dest, context.state.working_dir),
        dest_is_dir=is_dir,
        sources=sources,
        urls=urls,
        files=files,
        from_step=from_step,
        add=instruction.add,
        unpack=instruction.unpack,
        chown=chown,
        chmod=chmod,
        link=instruction.link,
        parents=instruction.parents,
        excludes=tuple(context.expand(text, statement) for text in instruction.excludes),
        checksum=_checksum(context, instruction, written, urls),
    )
    flags = [
        *(["--parents"] if instruction.parents else ()),
        *([f"--chown={chown}"] if chown else ()),
        *([f"--chmod={chmod}"] if chmod else ()),
    ]
    # BuildKit lists heredocs after paths, whatever their order was.
    ordered = sorted(written, key=lambda text: text.startswith("<<"))
    created_by = " ".join([statement.name, *flags, *ordered, dest, "# buildkit"])
    context.layer(op, statement, history.layer(created_by))


def _sources(
    context: StageContext, instruction: ins.Copy
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[InlineFile, ...], list[str]]:
    """Paths, URLs and inline files; and all of them as history shows them."""
    statement = instruction.statement
    paths: list[str] = []
    urls: list[str] = []
    files: list[InlineFile] = []
    written: list[str] = []
    for source in instruction.sources:
        if not isinstance(source, str):
            marker = source.marker
            check_file_name(marker.name, source, statement)
            body = source.content
            if marker.expand:
                body = context.expand_body(body, statement)
            files.append(InlineFile(marker.name, body.encode()))
            written.append(f"<<{marker.name}")
            continue
        text = context.expand(source, statement)
        written.append(text)
        if _GIT.match(text):
            _refuse_git(instruction)
        elif _HTTP.match(text):
            if not instruction.add:
                message = "source can't be a URL for COPY"
                raise statement.fault(message, statement.start, "a path, or ADD")
            urls.append(text)
        else:
            paths.append(clean_source(text, parents=instruction.parents))
    return tuple(paths), tuple(urls), tuple(files), written


def _refuse_git(instruction: ins.Copy) -> None:
    statement = instruction.statement
    if not instruction.add:
        message = "source can't be a git ref for COPY"
        raise statement.fault(message, statement.start, "a path")
    raise statement.fault("ADD from git is not available yet", statement.start, "a path or a URL")


def clean_source(text: str, *, parents: bool) -> str:
    """Relative to the root of the input, where ``..`` stops; ``.`` is that root.

    With ``parents`` the pivot ``/./`` is kept.
    """
    if parents and _PIVOT in text:
        left, right = text.split(_PIVOT, 1)
        return f"{_relative(left)}{_PIVOT}{_relative(right)}"
    return _relative(text)


def _relative(text: str) -> str:
    return posixpath.normpath("/" + text).lstrip("/") or "."


def _is_directory(dest: str) -> bool:
    return dest in ("", ".", "..") or dest.endswith(("/", "/.", "/.."))


def _chmod(text: str, statement: Statement) -> str:
    if not text:
        return ""
    octal = _OCTAL.fullmatch(text) and int(text, 8) <= 0o7777
    if octal or _SYMBOLIC.fullmatch(text):
        return text
    offset = statement.flags[0].offset
    raise statement.fault(
        f"invalid chmod parameter: '{text[:64]}'. it should be octal string "
        "and between 0 and 07777",
        offset,
        "0755, or u=rwX,go=rX",
    )


def _checksum(
    context: StageContext, instruction: ins.Copy, written: list[str], urls: tuple[str, ...]
) -> str:
    if not instruction.checksum:
        return ""
    statement = instruction.statement
    checksum = context.expand(instruction.checksum, statement)
    offset = next(f.offset for f in statement.flags if f.text.startswith("--checksum"))
    if len(written) != 1:
        raise statement.fault("checksum can't be specified for multiple sources", offset)
    if not urls:
        raise statement.fault("checksum can't be specified for non-HTTP(S) sources", offset)
    if not _DIGEST.fullmatch(checksum):
        message = f'invalid checksum "{checksum[:160]}"'
        raise statement.fault(message, offset, "sha256: and 64 hex digits")
    return checksum


def _check_urls(urls: tuple[str, ...], statement: Statement, *, is_dir: bool) -> None:
    for url in urls:
        try:
            path = urlsplit(url).path
        except ValueError as e:
            raise statement.fault(f"malformed URL {url[:200]}: {e}", statement.start) from e
        if is_dir and not posixpath.basename(path):
            message = f"cannot determine filename from url: {url[:200]}"
            raise statement.fault(message, statement.start, "a destination that names the file")
