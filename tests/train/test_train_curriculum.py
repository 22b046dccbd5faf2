"""A curriculum of five named stages: promotion, what every stage leaves, and the same bytes whatever happened."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmcore.generate.load import load
from lmcore.report.page import render
from lmcore.report.view import RunView
from lmcore.tokens import Loader
from lmcore.tokens.stages import moved_on
from lmcore.train.curriculum import gain
from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.milestones import found
from lmcore.train.params import Job, TrainParams
from storage.errors import RunError, StorageError, UserError

NAMES = ["beginner", "elementary", "intermediate", "advanced", "expert"]
FIXED = [[0, 20], [20, 40], [40, 60], [60, 80], [80, 100]]
BY_RANK = [["q0", "q20"], ["q20", "q40"], ["q40", "q60"], ["q60", "q80"], ["q80", "q100"]]
SOON = {"patience": 1, "min_gain": 0.99, "every": 0.5, "tokens": 1200}  # no look gains as much
LATE = {"patience": 99, "every": 0.5, "tokens": 1200}


def stages(bounds=FIXED, **more):
    return [
        {"name": name, "share": 0.2, "complexity": some} | (more if number else {})
        for number, (name, some) in enumerate(zip(NAMES, bounds, strict=True))
    ]


def run(values, **options):
    return train(Job.model_validate(values), **options)


def stops_after(steps):
    left = iter(range(steps))
    return lambda: next(left, None) is None


def out(values):
    return Path(values["work"]) / "out"


def log(values):
    return json.loads((out(values) / "stages.json").read_text())


def reach(values):
    """Of each stage: its name, its last step and why that was its last."""
    return [(stage["name"], stage["ended_at"], stage["reason"]) for stage in log(values)["stages"]]


@pytest.fixture(scope="module")
def graded(data, tmp_path_factory):
    """Gives tokens whose 40 training texts have these complexities, and whose 4 of validation 10, 30, 50 and 90."""

    def make(complexities):
        folder = Path(shutil.copytree(data["tokens"], tmp_path_factory.mktemp("graded") / "tokens"))
        for split, values in (("train", complexities), ("val", [10.0, 30.0, 50.0, 90.0])):
            path = folder / split / "documents.parquet"
            table = pq.read_table(path)
            place = table.schema.get_field_index("complexity")
            column = pa.array(values, pa.float32())
            pq.write_table(table.set_column(place, table.schema.field(place), column), path)
        return {"tokens": str(folder)}

    return make


@pytest.fixture(scope="module")
def even(graded):
    """Complexities from 0 to 97.5, eight texts a level."""
    return graded([2.5 * number for number in range(40)])


@pytest.fixture(scope="module")
def clustered(graded):
    """All but two texts have the same complexity."""
    return graded([50.0] * 38 + [30.0, 70.0])


def test_five_stages_run_in_order_and_leave_their_models(job, even, capsys):
    values = job(stages=stages(replay=0.25), steps=20, promote={"tokens": 1200}) | even
    metrics = run(values)
    told = capsys.readouterr().out
    assert "training texts by level: beginner 8, elementary 8, intermediate 8, advanced 8, expert 8" in told
    assert "stage 2 of 5, elementary, begins after step 4" in told
    assert "stage 1 of 5, beginner, ends after step 4: budget; on texts like its own " in told
    assert reach(values) == [(name, 4 * number, "budget") for number, name in enumerate(NAMES, 1)]

    found_log = log(values)
    assert found_log["texts"] == sum(level["texts"] for level in found_log["levels"]) == 40
    assert metrics["levels"] == dict.fromkeys(NAMES, 8)
    assert [stage["complexity"] for stage in found_log["stages"]] == [[20.0 * n, 20.0 * n + 17.5] for n in range(5)]
    for stage in found_log["stages"]:
        by_level = {level["name"]: level["bits_per_byte"] for level in stage["validation_by_level"]}
        assert list(by_level) == NAMES
        assert by_level["advanced"] is None, "no text for validation is advanced"
        own = by_level[stage["name"]]  # of a stage without such texts all count
        assert stage["bits_per_byte_after"] == pytest.approx(stage["validation"] if own is None else own)
        assert metrics["stages"][stage["name"]] == {"all": stage["validation"], **by_level}
        assert [look["step"] for look in stage["looks"]] == [stage["began_at"], stage["ended_at"]]
    first = found_log["stages"][0]
    assert first["bits_per_byte_after"] < first["bits_per_byte_before"]

    left = out(values) / "checkpoints"
    assert sorted(path.name for path in left.iterdir()) == sorted(NAMES)
    assert (left / "expert/model.safetensors").read_bytes() == (out(values) / "model.safetensors").read_bytes()
    assert (left / "beginner/model.safetensors").read_bytes() != (left / "expert/model.safetensors").read_bytes()
    assert isinstance(load(left / "beginner").generate("The", max_tokens=3), str)
    assert found(left) == [], "they are of a name, not of a number of steps"


def test_the_model_of_a_stage_is_that_of_its_last_step(job, even):
    values = job(stages=stages(), steps=20, milestone_every=4) | even
    run(values)
    folder = out(values) / "checkpoints"
    for number, name in enumerate(NAMES, 1):
        for file in ("config.json", "model.safetensors", "tokenizer.json"):
            assert (folder / name / file).read_bytes() == (folder / f"step_{4 * number}" / file).read_bytes()


def test_names_change_no_weight_and_enter_the_key_only_when_given(job, even, content):
    plain = [{name: value for name, value in stage.items() if name != "name"} for stage in stages()]
    named, unnamed = job("named", stages=stages(), steps=20) | even, job("unnamed", stages=plain, steps=20) | even
    run(named)
    run(unnamed)
    more = content(named)
    assert content(unnamed).items() <= more.items()
    assert {name.split("/")[0] for name in more.keys() - content(unnamed).keys()} == {"checkpoints", "stages.json"}
    assert not (out(unnamed) / "provenance/stage_looks.parquet").exists()
    key = TrainParams(steps=1, stages=plain).key_values()
    assert "promote" not in key
    assert key["stages"][0] == {"share": 0.2, "complexity": [0.0, 20.0]}


def test_without_a_gain_a_stage_ends_early_and_the_rest_goes_to_those_after_it(job, even, capsys):
    values = job(stages=stages(), steps=40, promote=SOON, schedule="constant", warmup=0) | even
    run(values)
    # Half of 8 steps; then half of what 36 steps give to one of four stages, a third of the rest ...
    assert reach(values) == [
        ("beginner", 4, "no gain"),
        ("elementary", 9, "no gain"),  # 4.5 of 9 steps: the look comes after the fifth
        ("intermediate", 15, "no gain"),  # 5.17 of 10.33
        ("advanced", 22, "no gain"),  # 6.25 of 12.5
        ("expert", 40, "budget"),  # the last stage never ends early
    ]
    gains = [stage["gain"] for stage in log(values)["stages"]]
    assert all(some < 0.99 for some in gains)
    for stage in log(values)["stages"][:4]:
        before, after = (look["bits_per_byte"] for look in stage["looks"])
        assert stage["gain"] == pytest.approx(1 - after / before)
    assert "stage 1 of 5, beginner, ends after step 4: no gain (" in capsys.readouterr().out
    table = pq.read_table(out(values) / "metrics.parquet")
    assert set(table["lr"].to_pylist()) == {table["lr"][0].as_py()}, "one schedule throughout"


def test_a_stage_that_gains_uses_its_budget(job, even):
    values = job(stages=stages(), steps=20, promote=LATE) | even
    run(values)
    assert reach(values) == [(name, 4 * number, "budget") for number, name in enumerate(NAMES, 1)]
    assert [len(stage["looks"]) for stage in log(values)["stages"]] == [3] * 5
    assert log(values)["stages"][0]["gain"] is None


def test_the_gain_is_that_of_the_last_looks_over_those_before():
    assert gain([4.0, 2.0], 1) == 0.5
    assert gain([4.0, 3.0, 3.5, 2.97], 2) == pytest.approx(0.01)
    assert gain([4.0, 5.0], 1) == -0.25
    assert all(map(math.isnan, (gain([4.0], 1), gain([], 1), gain([4.0, 3.0], 0), gain([4.0, math.nan], 1))))


def test_the_rest_of_the_budget_is_divided_as_the_shares_are():
    assert moved_on([0, 0.5, 0.7], [0.5, 0.2, 0.3], 1, 0.1) == pytest.approx([0, 0.1, 0.1 + 0.9 * 0.4])
    assert moved_on([0, 0.1, 0.46], [0.5, 0.2, 0.3], 2, 0.2) == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize(("promote", "stop"), [(SOON, 4), (SOON, 13), (LATE, 4), (LATE, 7)])
def test_a_stopped_curriculum_ends_as_if_it_had_not_been(job, even, content, promote, stop):
    """After 4 steps a stage has just ended; the next has not begun."""
    whole, stopped = (
        job(name, stages=stages(replay=0.25), steps=20 if promote is LATE else 40, promote=promote) | even
        for name in ("whole", "stopped")
    )
    run(whole)
    with pytest.raises(Stopped):
        run(stopped, stopped=stops_after(stop))
    run(stopped)
    assert content(stopped) == content(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "points",
    [
        ["train.step:4"],  # the stage's last step is done, and nothing of its end is written
        ["train.milestone.before-rename:2", "train.milestone.after-rename:1"],
        ["train.checkpoint.before-rename:2", "train.checkpoint.after-rename:2"],  # at the end of the first stage
        ["train.step:11", "train.step:6"],
        ["train.before-out"],
    ],
    ids=lambda points: points[0],
)
@pytest.mark.parametrize("saving", [4, 3])
def test_killed_it_ends_with_the_same_bytes(job, even, trainer, content, points, saving):
    settings = {"stages": stages(replay=0.25), "steps": 40, "promote": SOON, "runtime": {"save_every_steps": saving}}
    straight, killed = (job(name, **settings) | even for name in ("straight", "killed"))
    run(straight)
    for point in points:
        assert trainer(killed, point).returncode == -signal.SIGKILL, point
    run(killed)
    assert content(killed) == content(straight)
    assert reach(killed)[0] == ("beginner", 4, "no gain")


def test_a_rewind_takes_back_a_stage_that_had_ended(job, even):
    spiky = {"batch": 1, "micro_batch": 1, "steps": 60, "lr": 0.02, "muon_lr": 0.05, "spike_factor": 1.06}
    two = [{"name": "short", "share": 0.2}, {"name": "long", "share": 0.8}]
    values = job(stages=two, promote=LATE, on_spike="rewind", rewind_every=100, **spiky) | even
    run(values)
    events = [line.get("event") for line in read_lines(Path(values["work"]) / "progress.jsonl")]
    assert "rewound" in events
    assert events.count("stage-end") > 2
    assert reach(values) == [("short", 12, "budget"), ("long", 60, "budget")]
    assert [look["step"] for look in log(values)["stages"][1]["looks"]] == [12, 36, 60]


def test_a_continued_run_goes_on_with_the_last_stage(job, even):
    first = job("first", stages=stages(), steps=20, runtime={"keep_state": True}) | even
    run(first)
    more = job("more", start_from=str(out(first)), continues=True, stages=stages(), steps=30) | even
    run(more)
    assert reach(more) == [*reach(first)[:4], ("expert", 30, "budget")]
    assert sorted(path.name for path in (out(more) / "checkpoints").iterdir()) == ["expert"]


def test_early_stopping_ends_the_stage_too(job, even):
    stop = {"patience": 1, "min_delta": 50, "every": 0.25, "tokens": 300}
    values = job(stages=stages(), steps=20, early_stop=stop) | even
    run(values)
    assert reach(values) == [("beginner", 4, "budget"), ("elementary", 5, "early stop")]


def test_a_budget_of_minutes_is_promoted_too(job, even):
    values = job(stages=stages(), minutes=0.02, promote=SOON) | even
    run(values)
    assert [name for name, _, _ in reach(values)] == NAMES


@pytest.mark.slow
def test_several_processes_promote_together(job, even, trainer, content):
    settings = {"stages": stages(replay=0.25), "steps": 40, "promote": SOON, "runtime": {"processes": 2}}
    straight, killed = (job(name, **settings) | even for name in ("straight", "killed"))
    done = trainer(straight)
    assert done.returncode == 0, done.err
    assert reach(straight)[0] == ("beginner", 4, "no gain")
    assert trainer(killed, "train.step:6").returncode != 0
    assert trainer(killed).returncode == 0
    assert content(killed) == content(straight)


def test_what_is_read_again_has_its_share(job, even):
    values = job(stages=stages(replay=0.2), steps=20, batch=100) | even
    loader = Loader(
        Path(values["tokens"]), "train", batch=100, context=32, seed=1, tokenizer_bytes=None,
        settings=TrainParams.model_validate(values["params"]),
    )  # fmt: skip
    starts = [0, 10, 20, 30, 40]
    for number in range(5):
        rows = Counter()
        for batch in range(starts[number], starts[number] + 10):  # 1,000 rows, which is a block
            documents = loader.batch(batch, starts[: number + 1]).doc_ids[:, 0].tolist()
            rows.update(document // 8 for document in documents)
        earlier = [rows[level] for level in range(number)]
        assert rows[number] == (800 if number else 1000)
        assert sum(rows.values()) == 1000
        assert sum(earlier) == (200 if number else 0)
        assert max(earlier, default=0) - min(earlier, default=0) <= 1, "each earlier stage as much as the others"


def test_quantiles_leave_no_stage_empty(job, clustered, even):
    values = job(stages=stages(BY_RANK), steps=20) | clustered
    metrics = run(values)
    assert metrics["levels"] == dict.fromkeys(NAMES, 8)
    assert [stage["texts"] for stage in log(values)["stages"]] == [8] * 5
    assert log(values)["stages"][0]["complexity"] == [30.0, 50.0]
    assert [stage["complexity"] for stage in log(values)["stages"][1:]] == [[50.0, 50.0]] * 3 + [[50.0, 70.0]]
    mixed = job("mixed", steps=20, stages=stages([[0, "q10"], *[["q10", 100]] * 4])) | even
    run(mixed)
    assert [stage["texts"] for stage in log(mixed)["stages"]] == [4] + [36] * 4


def test_levels_add_up_where_complexities_cluster(job, clustered):
    one = [{"name": "all", "share": 1.0}]
    values = job(stages=one, steps=4) | clustered
    assert run(values)["levels"] == dict(zip(NAMES, [0, 1, 38, 1, 0], strict=True))
    assert log(values)["levels"][0] == {"name": "beginner", "texts": 0, "complexity": None}
    assert log(values)["texts"] == 40


def test_a_stage_without_a_text_is_refused_before_the_first_step(job, clustered):
    with pytest.raises(UserError, match=r"no text in split 'train' with complexity 0 to 20") as caught:
        run(job(stages=stages(), steps=20) | clustered)
    assert "or quantiles (q0 to q20)" in caught.value.mend
    assert "30.0 to 70.0, half of them below 50.0" in caught.value.mend
    with pytest.raises(UserError, match=r"train\.stages 1 has 0.2 of 4 steps, less than one"):
        run(job(stages=stages(BY_RANK), steps=4, promote=SOON) | clustered)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": [{"share": 0.5, "name": "a"}, {"share": 0.5}]}, "1 of 2 stages have a name"),
        ({"stages": [{"share": 0.5, "name": "a"}, {"share": 0.5, "name": "a"}]}, "two stages are called a"),
        ({"stages": [{"share": 1, "name": "step_5"}]}, "String should match pattern"),
        ({"stages": [{"share": 1, "replay": 0.2}]}, "replay in the first stage"),
        ({"stages": [{"share": 1}], "promote": SOON}, "promote needs stages that have names"),
        ({"stages": [{"share": 1, "complexity": ["q40", "q20"]}]}, "holds no text: the lower bound comes first"),
        ({"stages": [{"share": 1, "complexity": ["q0", "q101"]}]}, "String should match pattern"),
    ],
)
def test_what_has_no_meaning_is_refused_in_the_recipe(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainParams(steps=20, **settings)


def test_promotion_needs_validation_text(job, even, tmp_path):
    empty = Path(shutil.copytree(even["tokens"], tmp_path / "empty"))
    for path in (empty / "val").glob("*.bin"):
        path.unlink()
    table = pq.read_table(empty / "val" / "documents.parquet")
    pq.write_table(table.slice(0, 0), empty / "val" / "documents.parquet")
    meta = json.loads((empty / "meta.json").read_text())
    meta["splits"]["val"] = {"shards": [], "masks": [], "tokens": 0, "documents": 0, "bytes": 0}
    (empty / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(RunError, match=r"has no validation text, and train\.promote needs some"):
        run(job(stages=stages(), steps=20, promote=SOON) | {"tokens": str(empty)})
    values = job("unseen", stages=stages(), steps=20) | {"tokens": str(empty)}
    run(values)
    assert len(reach(values)) == 5
    assert log(values)["stages"][0]["validation"] is None


def test_a_full_disk_at_the_end_of_a_stage_loses_nothing(job, even, content, monkeypatch):
    straight, full = (job(name, stages=stages(), steps=40, promote=SOON) | even for name in ("straight", "full"))
    run(straight)
    monkeypatch.setattr("storage.atomic._reached", Counter())
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "train.milestone.before-rename:2=enospc")
    with pytest.raises(StorageError, match="disk full while writing"):
        run(full)
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    run(full)
    assert content(full) == content(straight)


def test_the_report_has_a_table_of_the_stages(job, even):
    values = job(stages=stages(), steps=40, promote=SOON) | even
    run(values)
    page = render(
        RunView(recipe="r", resolved={}, run="1", edition="1", started="", seconds=1.0, stages=(), train=out(values))
    )
    assert "<h3>Curriculum</h3>" in page
    assert "<td>beginner</td>" in page
    assert "no gain" in page
