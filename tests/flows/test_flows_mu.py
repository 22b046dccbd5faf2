"""MU's files from the command line: written, and opened by generate, chat and info."""

from __future__ import annotations

import pytest
from helpers_flows import collect
from mu_made import mu_folder, mu_tokenizer


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder of the model, folder of its files, what the command printed)."""
    folder, output = tmp_path_factory.mktemp("train"), tmp_path_factory.mktemp("out") / "mu"
    mu_folder(folder, mu_tokenizer())
    done = collect("export", str(folder), "--layout", "document", "--system", "mu", "--output", str(output))
    return folder, output, done.out


def test_both_files_are_written_with_their_sizes(written):
    _, output, told = written
    for name in ("mu_sota_best.pt", "mu_sota_tokenizer.json"):
        assert f"{output / name}: {(output / name).stat().st_size:,} bytes" in told


def test_the_file_can_be_generated_from_talked_to_and_asked(written):
    folder, output, _ = written
    path = str(output / "mu_sota_best.pt")
    asked = ("Once upon a time", "--max-tokens", "6", "--temperature", "0.8", "--top-k", "50", "--top-p", "0.9")
    asked += ("--repetition-penalty", "1.2", "--seed", "3")
    assert collect("generate", "--model", path, *asked).out == collect("generate", str(folder), *asked).out
    assert collect("chat", "--model", path, "--max-tokens", "3", stdin="Hello\n").out.count("model> ") == 1
    told = collect("info", "--model", path).out
    for fact in ("family", "format: .pt", "affinity", "optimizer_inside: False"):
        assert fact in told


def test_a_damaged_file_is_told_in_two_lines(written, tmp_path):
    path = tmp_path / "mu_sota_best.pt"
    path.write_bytes((written[1] / path.name).read_bytes()[:5000])
    what, mend = collect("info", str(path), code=2).error
    assert "is no whole checkpoint of MU" in what
    assert "copy the file again" in mend


def test_its_files_are_never_quantised(written, tmp_path):
    command = ("export", str(written[0]), "--layout", "document", "--system", "mu", "--output", str(tmp_path / "out"))
    what, _ = collect(*command, "--quantise", "q8_0", code=2).error
    assert "the files of mu are never quantised" in what
