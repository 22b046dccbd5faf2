"""Which files of a repository on the Hub are a split of a configuration: by the card's YAML, else by their names.

Sources: huggingface.co/docs/hub/datasets-manual-configuration, .../datasets-file-names-and-splits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from lmcore.collect.hub_rows import SUFFIXES
from lmcore.collect.unpack import plain_name
from storage.errors import UserError

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"(?:^|/)([\w.]+)-\d{5}-of-\d{5}[^/]*$")
_NO_DATA = frozenset({"dataset_infos.json", "dataset_info.json", "config.json", "requirements.txt"})
_LONGEST = 4096  # characters of a pattern; one that is longer stands for no file
_TOLD = 12  # names in an error message


def split_files(dataset: str, names: Sequence[str], card: Any, config: str, split: str) -> list[str]:
    """The files in their order. Raises UserError that says what there is when there is no such thing."""
    data = sorted(name for name in names if _is_data(name))
    configs = _configs(card)
    if not configs:
        if config:
            inside = [name for name in data if config in PurePosixPath(name).parts[:-1]]
            if not inside:
                raise UserError(
                    f"{dataset} has no configuration {config!r}: there is no folder of that name with data in it",
                    "leave `config` out, or look at the data set's page; where a script makes the data, set "
                    "`revision: refs/convert/parquet`",
                )
            data = inside
        splits = _by_name(data)
    else:
        chosen = _chosen(dataset, configs, config)
        folder = str(chosen.get("data_dir") or "").strip("./")
        data = [name for name in data if name.startswith(f"{folder}/")] if folder else data
        splits = _by_card(chosen["data_files"], data, folder) if chosen.get("data_files") else _by_name(data)
    if not splits.get(split):
        there = [name for name, files in splits.items() if files]
        named = f" of {config}" if config else ""
        raise UserError(
            f"{dataset} has no split {split!r}{named} that can be read: "
            + (f"there are {_list(there)}" if there else f"it has no file with one of {', '.join(SUFFIXES)}"),
            f"set `split: {there[0]}`"
            if there
            else "where a script makes the data, set `revision: refs/convert/parquet`",
        )
    return splits[split]


def _is_data(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__")) for part in parts)
    return not hidden and parts[-1] not in _NO_DATA and plain_name(name.lower()).endswith(SUFFIXES)


def _configs(card: Any) -> list[dict[str, Any]]:
    found = card.get("configs") if isinstance(card, Mapping) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _chosen(dataset: str, configs: list[dict[str, Any]], config: str) -> dict[str, Any]:
    names = {str(entry.get("config_name", "default")): entry for entry in configs}
    if config in names:
        return names[config]
    default = [entry for name, entry in names.items() if entry.get("default") is True or name == "default"]
    if not config and (default or len(names) == 1):
        return (default or configs)[0]
    what = f"has no configuration {config!r}" if config else "has several configurations"
    raise UserError(f"{dataset} {what}: there are {_list(sorted(names))}", "set `config` to one of them")


def _by_card(given: Any, data: list[str], folder: str) -> dict[str, list[str]]:
    """`data_files` in any of its forms: patterns, or patterns of splits."""
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, list) and all(isinstance(entry, Mapping) for entry in given):
        pairs = [(entry.get("split", "train"), entry.get("path")) for entry in given]
    else:
        pairs = [("train", given)]
    found: dict[str, list[str]] = {}
    for split, patterns in pairs:
        for pattern in [patterns] if isinstance(patterns, str) else patterns or []:
            whole = f"{folder}/{pattern}" if folder else str(pattern)
            if len(whole) > _LONGEST:
                continue
            wanted = _Glob(whole.removeprefix("./"))
            found.setdefault(str(split), []).extend(name for name in data if wanted.fullmatch(name))
    return {split: list(dict.fromkeys(files)) for split, files in found.items()}


class _Glob:
    """A glob of paths: * and ? within a folder, ** beyond folders, **/ any folders or none.

    All ways of matching are followed at once, one bit each, so that no pattern takes longer than its length times that
    of the name; a regular expression of many stars may take years.
    """

    def __init__(self, pattern: str) -> None:
        steps: list[str] = []  # a character, one of the wildcards ? * **, or "" where the three steps of **/ begin
        self._past = 0  # bits of steps that may be passed over
        self._folders = 0  # bits of those from which all of a **/ may be passed over
        at = 0
        while at < len(pattern):
            step = next(sign for sign in ("**", pattern[at]) if pattern.startswith(sign, at))
            at += len(step)
            if step == "**" and pattern.startswith("/", at):
                self._past |= 1 << len(steps)
                self._folders |= 1 << len(steps)
                steps.append("")
            if step in ("*", "**"):
                self._past |= 1 << len(steps)
            steps.append(step)
        self._end = 1 << len(steps)
        self._beyond = _bits(steps, "**")
        self._star = _bits(steps, "*")
        self._any = _bits(steps, "?")
        self._each = {sign: _bits(steps, sign) for sign in set(steps) - {"*", "**", "?", ""}}

    def fullmatch(self, name: str) -> bool:
        """Whether it stands for the whole name."""
        states = self._passed(1)
        for sign in name:
            stay = self._beyond | (0 if sign == "/" else self._star)
            step = self._each.get(sign, 0) | (0 if sign == "/" else self._any)
            states = self._passed((states & stay) | (states & step) << 1)
        return bool(states & self._end)

    def _passed(self, states: int) -> int:
        while more := ((states & self._past) << 1 | (states & self._folders) << 3) & ~states:
            states |= more
        return states


def _bits(steps: Sequence[str], sign: str) -> int:
    return sum(1 << at for at, step in enumerate(steps) if step == sign)


def _by_name(data: list[str]) -> dict[str, list[str]]:
    """Splits by the names of files (NAME-00000-of-00005), then by words in folders and names; else all is train."""
    shards: dict[str, list[str]] = {}
    for name in data:
        if shard := _SHARD.search(name):
            shards.setdefault(shard[1], []).append(name)
    if shards:
        return shards
    found: dict[str, list[str]] = {}
    for name in data:
        for split, words in _SPLITS.items():
            if re.search(rf"(?:^|[^a-z])(?:{'|'.join(words)})(?:[^a-z]|$)", name.lower().rpartition(".")[0] or name):
                found.setdefault(split, []).append(name)
                break
    return found or ({"train": data} if data else {})


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
