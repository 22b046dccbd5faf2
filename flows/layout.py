"""`collect-train export MODEL --layout document`: a model as the files that its system's document names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from flows.corpora import corpus_of
from flows.train_text import split_files
from lmcore.export.layouts import layout_module, named_system
from lmcore.generate.load import find_model
from storage.errors import UserError
from storage.store import Store

HELD_OUT_BYTES = 200_000  # of held-out text that quantised files are measured on


def write_document_layout(
    store: Store,
    model: str,
    output: Path,
    console: Console,
    *,
    system: str = "",
    name: str = "",
    quantise: Sequence[str] = (),
    optimizer: bool = False,
) -> list[Path]:
    """Write the files of a release, model folder or model file under `output`; gives their paths and prints sizes.

    `system` is taken from the release's name unless given, `name` that of the document. `quantise` asks for quantised
    files as well, `q8_0` or `q4_0`, measured on the held-out texts of the corpus that the model was made of, where it
    is in the store; `optimizer` for the state of the optimizer inside the last checkpoint. Raises UserError for what
    there is no place for in the files, RunError for damaged ones.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is not a folder", "name the folder to write into with --output")
    folder, release = find_model(model, store.root)
    system = system or named_system(release or "") or ""
    if not system:
        raise UserError(f"nothing says which system {model} belongs to", "name it with --system, such as --system lai")
    module = layout_module(system)
    if quantise and not hasattr(module, "write_quantised"):
        raise UserError(f"the files of {system} are never quantised", "leave --quantise out")
    if optimizer and not hasattr(module, "HAS_STATE"):
        raise UserError(f"the files of {system} say by themselves what is in them", "leave --optimizer out")
    wanted = [_dtype(each) for each in quantise]
    asked = {"optimizer": True} if optimizer else {}
    paths: list[Path] = module.write_layout(folder, output, name=name, **asked)
    for path in paths:
        console.print(Text(f"{path}: {path.stat().st_size:,} bytes"), soft_wrap=True)
    texts = _held_out(store, folder) if wanted else []
    for dtype in wanted:
        more, report = module.write_quantised(folder, output, dtype, name=name, texts=texts)
        for path in more:
            console.print(Text(f"{path}: {path.stat().st_size:,} bytes"), soft_wrap=True)
        console.print(Text(_error(report)), soft_wrap=True)
        paths += more
    return paths


def _dtype(name: str) -> Any:
    from lmcore.export.lai_format import DType

    quantised = {dtype.name.lower(): dtype for dtype in (DType.Q8_0, DType.Q4_0)}
    if name.lower() not in quantised:
        raise UserError(f"there is no quantised format {name!r}", f"formats are {', '.join(quantised)}")
    return quantised[name.lower()]


def _held_out(store: Store, folder: Path) -> list[str]:
    """The first held-out texts of the corpus that a train artifact of the store was made of; none of other folders."""
    from lmcore.documents import iter_texts

    if folder.resolve().parent != (store.root / "train").resolve():
        return []
    try:
        corpus = corpus_of(store, f"train/{folder.name}")
    except UserError:  # its corpus was removed from the store
        return []
    texts: list[str] = []
    size = 0
    for text in iter_texts([*split_files(corpus, "test"), *split_files(corpus, "val")]):
        if size >= HELD_OUT_BYTES:
            break
        if text:
            texts.append(text)
            size += len(text.encode())
    return texts


def _error(report: dict[str, Any]) -> str:
    """What a quantised file loses, in one line."""
    line = (
        f"{report['dtype']}: {report['bytes'] / report['bytes_f32']:.1%} of the f32 file; matrices are off by "
        f"{report['relative_error']:.3%}, at most {report['largest_relative_error']:.3%}"
    )
    if "bits_per_byte" not in report:
        return f"{line}; no held-out text in the store to measure bits per byte on"
    figures = report["bits_per_byte"]
    return (
        f"{line}; bits per byte {figures['F32']:.4f} -> {figures[report['dtype']]:.4f} "
        f"({figures['change_percent']:+.2f} %) on {report['documents']:,} held-out texts"
    )
