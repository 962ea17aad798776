"""Writes the Python code of every .proto beside it, or checks that what is committed is fresh."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PROTOS = REPOSITORY / "protos"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def sources() -> list[str]:
    """Returns every .proto of the API, relative to `protos/`, sorted."""
    return sorted(str(p.relative_to(PROTOS)) for p in (PROTOS / "slipform/api").rglob("*.proto"))


def generated(root: Path) -> dict[str, bytes]:
    """Returns the generated files under `root` by their path inside it."""
    found = (path for pattern in GENERATED for path in (root / "slipform/api").rglob(pattern))
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def generate(into: Path, protos: list[str]) -> None:
    """Runs the pinned protoc and its plugins; their plugins are found beside this interpreter."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    command += [f"--{kind}_out={into}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    env = {**os.environ, "PATH": path}
    run = subprocess.run(
        [*command, *protos], env=env, cwd=PROTOS, stderr=subprocess.PIPE, text=True
    )
    # mypy-protobuf reports each file that it writes; only warnings and errors are worth a line.
    complaints = [n for n in run.stderr.splitlines() if not n.startswith("Writing mypy to ")]
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
    run.check_returncode()


def update() -> int:
    """Writes what changed, and removes what no .proto stands behind any more."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = regenerate(Path(scratch))
    committed = generated(PROTOS)
    for name in committed.keys() - fresh.keys():
        (PROTOS / name).unlink()
        print(f"removed {name}")
    for name, content in fresh.items():
        if committed.get(name) != content:
            (PROTOS / name).write_bytes(content)
            print(f"wrote {name}")
    print(f"{len(fresh)} generated files are fresh")
    return 0


def check() -> int:
    """Returns 1 and says which files differ when `make protos` would change something."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = regenerate(Path(scratch))
    committed = generated(PROTOS)
    stale = sorted(n for n in fresh.keys() | committed.keys() if fresh.get(n) != committed.get(n))
    for name in stale:
        print(f"protos/{name}: {difference(name, fresh, committed)}; run `make protos`")
    return 1 if stale else 0


def difference(name: str, fresh: dict[str, bytes], committed: dict[str, bytes]) -> str:
    """Says how a generated file differs from what the generator writes now."""
    if name not in committed:
        return "is missing"
    if name not in fresh:
        return "has no .proto"
    return "is stale"


def regenerate(scratch: Path) -> dict[str, bytes]:
    """Generates everything into `scratch` and returns it."""
    (scratch / "slipform/api").mkdir(parents=True)
    if protos := sources():
        generate(scratch, protos)
    return generated(scratch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a difference")
    raise SystemExit(check() if parser.parse_args().check else update())
