"""One digest, however Slipform is deployed and whatever keeps its layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from testkit.builds import EPOCH, SAMPLES, Sample
from testkit.slipform import Slipform, apart, embedded

pytestmark = pytest.mark.root

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
            slipform.run("import", sample.base.tar, sample.base.name)
        flags = [f"--build-arg={argument}" for argument in sample.build_args]
        slipform.run(
            "build", "-t", sample.name, *flags, sample.context, env={"SOURCE_DATE_EPOCH": EPOCH}
        )
        # The base carries the time of its import: what is compared is what was built on it.
        return slipform.text("inspect", "-f", "{{json .RootFS}} {{json .Config}}", sample.name)
