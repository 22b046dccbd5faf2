"""Checkpoints: whole or not there, damage found and set aside, a full disk harmless."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
import torch

from lmcore.train import checkpoint
from lmcore.train.checkpoint import Snapshot
from storage.errors import RunError, StorageError


def snapshot(step):
    return Snapshot(
        step=step,
        model={"w": torch.full((3, 2), float(step)), "b": torch.arange(4.0)},
        optimizer={"adamw.step.b": torch.tensor(float(step)), "muon.momentum.w": torch.ones(3, 2)},
        tables={"metrics": pa.table({"step": list(range(step))})},
        state={"position": {"tokens": 10 * step}, "text": "ሰላም"},
    )


def newest(folder):
    said = []
    return checkpoint.load_newest(folder, said.append), said


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(tmp_path, snapshot(7), keep=2)
    found, said = newest(tmp_path)
    assert said == []
    assert found.step == 7
    assert torch.equal(found.model["w"], torch.full((3, 2), 7.0))
    assert torch.equal(found.optimizer["adamw.step.b"], torch.tensor(7.0))
    assert found.tables["metrics"].num_rows == 7
    assert found.state == {"position": {"tokens": 70}, "text": "ሰላም"}
    assert sorted(path.name for path in (tmp_path / "step-00000007").iterdir()) == [
        "metrics.parquet", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip


def test_the_newest_is_taken_and_only_the_last_are_kept(tmp_path):
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, snapshot(step), keep=2)
    assert newest(tmp_path)[0].step == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]


def test_protected_steps_stay_beside_the_newest(tmp_path):
    for step in range(1, 10):
        checkpoint.save(tmp_path, snapshot(step), keep=1, protects=lambda step: step % 4 == 0)
    assert sorted(path.name[-2:] for path in tmp_path.iterdir()) == ["04", "08", "09"]
    assert checkpoint.load_step(tmp_path, 4).step == 4
    checkpoint.drop_after(tmp_path, 4)
    assert newest(tmp_path)[0].step == 4
    with pytest.raises(RunError, match="step-00000008 is damaged"):
        checkpoint.load_step(tmp_path, 8)


def test_a_copy_is_what_it_was_when_it_was_made(tmp_path):
    live = snapshot(3)
    copied = live.copied()
    live.model["w"].zero_()
    checkpoint.Writing(lambda: checkpoint.save(tmp_path, copied, keep=2)).wait()
    assert torch.equal(newest(tmp_path)[0].model["w"], torch.full((3, 2), 3.0))


def test_nothing_saved_is_none(tmp_path):
    assert newest(tmp_path / "none") == (None, [])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


NAMES = ["model.safetensors", "optimizer.safetensors", "metrics.parquet"]


@pytest.mark.parametrize(
    ("name", "harm"),
    [(name, harm) for name in NAMES for harm in (truncate, flip, remove, empty)]
    + [("state.json", harm) for harm in (truncate, remove, empty)],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path, harm, name):
    for step in (1, 2):
        checkpoint.save(tmp_path, snapshot(step), keep=2)
    harm(tmp_path / "step-00000002" / name)
    found, said = newest(tmp_path)
    assert found.step == 1
    assert len(said) == 1
    assert "step-00000002 is damaged" in said[0]
    assert name in said[0]
    assert (tmp_path / "damaged-step-00000002-1").is_dir()
    checkpoint.save(tmp_path, snapshot(2), keep=2)
    assert newest(tmp_path)[0].step == 2
    harm(tmp_path / "step-00000002" / name)
    assert newest(tmp_path)[0].step == 1
    assert (tmp_path / "damaged-step-00000002-2").is_dir()


def test_all_damaged_is_none_and_says_so(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, snapshot(step), keep=2)
        truncate(tmp_path / f"step-0000000{step}" / "model.safetensors")
    found, said = newest(tmp_path)
    assert found is None
    assert len(said) == 2


def test_a_later_format_is_an_error_that_names_the_folder(tmp_path):
    final = checkpoint.save(tmp_path, snapshot(3), keep=2)
    state = json.loads((final / "state.json").read_text())
    (final / "state.json").write_text(json.dumps(state | {"format": 2}))
    with pytest.raises(RunError, match="step-00000003 has checkpoint format 2"):
        newest(tmp_path)
    assert final.is_dir()


@pytest.mark.parametrize("point", ["train.checkpoint.before-fsync", "train.checkpoint.before-rename", "parquet.write"])
def test_a_full_disk_is_one_clear_error_and_harms_nothing(tmp_path, monkeypatch, point):
    checkpoint.save(tmp_path, snapshot(1), keep=2)
    monkeypatch.setattr("storage.atomic._reached", __import__("collections").Counter())
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", f"{point}=enospc")
    with pytest.raises(StorageError, match="disk full while writing"):
        checkpoint.save(tmp_path, snapshot(2), keep=2)
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert newest(tmp_path)[0].step == 1


def test_left_overs_of_a_killed_save_are_cleared(tmp_path):
    (tmp_path / ".step-00000005.part").mkdir()
    checkpoint.save(tmp_path, snapshot(4), keep=2)
    assert newest(tmp_path)[0].step == 4
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]
