"""Small artifacts, and programs that are killed while they make them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from storage.manifest import InputEntry, Provenance
from storage.store import Store

ROOT = Path(__file__).parents[2]


def provenance(inputs=(), **changes):
    """Where a test's artifact came from: `inputs` are artifacts."""
    facts = {
        "params": {},
        "stage_version": 1,
        "pure": True,
        "inputs": [InputEntry(name=f"in{n}", stage=a.stage, key=a.key, digest=a.digest) for n, a in enumerate(inputs)],
        "metrics": {"records": 3},
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:01+00:00",
        "seconds": 1.0,
        "attempts": 1,
        "host": "here",
        "environment": {},
        "code": {},
        "run": "",
    }
    return Provenance.model_validate(facts | changes)


def fill(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write `files` below `folder` in the order given."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def published(store: Store, stage: str, key: str, files=None, inputs=(), **changes):
    """Publish an artifact with these files."""
    out = fill(store.work(stage, key) / "out", files or {"data.txt": f"{stage} {key}"})
    return store.publish(stage, key, out, provenance(inputs, **changes))


def start(code: str, *arguments: object, fault: str = "") -> subprocess.Popen[str]:
    """A fresh process that runs `code` with `arguments` in sys.argv, and the fault armed."""
    paths = f"{ROOT}{os.pathsep}{Path(__file__).parent}"
    environment = os.environ | {"PYTHONPATH": paths, "COLLECT_TRAIN_FAULT": fault}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code: str, *arguments: object, fault: str = "") -> subprocess.CompletedProcess[str]:
    """Like `start`, to its end."""
    process = start(code, *arguments, fault=fault)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
