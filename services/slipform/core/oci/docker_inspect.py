"""What ``docker image inspect`` prints, made of what an image store answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipform.core.oci.reference import Reference

if TYPE_CHECKING:
    from slipform.core.images import ImageDetails


def docker_inspect(details: ImageDetails) -> dict[str, Any]:
    """One element of docker's array; keys in docker's order.

    ``Config`` has docker's habit of printing every classic field, set or not; fields that another
    tool put there follow.
    """
    image, config = details.image, details.config
    references = [Reference.parse(text) for text in image.references]
    value: dict[str, Any] = {
        "Id": str(image.id),
        "RepoTags": [r.familiar for r in references if r.tag and r.digest is None],
        "RepoDigests": _repo_digests(references, str(image.target.digest)),
        "Parent": "",
        "Comment": str(config.extra.get("comment") or _last_comment(details)),
        "Created": config.created,
        "DockerVersion": str(config.extra.get("docker_version") or ""),
        "Author": config.author,
        "Config": _run_config(details),
        "Architecture": image.platform.architecture,
    }
    if image.platform.variant:
        value["Variant"] = image.platform.variant
    value["Os"] = image.platform.os
    if image.platform.os_version:
        value["OsVersion"] = image.platform.os_version
    value["Size"] = image.size
    value["RootFS"] = {"Type": "layers", "Layers": [str(d) for d in config.diff_ids]}
    value["Descriptor"] = image.target.to_json()
    return value


def _repo_digests(references: list[Reference], manifest: str) -> list[str]:
    pinned = {r.familiar_name for r in references}
    return sorted(f"{name}@{manifest}" for name in pinned)


def _last_comment(details: ImageDetails) -> str:
    return details.config.history[-1].comment if details.config.history else ""


def _run_config(details: ImageDetails) -> dict[str, Any]:
    run = details.config.config
    value: dict[str, Any] = {
        "Hostname": "",
        "Domainname": "",
        "User": run.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": list(run.env),
        "Cmd": None if run.cmd is None else list(run.cmd),
        "Image": "",
        "Volumes": {path: {} for path in run.volumes} or None,
        "WorkingDir": run.working_dir,
        "Entrypoint": None if run.entrypoint is None else list(run.entrypoint),
        "OnBuild": list(run.on_build) or None,
        "Labels": dict(sorted(run.labels.items())) or None,
    }
    written = run.to_json()
    value.update({key: item for key, item in written.items() if key not in value})
    return value
