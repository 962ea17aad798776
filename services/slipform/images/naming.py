"""What a name means, and what docker would remove: decisions, made on the catalog alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition, InvalidArgument, NotFound
from slipform.core.oci.reference import Reference

if TYPE_CHECKING:
    from slipform.core.images import Image
    from slipform.core.oci.digest import Digest
    from slipform.core.oci.platform import Platform
    from slipform.images.catalog import Catalog

_ID: Final = re.compile(r"(sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class Match:
    """What a name leads to: by a reference (then it is set), or by an id.

    ``images`` has several elements only for an id that several manifests share.
    """

    images: tuple[Image, ...]
    reference: str = ""

    @property
    def image(self) -> Image:
        """The one to use: one with a name before one without."""
        return max(self.images, key=lambda image: bool(image.references))


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What ``remove`` does."""

    untag: tuple[str, ...]
    delete: tuple[Digest, ...]
    image_id: Digest


def look_up(catalog: Catalog, name: str) -> Match:
    """Find an image by reference, full id, or prefix of an id, in this order.

    Raises:
        NotFound: in docker's words.
        InvalidArgument: a prefix of several ids.
    """
    id_match = _ID.fullmatch(name)
    full_id = id_match is not None and (bool(id_match[1]) or len(id_match[2]) == 64)
    shown = name
    if not full_id:
        reference = _reference(name, required=id_match is None)
        if reference is not None:
            shown = reference.familiar
            if found := _by_reference(catalog, reference):
                return found
    if id_match is not None:
        images = catalog.matching(f"sha256:{id_match[2]}")
        ids = {image.id for image in images}
        if len(ids) > 1:
            raise InvalidArgument(
                f'ambiguous image id "{name}": fits {", ".join(sorted(i.short for i in ids))}'
            )
        if images:
            return Match(_narrow(images, id_match[2]))
    raise NotFound(f"No such image: {shown}")


def check_platform(image: Image, wanted: Platform | None, name: str) -> None:
    """Raises ``NotFound`` when the image is for another platform than the one wanted."""
    found = image.platform
    if wanted is None:
        return
    same = (found.os, found.architecture) == (wanted.os, wanted.architecture)
    if not same or (found.variant and wanted.variant and found.variant != wanted.variant):
        raise NotFound(
            f"image with reference {name} was found but does not match the specified platform:"
            f" wanted {wanted}, actual: {found}"
        )


def plan_removal(match: Match, *, force: bool) -> RemovalPlan:
    """Docker's rules: a reference is untagged, and the last one takes the image with it.

    Raises:
        FailedPrecondition: an id with several references, without ``force``.
    """
    image_id = match.images[0].id
    references = tuple(r for image in match.images for r in image.references)
    manifests = tuple(image.target.digest for image in match.images)
    if not match.reference:
        if not force and not _is_single(references):
            raise FailedPrecondition(
                f"conflict: unable to delete {image_id.short} (must be forced) - image is"
                " referenced in multiple repositories"
            )
        return RemovalPlan(references, manifests, image_id)
    left = [reference for reference in references if reference != match.reference]
    removed = Reference.parse(match.reference)
    if any(not _is_pin_of(reference, removed) for reference in left):
        return RemovalPlan((match.reference,), (), image_id)
    return RemovalPlan((match.reference, *left), manifests, image_id)


def _reference(name: str, *, required: bool) -> Reference | None:
    try:
        return Reference.parse(name)
    except InvalidArgument:
        if required:
            raise
        return None


def _by_reference(catalog: Catalog, reference: Reference) -> Match | None:
    image = catalog.named(reference.normalised)
    if image is not None:
        return Match((image,), reference.normalised)
    if reference.digest is None:
        return None
    # name@digest of an image that was never pulled by it: the digest decides, the name must fit.
    for image in catalog.matching(str(reference.digest)):
        for known in map(Reference.parse, image.references):
            if known.name == reference.name and reference.tag in ("", known.tag):
                return Match((image,), known.normalised)
    return None


def _narrow(images: list[Image], prefix: str) -> tuple[Image, ...]:
    """By manifest digest it is that image alone; by config digest all that have it."""
    exact = tuple(i for i in images if i.target.digest.hex.startswith(prefix))
    by_id = tuple(i for i in images if i.id.hex.startswith(prefix))
    return by_id or exact


def _is_single(references: tuple[str, ...]) -> bool:
    """Whether there is one tag at most, and only digests of the same repository beside it."""
    parsed = [Reference.parse(text) for text in references]
    tags = [reference for reference in parsed if reference.digest is None]
    return len(tags) <= 1 and len({reference.name for reference in parsed}) <= 1


def _is_pin_of(text: str, removed: Reference) -> bool:
    reference = Reference.parse(text)
    return reference.digest is not None and reference.name == removed.name
