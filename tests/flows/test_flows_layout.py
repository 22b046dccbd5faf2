"""`export --layout document` and the commands that open what it writes, as processes of their own."""

from __future__ import annotations

import json
import shutil

import pytest
from corpus_store import make_corpus, publish
from helpers_flows import collect
from lai_made import lai_folder, lai_tokenizer
from store_words import text_of

from storage.registry import Registry
from storage.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose champion of the recipe lai-small was made of a corpus that is in it."""
    store = Store(tmp_path_factory.mktemp("lai") / "store")
    corpus = make_corpus(store, {f"page-{n}": text_of(n) for n in range(30)}, with_tokens=False)
    model = publish(store, "train", [corpus], lambda work: lai_folder(work / "out", lai_tokenizer()))
    registry = Registry(store.root)
    registry.record(
        "lai-small", release_key="r", digest="d", model_key=model.key, model_digest=model.digest, export_key=None,
        bits_per_byte=2.0, reason="",
    )  # fmt: skip
    registry.promote("lai-small", 1, expected=None)
    return store.root


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    """(folder, what the command printed)."""
    output = tmp_path_factory.mktemp("out") / "lai"
    command = ("export", "lai-small", "--layout", "document", "--output", str(output))
    done = collect(*command, "--quantise", "q8_0", "--quantise", "q4_0", store=store)
    return output, done.out


def test_the_document_s_files_are_written_with_their_sizes(written):
    output, told = written
    names = ("models/lai-tiny.bin", "data/vocab.bin", "models/lai-tiny-q8_0.bin", "models/lai-tiny-q4_0.bin")
    for name in names:
        assert f"{output / name}: {(output / name).stat().st_size:,} bytes" in told
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*.bin")) == sorted(names)
    for dtype in ("q8_0", "q4_0"):
        report = json.loads((output / f"models/lai-tiny-{dtype}.json").read_text())
        assert report["documents"] > 0
        figures = report["bits_per_byte"]
        assert f"bits per byte {figures['F32']:.4f} -> {figures[dtype.upper()]:.4f}" in told


def test_the_file_can_be_generated_from_talked_to_and_asked(written, store):
    output, _ = written
    path = str(output / "models" / "lai-tiny.bin")
    sampled = ("The hero", "--max-tokens", "6", "--seed", "3")
    of_release = collect("generate", "lai-small", *sampled, store=store).out
    assert collect("generate", path, *sampled).out == of_release
    assert collect("generate", "--model", path, *sampled).out == of_release
    assert collect("chat", "--model", path, "--max-tokens", "3", stdin="Hello\n").out.count("model> ") == 1
    for name, dtype in (("lai-tiny", "F32"), ("lai-tiny-q8_0", "Q8_0"), ("lai-tiny-q4_0", "Q4_0")):
        file = output / "models" / f"{name}.bin"
        told = collect("info", "--model", str(file)).out
        for fact in ("format: LAi1", f"dtype: {dtype}", f"bytes: {file.stat().st_size:,}", "heads: 4", "max_seq: 64"):
            assert fact in told, fact


def test_a_file_is_a_model_to_lay_out_again(written, tmp_path):
    output, _ = written
    command = ("export", str(output / "models/lai-tiny.bin"), "--layout", "document", "--output", str(tmp_path / "b"))
    done = collect(*command, "--system", "lai", "--name", "mine", "--quantise", "q8_0")
    assert "no held-out text" in done.out
    assert (tmp_path / "b/models/mine.bin").read_bytes() == (output / "models/lai-tiny.bin").read_bytes()
    assert (tmp_path / "b/models/mine-q8_0.bin").read_bytes() == (output / "models/lai-tiny-q8_0.bin").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told", "mend"),
    [
        (("export", "lai-small", "--layout", "document"), "a layout is several files", "--output"),
        (("export", "lai-small", "--layout", "doc", "--output", "DIR"), "there is no layout 'doc'", "document"),
        (("export", "lai-small"), "nothing says where to write", "--out FILE"),
        (("export", "FILE", "--layout", "document", "--output", "DIR"), "which system", "--system lai"),
        (
            ("export", "FILE", "--layout", "document", "--output", "DIR", "--system", "abc"),
            "no layout for the system 'abc'",
            "lai",
        ),
        (
            ("export", "FILE", "--layout", "document", "--output", "DIR", "--system", "soma"),
            "a pickle of the whole object",
            "Hugging Face folder",
        ),
        (
            ("export", "FILE", "--layout", "document", "--output", "DIR", "--system", "amharic"),
            "names no file of a model",
            "the folder adapter",
        ),
        (
            ("export", "lai-small", "--layout", "document", "--output", "DIR", "--quantise", "q5"),
            "no quantised format 'q5'",
            "q8_0, q4_0",
        ),
        (
            ("export", "FILE", "--layout", "document", "--output", "DIR", "--system", "lai", "--optimizer"),
            "the files of lai say by themselves what is in them",
            "leave --optimizer out",
        ),
        (("info",), "no model is named", "name one"),
        (("info", "lai-small", "--model", "FILE"), "two models are named", "name one"),
        (("generate", "The"), "no model is named", "name one"),
        (("generate", "lai-small", "The", "hero"), "3 texts are given", "quotes"),
        (("info", "DAMAGED"), "is no whole LAi1 file", "copy the file again"),
        (("info", "./none.bin"), "does not exist", "model file"),
    ],
)
def test_what_cannot_be_is_told_in_two_lines(arguments, told, mend, written, store, tmp_path):
    file = written[0] / "models" / "lai-tiny.bin"
    shutil.copyfile(file, tmp_path / "damaged.bin")
    with open(tmp_path / "damaged.bin", "r+b") as opened:
        opened.truncate(5000)
    places = {"FILE": str(file), "DIR": str(tmp_path / "out"), "DAMAGED": str(tmp_path / "damaged.bin")}
    what, how = collect(*(places.get(word, word) for word in arguments), store=store, code=2).error
    assert told in what
    assert mend in how
    assert not (tmp_path / "out").exists()
