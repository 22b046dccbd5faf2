"""What the catalog shows: every view of a store, and where its rows come from.

Two kinds of view. A file view is all Parquet files of one name in all artifacts of one stage, read lazily, with the
artifact's key (and, for the corpus, the split) taken from the path. A fact view is a small table made from the
manifests, the evaluations and the registry.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from storage.errors import RunError
from storage.registry import Registry
from storage.store import Artifact, Store
from storage.view_columns import FACT_VIEWS, FIGURES, FILE_VIEWS, VIEWS, FileView

__all__ = ["FACT_VIEWS", "FILE_VIEWS", "VIEWS", "Contents", "FileView", "read_store"]


@dataclass
class Contents:
    """Every view of a store, ready to be registered with DuckDB, and a line for each thing left out."""

    views: dict[str, ds.Dataset | pa.Table] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_store(store: Store) -> Contents:
    """Look at every manifest of the store once. Damaged artifacts and files are left out and named."""
    contents = Contents()
    root = store.root.resolve()
    files: dict[str, list[str]] = {name: [] for name in FILE_VIEWS}
    facts: dict[str, list[dict[str, Any]]] = {name: [] for name in FACT_VIEWS}
    for artifact in store.artifacts():
        try:
            facts["artifacts"].append(_artifact(artifact))
            facts["lineage"] += _lineage(artifact)
            if artifact.stage == "evaluate":
                _add_evaluation(artifact, facts)
            if artifact.stage == "curate":
                facts["corpora"].append(_corpus(artifact))
        except RunError as error:
            contents.left_out.append(f"{artifact.stage}/{artifact.key} is left out: {error.what}")
            continue
        for name, view in FILE_VIEWS.items():
            if view.stage == artifact.stage:
                files[name] += _present(root, artifact, view.name, contents.left_out.append)
    unfinished = sorted(root.glob(".work/curate-*/out/decisions.parquet"))
    files["unfinished_decisions"] = [os.fspath(path) for path in unfinished]
    facts["releases"] = list(_releases(Registry(store.root), contents.left_out.append))
    for name, schema in FACT_VIEWS.items():
        contents.views[name] = pa.Table.from_pylist(facts[name], schema=schema)
    for name, view in FILE_VIEWS.items():
        contents.views[name] = view.dataset(root, files[name])
    return contents


def _present(root: Path, artifact: Artifact, name: re.Pattern[str], say: Callable[[str], None]) -> Iterator[str]:
    manifest = artifact.manifest
    for file, entry in sorted((manifest.content.files | manifest.provenance.files).items()):
        if not name.fullmatch(file):
            continue
        path = root / artifact.stage / artifact.key / file
        if path.is_file() and path.stat().st_size == entry.size:
            yield os.fspath(path)
        else:
            say(f"{path} is left out: missing or of another size than its manifest says; run `collect-train verify`")


def _artifact(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    made = manifest.provenance
    return {
        "stage": artifact.stage,
        "key": artifact.key,
        "digest": manifest.content.digest,
        "started": _time(made.started),
        "finished": _time(made.finished),
        "seconds": made.seconds,
        "pure": made.pure,
        "stage_version": made.stage_version,
        "attempts": made.attempts,
        "host": made.host,
        "run": made.run,
        "files": len(manifest.content.files),
        "bytes": sum(entry.size for entry in manifest.content.files.values()),
        "params": _json(made.params),
        "metrics": _json(made.metrics),
    }


def _lineage(artifact: Artifact) -> list[dict[str, Any]]:
    return [
        {
            "stage": artifact.stage,
            "key": artifact.key,
            "digest": artifact.digest,
            "name": entry.name,
            "input_stage": entry.stage,
            "input_key": entry.key,
            "input_digest": entry.digest,
        }
        for entry in artifact.manifest.provenance.inputs
    ]


def _corpus(artifact: Artifact) -> dict[str, Any]:
    """What a corpus says of itself; nothing where it was made by a version that said less."""
    about, stats = _object(artifact.path / "provenance/corpus.json"), _object(artifact.path / "stats.json")
    came, kept, splits = (stats.get(name, {}) for name in ("input", "kept", "splits"))
    return {
        "artifact": artifact.key,
        "settings": about.get("settings"),
        "batch": about.get("batch"),
        "records": came.get("records"),
        "bytes": came.get("bytes"),
        "kept": kept.get("records"),
        "kept_bytes": kept.get("bytes"),
        **{name: splits.get(name, {}).get("documents") for name in ("train", "val", "test")},
    }


def _object(path: Path) -> dict[str, Any]:
    """The JSON object that a file is; an empty one where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = "it is no object"
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = str(error)
    raise RunError(
        f"{path} cannot be read: {reason}",
        "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
    )


def _add_evaluation(artifact: Artifact, facts: dict[str, list[dict[str, Any]]]) -> None:
    path = artifact.file("evaluation.json")
    model = next((entry.key for entry in artifact.manifest.provenance.inputs if entry.stage == "train"), None)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        split = found["headline"]["split"]
        of = {"artifact": artifact.key, "model": model}
        wholes = [{**of, "split": n, "headline": n == split, **_figures(f)} for n, f in found["splits"].items()]
        groups = [
            {**of, "split": split, "grouping": grouping, "name": name, **_figures(figures)}
            for grouping, members in found["groups"].items()
            for name, figures in members.items()
        ]
        baselines = [
            {**of, "split": split, **{column: b[column] for column in ("name", "bits_per_byte", "beaten")}}
            for b in found["baselines"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} is not an evaluation ({type(error).__name__}: {error})",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        ) from error
    facts["evaluations"] += wholes
    facts["evaluation_groups"] += groups
    facts["baselines"] += baselines


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    low, high = found.get("interval") or (None, None)
    return {**{name: found.get(name) for name in FIGURES}, "low": low, "high": high}


def _releases(registry: Registry, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    for name in registry.names():
        try:
            state = registry.read(name)
        except RunError as error:
            say(f"the releases of {name} are left out: {error.what}")
            continue
        for release in state.releases:
            yield {
                **{column: getattr(release, column, None) for column in FACT_VIEWS["releases"].names},
                "recipe": name,
                "champion": release.number == state.champion,
                "withdrawn": release.number in state.withdrawn,
                "decided": _time(release.decided),
            }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _time(text: str) -> datetime | None:
    """An instant written as ISO 8601, UTC when it names no zone; None when it is no instant."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
