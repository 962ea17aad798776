"""Which stages and images the target needs; nothing is planned yet, and no base is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.core.oci import canonical
from slipform.core.oci.config import ImageConfig
from slipform.core.oci.platform import Platform
from slipform.core.oci.reference import Reference
from slipform.core.plan import BaseImage
from slipform.frontend.dockerfile import instructions as ins
from slipform.frontend.dockerfile.mounts import mount_from
from slipform.frontend.dockerfile.text import TextError, did_you_mean
from slipform.frontend.planner.triggers import parse_trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slipform.core.plan import ResolvedBase
    from slipform.frontend.dockerfile.lexer import Statement

SCRATCH: Final = "scratch"


@dataclass(frozen=True, slots=True)
class Image:
    """An image by reference and platform; ``scratch`` is the empty one."""

    reference: str
    platform: Platform


Source = int | Image
"""A stage by index, or an image."""


@dataclass(slots=True)
class Graph:
    """Resolves names of stages and images.

    Attributes:
        expand_from: expands a word of a FROM line with the global arguments.
        platform: of stages that do not say another one, and of images to copy from.
        bases: configurations that are known.
    """

    dockerfile: ins.Dockerfile
    escape: str
    platform: Platform
    expand_from: Callable[[str, Statement], str]
    bases: dict[Image, ResolvedBase]
    _origins: dict[int, Source] = field(default_factory=dict)
    _bodies: dict[int, tuple[ins.Instruction, ...]] = field(default_factory=dict)
    _configs: dict[Image, ImageConfig] = field(default_factory=dict)
    _names: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stage in self.dockerfile.stages:
            if stage.origin.name:
                self._names.setdefault(stage.origin.name, []).append(stage.index)

    def target(self, name: str) -> int:
        """The stage to build.

        Raises:
            InvalidArgument: there is none of that name or number.
        """
        if not name:
            return len(self.dockerfile.stages) - 1
        found = self._names.get(name.lower())
        if found:
            return found[-1]
        index = int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else -1
        if 0 <= index < len(self.dockerfile.stages):
            return index
        hint = did_you_mean(name.lower(), self._names)
        raise InvalidArgument(
            f'target stage "{name[:128]}" could not be found{hint}',
            expected=", ".join(self._names) or f"0 to {len(self.dockerfile.stages) - 1}",
        )

    def origin(self, stage: ins.Stage) -> Source:
        """What a stage starts from."""
        found = self._origins.get(stage.index)
        if found is None:
            found = self._origins[stage.index] = self._origin(stage)
        return found

    def _origin(self, stage: ins.Stage) -> Source:
        statement = stage.origin.statement
        base = self.expand_from(stage.origin.base, statement)
        if not base:
            message = f"base name ({stage.origin.base[:128]}) should not be blank"
            raise statement.fault(message, statement.start, "an image or a stage")
        earlier = [i for i in self._names.get(base.lower(), ()) if i < stage.index]
        if earlier:
            return earlier[-1]
        platform = self.platform
        if stage.origin.platform:
            platform = self._stage_platform(stage.origin)
        return Image(_reference(base, statement, statement.start), platform)

    def _stage_platform(self, origin: ins.From) -> Platform:
        statement = origin.statement
        text = self.expand_from(origin.platform, statement)
        offset = statement.flags[0].offset
        if not text:
            message = f"empty platform value from expression {origin.platform[:128]}"
            raise statement.fault(message, offset, "os/arch[/variant]")
        try:
            return Platform.parse(text)
        except InvalidArgument as e:
            raise statement.fault(f"failed to parse platform: {e}", offset, "os/arch") from e

    def source(self, name: str, stage: ins.Stage, statement: Statement) -> Source:
        """What ``--from=name`` or ``from=name`` of a stage means.

        Raises:
            InvalidArgument: a number without a stage, or a stage that comes later.
        """
        offset = statement.flags[0].offset if statement.flags else 0
        negative = name.startswith("-") and name[1:].isdecimal()
        if name.isascii() and (name.isdecimal() or negative):
            index = int(name) if len(name) < 10 else -1
            if not 0 <= index < len(self.dockerfile.stages):
                last = len(self.dockerfile.stages) - 1
                raise statement.fault(f"invalid stage index {name[:20]}", offset, f"0 to {last}")
            return self._earlier(index, name, stage, statement)
        known = self._names.get(name.lower())
        if known:
            before = [i for i in known if i < stage.index]
            return self._earlier((before or known)[-1], name, stage, statement)
        return Image(_reference(name, statement, offset), self.platform)

    def _earlier(self, index: int, name: str, stage: ins.Stage, statement: Statement) -> int:
        if index < stage.index:
            return index
        offset = statement.flags[0].offset if statement.flags else 0
        message = f'stage "{name[:128]}" needs to be defined before current stage "{stage.label}"'
        raise statement.fault(message, offset, "an earlier stage")

    def config(self, image: Image) -> ImageConfig:
        """Of an image whose base is known."""
        found = self._configs.get(image)
        if found is None:
            data = self.bases[image].config
            where = f"config of {image.reference}"
            _check_escapes(data, where)
            found = ImageConfig.decode(data, where)
            self._configs[image] = found
        return found

    def body(self, stage: ins.Stage) -> tuple[ins.Instruction, ...]:
        """The triggers of its base, as far as that is known, then its own instructions."""
        found = self._bodies.get(stage.index)
        if found is None:
            triggers = tuple(self._triggers(stage))
            found = self._bodies[stage.index] = triggers + stage.body if triggers else stage.body
        return found

    def _triggers(self, stage: ins.Stage) -> Iterator[ins.Instruction]:
        origin = self.origin(stage)
        if isinstance(origin, int):
            own = self.dockerfile.stages[origin].body
            expressions = [i.expression for i in own if isinstance(i, ins.OnBuild)]
            escape = self.escape
        elif origin in self.bases:
            expressions = list(self.config(origin).config.on_build)
            escape = "\\"
        else:
            return
        for expression in expressions:
            yield parse_trigger(expression, stage.origin.statement, escape)

    def needed(self, target: int) -> tuple[list[int], dict[Image, BaseImage]]:
        """Stages that the target needs, in their order, and the images whose base is missing."""
        stages: set[int] = set()
        missing: dict[Image, BaseImage] = {}
        waiting = [target]
        while waiting:
            index = waiting.pop()
            if index in stages:
                continue
            stages.add(index)
            for source, statement in self._sources(self.dockerfile.stages[index]):
                if isinstance(source, int):
                    waiting.append(source)
                elif source.reference != SCRATCH and source not in self.bases:
                    need = BaseImage(source.reference, source.platform, statement.range)
                    missing.setdefault(source, need)
        return sorted(stages), missing

    def lineage(self, target: int) -> frozenset[int]:
        """The target, the stage it is built from, and so on."""
        found = {target}
        origin = self.origin(self.dockerfile.stages[target])
        while isinstance(origin, int):
            found.add(origin)
            origin = self.origin(self.dockerfile.stages[origin])
        return frozenset(found)

    def _sources(self, stage: ins.Stage) -> Iterator[tuple[Source, Statement]]:
        yield self.origin(stage), stage.origin.statement
        for instruction in self.body(stage):
            for name in _from_names(instruction):
                statement = instruction.statement
                yield self.source(name, stage, statement), statement


def _check_escapes(data: bytes, where: str) -> None:
    """Refuse what JSON can say and neither a process nor UTF-8 can: NUL, lone surrogates."""
    lower = data.lower()
    if b"\\u0000" in lower:
        raise InvalidArgument(f"{where}: a string holds a NUL character")
    if b"\\ud" not in lower:
        return
    try:
        canonical.encode(canonical.decode_object(data, where))
    except UnicodeEncodeError as e:
        raise InvalidArgument(f"{where}: a string is not valid Unicode") from e


def _from_names(instruction: ins.Instruction) -> Iterator[str]:
    if isinstance(instruction, ins.Copy):
        if "$" in instruction.from_:
            raise instruction.statement.fault(
                "variable expansion is not supported for --from, define a new stage with FROM "
                "using ARG from global scope as a workaround",
                instruction.statement.flags[0].offset,
                "the name of a stage or an image",
            )
        if instruction.from_:
            yield instruction.from_
    elif isinstance(instruction, ins.Run):
        for mount in instruction.mounts:
            try:
                name = mount_from(mount)
            except TextError as e:
                raise instruction.statement.fault(str(e), 0, e.expected) from e
            if name and "$" not in name:
                yield name


def _reference(name: str, statement: Statement, offset: int) -> str:
    if name == SCRATCH:
        return name
    try:
        Reference.parse(name)
    except InvalidArgument as e:
        message = f'failed to parse image name "{name[:256]}": {e}'
        raise statement.fault(message, offset, "registry/name:tag@digest") from e
    return name
