"""Slipform from a program: one object, typed values, no command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipform.client import Client
from slipform.client.launch import wait_for_end
from slipform.core.build import BuildFailed, BuildRequest, BuildSucceeded, StepEvent, StepState
from slipform.core.containers import ContainerRequest
from slipform.core.errors import NotFound
from slipform.core.execution import Exited, Network, Output
from slipform.core.plan import NeedBases, PlanRequest
from testkit.builds import Sample

pytestmark = pytest.mark.root


def test_build_inspect_run_and_end(tmp_path: Path, busybox_sample: Sample) -> None:
    with Client.local(tmp_path / "root") as client:
        events = list(client.build(busybox_sample.context, references=["made"]))
        result = events[-1]
        assert isinstance(result, BuildSucceeded)
        states = [event.state for event in events if isinstance(event, StepEvent)]
        assert states.count(StepState.DONE) == states.count(StepState.QUEUED) > 3
        assert client.images.get("made").image.id == result.image_id

        request = ContainerRequest("made", args=("from", "python"), network=Network.NONE)
        said = list(client.containers.run_container(request))
        assert b"".join(e.data for e in said if isinstance(e, Output)) == b"from python\n"
        assert said[-1] == Exited(0)

        with pytest.raises(NotFound):
            client.images.get("nobody")
        failed = list(
            client.build(request=BuildRequest(dockerfile=b"FROM made\nUSER 0\nRUN exit 9\n"))
        )[-1]
        assert isinstance(failed, BuildFailed)
        assert (failed.exit_code, failed.source and failed.source.start_line) == (9, 3)

        plan = client.frontend.plan(PlanRequest(b"FROM made\nRUN true\n"))
        assert isinstance(plan, NeedBases)
        assert [base.reference for base in plan.bases] == ["made"]

        assert client.info().services[0] == "content"
        assert wait_for_end(client.shutdown(), 30)
