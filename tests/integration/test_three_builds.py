"""One digest, however Slipform is deployed and whatever keeps its layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from testkit.builds import EPOCH, SAMPLES, Sample
from testkit.slipform import Slipform, apart, embedded

pytestmark = pytest.mark.root

REPRODUCIBLE: Final = {"SOURCE_DATE_EPOCH": EPOCH}

DEPLOYMENTS: Final[dict[str, Callable[[Path, str], AbstractContextManager[Slipform]]]] = {
    "embedded": embedded,
    "apart": apart,
}


@pytest.mark.slow
@pytest.mark.parametrize("fixture", SAMPLES)
def test_every_deployment_and_driver_gives_the_same_digest(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    sample: Sample = request.getfixturevalue(fixture)
    digests = {
        f"{name} {driver}": _build(deploy(tmp_path / f"{name}-{driver}", driver), sample)
        for name, deploy in DEPLOYMENTS.items()
        for driver in ("overlay", "copy")
    }
    assert len(set(digests.values())) == 1, digests


def _build(deployment: AbstractContextManager[Slipform], sample: Sample) -> str:
    with deployment as slipform:
        if sample.base is not None:
            slipform.run("import", sample.base.tar, sample.base.name, env=REPRODUCIBLE)
        flags = [f"--build-arg={argument}" for argument in sample.build_args]
        metadata = slipform.root.with_suffix(".json")
        slipform.run(
            "build", "-t", sample.name, *flags, "--metadata-file", metadata, sample.context,
            env=REPRODUCIBLE,
        )  # fmt: skip
        return str(json.loads(metadata.read_text())["containerimage.digest"])
