"""The files and folders that a recipe names, from where it names them: relative paths begin at the recipe's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmcore.collect.kinds import NAMES
from lmcore.collect.params import PathsSource, Source
from lmcore.samples import resolve
from lmcore.train.params import is_folder
from storage.errors import UserError


def resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Relative paths of sources, of a start and of files that settings name begin at the recipe's folder."""
    train = values.get("train")
    if isinstance(train, dict) and isinstance(start := train.get("init_from"), str) and is_folder(start):
        train["init_from"] = _absolute(start, folder, "train.init_from")
    for place, holder, name in _files_named(values):
        if isinstance(given := holder.get(name), str) and given:
            holder[name] = _absolute(given, folder, place)
    sources = values.get("sources")
    for source in sources if isinstance(sources, list) else []:
        if isinstance(source, dict) and issubclass(NAMES.get(str(source.get("kind")), Source), PathsSource):
            resolve(source)
            given = source.get("base", PathsSource.model_fields["base"].default)
            if isinstance(given, str):
                source["base"] = _absolute(given, folder, "the base of a source")


def _files_named(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where a recipe names files besides its sources: what it is called, the section and the key."""

    def section(*way: str) -> Any:
        found: Any = values
        for key in way:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    if isinstance(classifier := section("compare", "classifier"), dict):
        yield "compare.classifier.labelled", classifier, "labelled"
    sets = section("curate", "decontaminate", "evaluation_sets")
    for given in sets if isinstance(sets, list) else []:
        if isinstance(given, dict):
            yield "the path of an evaluation set", given, "path"


def _absolute(given: str, folder: Path, what: str) -> str:
    try:
        return str((folder / Path(given).expanduser()).absolute())
    except RuntimeError as error:  # a ~user that does not exist
        raise UserError(f"{what}, {given!r}: {error}", "give a path") from error
