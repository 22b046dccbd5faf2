"""A collect stage in a process of its own, to be killed: `python collect_job.py JOB.json`."""

import json
import sys
from pathlib import Path

from pydantic import TypeAdapter

from lmcore.collect.kinds import SourceParams
from lmcore.collect.params import CollectRuntime
from lmcore.collect.source import collect
from lmcore.progress import silent

if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    metrics = collect(
        Path(job["work"]),
        edition=job["edition"],
        parent=Path(job["parent"]) if job.get("parent") else None,
        parent_digest=job.get("parent"),
        locate=Path,
        params=TypeAdapter(SourceParams).validate_python(job["params"]),
        runtime=CollectRuntime(**job["runtime"]),
        report=silent,
        articles=[Path(folder) for folder in job.get("articles", [])],
    )
    print(json.dumps(metrics))
