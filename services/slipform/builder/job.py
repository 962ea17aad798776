"""One build's knowledge of its plan: contexts, listings, documents and keys of every step."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slipform.builder import keys
from slipform.builder.cache import key_of
from slipform.builder.downloading import Downloader, file_name
from slipform.builder.filesteps import Sources
from slipform.builder.listing import Listing, list_contents
from slipform.builder.selection import Item, Selected, clamp, select, subtree
from slipform.builder.tree import follow
from slipform.builder.workshop import Recipe
from slipform.core.errors import NotFound, Unsupported
from slipform.core.oci.config import ImageConfig
from slipform.core.plan import BaseOp, CopyOp, MountType, RunOp, WorkdirOp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slipform.builder.cache import Document
    from slipform.builder.statcache import Known
    from slipform.builder.tree import SourceTree
    from slipform.core.build import BuildRequest
    from slipform.core.images import ImageDetails
    from slipform.core.plan import Plan, RunMount, Step


@dataclass(slots=True)
class Job:
    """What one build knows; written by its own thread, read by its steps."""

    plan: Plan
    request: BuildRequest
    bases: Mapping[str, ImageDetails]
    tree: SourceTree
    known: Known
    downloader: Downloader
    check: Callable[[], None]
    sources: dict[int, Sources] = field(default_factory=dict)
    """Of COPY and ADD steps whose content was listed."""
    _listed: dict[str, Listing] = field(default_factory=dict)
    _places: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts: Counter[str] = Counter()
        for step in self.plan.steps:
            self._places[step.id] = f"{step.stage}/{counts[step.stage]}"
            counts[step.stage] += 1

    @property
    def epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH: the request's, else the plan's."""
        if self.request.source_date_epoch is not None:
            return self.request.source_date_epoch
        return self.plan.source_date_epoch

    def base(self, op: BaseOp) -> ImageDetails:
        """The image of a FROM."""
        return self.bases[op.digest]

    def ignores_cache(self, step: Step) -> bool:
        """Whether the step must run even if its result is known."""
        return self.request.no_cache or step.ignore_cache

    def recipe(self, step: Step, identities: Mapping[int, str]) -> Recipe:
        """Document and key of a step; lists what it copies from the context.

        Raises:
            NotFound: a source does not exist.
            and whatever reading the context or asking a server raises.
        """
        rootfs = keys.EMPTY if step.rootfs is None else identities[step.rootfs]
        document, listing = self._document(step, rootfs, identities)
        return Recipe(
            key_of(document),
            self._places[step.id],
            document,
            listing,
            unique=self.ignores_cache(step),
        )

    def content_recipe(self, step: Step, rootfs: str, tree: SourceTree, known: Known) -> Recipe:
        """Document and key of a COPY from another step by what its sources hold."""
        assert isinstance(step.op, CopyOp)  # noqa: S101 - for the type checker
        sources = self._list(step.op, tree, known)
        self.sources[step.id] = sources
        document = keys.copy_document(step.op, rootfs, {"content": sources.listing.digest})
        return Recipe(key_of(document), self._places[step.id], document, sources.listing.lines)

    def identity_of_base(self, op: BaseOp) -> str:
        """The identity of a base image's root."""
        return keys.base_identity(ImageConfig.decode(self.base(op).config_bytes).diff_ids)

    def _document(
        self, step: Step, rootfs: str, identities: Mapping[int, str]
    ) -> tuple[Document, bytes]:
        match step.op:
            case RunOp() as op:
                sources = [self._mount_source(mount, identities) for mount in op.mounts]
                hosts = self.request.extra_hosts
                return keys.run_document(op, rootfs, sources, hosts), b""
            case WorkdirOp() as op:
                return keys.workdir_document(op, rootfs), b""
            case CopyOp() as op if op.from_step is not None:
                contents = keys.stage_contents(op, identities[op.from_step])
                return keys.copy_document(op, rootfs, contents), b""
            case CopyOp() as op:
                return self._copy(step, op, rootfs)
            case _:
                raise AssertionError("bases have no recipe")

    def _copy(self, step: Step, op: CopyOp, rootfs: str) -> tuple[Document, bytes]:
        if op.from_context:
            raise Unsupported(f'build context "{op.from_context}": named contexts are not known')
        sources = self.sources.get(step.id)
        if sources is None:
            sources = self.sources[step.id] = self._list(op, self.tree, self.known)
        contents: Document = {}
        if op.sources:
            contents["content"] = sources.listing.digest
        if sources.remotes:
            contents["urls"] = [
                [file_name(remote.url, needed=op.dest_is_dir), remote.digest]
                for remote in sources.remotes
            ]
            if self.epoch is not None:
                # It becomes the time of downloads, in the snapshot already.
                contents["epoch"] = self.epoch
        return keys.copy_document(op, rootfs, contents), sources.listing.lines

    def _list(self, op: CopyOp, tree: SourceTree, known: Known) -> Sources:
        selected = tuple(select(tree, op))
        listing = list_contents(tree, selected, known, self.check)
        remotes = tuple(self.downloader.identify(url, op.checksum) for url in op.urls)
        return Sources(tree, selected, listing, remotes)

    def _mount_source(self, mount: RunMount, identities: Mapping[int, str]) -> str:
        if mount.from_step is not None:
            return identities[mount.from_step]
        if mount.type is not MountType.BIND:
            return ""
        path = clamp(mount.source)
        if path not in self._listed:
            entry = follow(self.tree, path)
            if entry is None:
                raise NotFound(f'RUN --mount: "/{path}": not found')
            if stat.S_ISDIR(entry.mode):
                chosen = Selected("", entry, tuple(subtree(self.tree, entry.path)))
            else:
                name = entry.path.rpartition("/")[2]
                chosen = Selected(name, None, (Item(name, entry),))
            self._listed[path] = list_contents(self.tree, [chosen], self.known, self.check)
        return self._listed[path].digest
