"""CLLM's recipes: the settings of its document by value, what its owner would check, and its small sister run."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace

import cllm_ranks
import pytest
import torch
from helpers_systems import SHORT, commands
from rich.console import Console
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from flows.claims import show_claims
from lmcore.expect.planned import Planned
from lmcore.export.cllm import Contents, contents, header_of, write_cllm
from lmcore.export.cllm_reader import read_cllm, read_header
from lmcore.models import build
from lmcore.models.io import empty_model
from lmcore.models.ledger import estimate
from lmcore.recipe import load_recipe
from lmcore.tokenizer.words import Words
from lmcore.tokens import Loader
from lmcore.tokens.meta import read_meta
from lmcore.train.history import last_step
from lmcore.train.horizon import make_horizon, warmup_share
from lmcore.train.loop import train
from lmcore.train.params import Job
from lmcore.train.schedule import lr_share
from lmcore.train.team import Team
from storage.digest import digest_file
from storage.store import VARIABLE, Store

RECIPE = "cllm-small"
VARIANTS = ("cllm", "cllm-first-seen", "cllm-bpe")
VOCABULARY, FORMULA, NORMS = 30_000, 33_656_832, 13 * 384
ORIGINAL_TOKENS = 5_952_986  # the counts in CLLM's own vocab.txt


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("cllm")


@pytest.fixture(scope="module")
def model(recipe):
    """The full shape, with noise on its weights: new ones leave attention out."""
    made = build(recipe.model, VOCABULARY, 1).eval()
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for block in made.parameters():
            block += 0.02 * torch.randn(block.shape, generator=draw)
    return made


def rates(recipe, horizon):
    """The learning rate of steps 1 to 1,100."""
    params = recipe.training
    warmup = warmup_share(params, horizon)
    middles = (horizon.middle(step, 0.0) for step in range(1100))
    return [params.lr * lr_share(at, params.schedule, warmup=warmup) for at in middles]


# The settings


def test_the_settings_are_those_of_the_document(recipe):
    shape, train_, words = recipe.model, recipe.train, recipe.tokenizer
    assert (shape.d_model, shape.n_layers, shape.n_heads, shape.d_ff, shape.context) == (384, 6, 12, 1536, 256)
    assert (words.kind, words.vocab_size, words.order) == ("words", 30_000, "frequency")
    assert (train_.optimizer, train_.lr, train_.betas) == ("adamw", 1e-4, (0.9, 0.999))
    assert (train_.weight_decay, train_.grad_clip, train_.warmup_steps, train_.epochs) == (0.01, 1.0, 1000, 30)
    assert (train_.milestone_every, recipe.runtime.train.validate_every_steps) == (1000, 100)
    first, second = train_.stages
    assert (train_.batch * shape.context // first.context, first.context) == (32, 128)
    assert (first.share, second.share, second.context) == (0.9, 0.1, None)
    assert recipe.tokens.learn_roles == (), "the whole text is learnt"
    assert recipe.curate.split.val + recipe.curate.split.test == pytest.approx(0.05)
    assert train_.prompts == ("the quick brown", "artificial intelligence", "machine learning")
    sampling = recipe.evaluate.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.8, 0.9, 50)


def test_it_reads_documentation_source_code_and_questions(recipe):
    documentation, code, squad = recipe.sources
    assert (documentation.kind, documentation.text_kind, documentation.languages) == ("code", "prose", ("markdown",))
    assert (code.kind, code.text_kind, code.languages) == ("code", "code", ("c",))
    assert (squad.kind, squad.dataset, squad.shape, squad.no_answer) == ("hub", "rajpurkar/squad_v2", "qa", "")
    assert [source.name for source in load_recipe(RECIPE).sources] == [source.name for source in recipe.sources]


@pytest.mark.parametrize("size", ["", "-small"])
def test_variants_differ_in_their_vocabulary_alone(size):
    plain, first_seen, bpe = (load_recipe(name + size) for name in VARIANTS)
    for other in (first_seen, bpe):
        for section in ("sources", "curate", "model", "runtime", "tokens", "evaluate"):
            assert getattr(other, section) == getattr(plain, section), section
    assert (first_seen.tokenizer.order, first_seen.tokenizer.min_frequency) == ("first_seen", 1)
    assert bpe.tokenizer.kind == "byte_bpe"
    assert len({each.tokenizer.vocab_size for each in (plain, first_seen, bpe)}) == 1
    steps = [each.train.steps for each in (plain, first_seen, bpe)]
    assert steps == ([1200, 600, 600] if size else [None] * 3)


def test_the_small_one_has_the_structure_of_the_full_one(recipe):
    small = load_recipe(RECIPE)
    assert (small.model.n_layers, small.model.n_heads) == (6, 12)
    assert small.model.d_ff == 4 * small.model.d_model
    assert small.train.stages[0].context * 2 == small.model.context
    for name in ("optimizer", "betas", "weight_decay", "grad_clip"):
        assert getattr(small.train, name) == getattr(recipe.train, name)
    assert small.train.batch >= 11, "a row for each of 11 workers"


def test_claims_name_their_lines_and_the_two_counts(recipe):
    assert all("line" in row.source for row in recipe.expect)
    planned = Planned(recipe)
    follows = ("file_bytes", "checkpoint_bytes", "vocab_size", "context", "epochs", "peak_lr")
    held = [row for row in recipe.expect if row.metric in follows]
    assert len(held) == len(follows)
    assert all(row.gap(planned.value(row.metric, row.at)) == 0 for row in held)
    impossible = [row for row in recipe.expect if row.metric == "parameters" and row.range[0] == 50_000_000]
    assert "no reading" in impossible[0].note


# The owner's checks, by their numbers. 9, 10, 11 and 14 are of the crystalline parts: docs/systems/cllm.md, "Not done".


def test_owner_01_params_prints_the_count_of_the_formula_and_the_actual_one(recipe):
    ledger = estimate(recipe.model, VOCABULARY)
    assert (ledger.total, ledger.groups["norms"], ledger.groups["positions"]) == (FORMULA + NORMS, NORMS, 0)
    d, layers = 384, 6
    assert 2 * VOCABULARY * d + layers * (4 * d * d + 8 * d * d) == FORMULA
    screen = Console(file=io.StringIO(), width=220)
    show_claims(recipe, screen)
    shown = " ".join(screen.file.getvalue().split())
    assert "33,655,000 to 33,665,000 │ 33,661,824 │ in range" in shown
    assert "33,656,832 │ −4,992 │ with model.norm_affine=false: the document counts matrices alone" in shown


def test_owner_02_the_model_file_has_130_to_150_mb_and_404_with_the_optimizer(recipe):
    empty = empty_model(recipe.model, VOCABULARY)
    plain = contents(empty, Words([b"word"], [1]), step=0, name="cllm")
    state = {
        f"adamw.{part}.{name}": torch.empty_like(tensor)
        for part in ("exp_avg", "exp_avg_sq")
        for name, tensor in plain.weights.items()
    }
    full = Contents("cllm", 0, plain.model, plain.weights, plain.vocabulary, state)
    assert header_of(plain).file_bytes == pytest.approx(134.6e6, rel=1e-3)
    assert header_of(full).file_bytes == pytest.approx(404e6, rel=1e-3)


def test_owner_03_vocab_txt_has_30000_lines_and_the_specials_first(recipe):
    words = recipe.tokenizer
    text = " ".join(f"w{n}" for n in range(40_000)) + " "
    made = Words.train(
        [text * 2, "the the the"], vocab_size=words.vocab_size, order=words.order, min_frequency=words.min_frequency,
        max_token_length=words.max_token_length,
    )  # fmt: skip
    lines = made.files()["vocab.txt"].decode().splitlines()
    assert len(lines) == 30_000
    assert lines[:6] == ["<PAD>\t0", "<UNK>\t0", "<BOS>\t0", "<EOS>\t0", "<MASK>\t0", "the\t3"]


@pytest.mark.slow
def test_owner_04_dataset_bin_has_8_and_4_n_bytes(small_run, written):
    data = (written / "dataset.bin").read_bytes()
    count = struct.unpack_from("<Q", data)[0]
    split = read_meta(Store(small_run.store).resolve("tokens").local()).splits["train"]
    assert len(data) == 8 + 4 * count
    assert count == split.tokens - split.documents, "without the marks between documents"


@pytest.mark.parametrize("place", [0, 127, 254])
def test_owner_05_no_logit_sees_a_later_token(model, place):
    ids = torch.randint(VOCABULARY, (1, 256), generator=torch.Generator().manual_seed(5))
    changed = ids.clone()
    changed[:, place + 1 :] = (changed[:, place + 1 :] + 77) % VOCABULARY
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert (before[:, : place + 1] - after[:, : place + 1]).abs().max() <= 1e-6
    assert (before[:, place + 1 :] - after[:, place + 1 :]).abs().max() > 1e-3


@pytest.mark.slow
def test_owner_06_eleven_workers_have_the_gradient_of_one(tmp_path):
    """And it is the mean over tokens, whatever the rows of a worker weigh."""
    threads = torch.get_num_threads()
    expected, loss = cllm_ranks.gradients(Team())
    trained = cllm_ranks.weights(Team())
    torch.set_num_threads(threads)

    run, whole = cllm_ranks.start(Team()), cllm_ranks.batch(0)
    mean = cross_entropy(run.model(whole.ids)[whole.loss_mask], whole.targets[whole.loss_mask])
    mean.backward()
    torch.set_num_threads(threads)
    by_hand = {name: parameter.grad for name, parameter in run.model.named_parameters()}
    assert loss == pytest.approx(float(mean.detach()), rel=1e-6)
    assert apart(expected, by_hand) < 1e-5

    launch = ["--standalone", "--nproc-per-node=11", "--local-addr=localhost", cllm_ranks.__file__, str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(11)]
    assert [one["rows"] for one in told] == [3] + [2] * 10
    assert len({one["tokens"] for one in told}) > 5, "workers of unequal weight"
    assert sum(one["tokens"] for one in told) == int(whole.loss_mask.sum())
    for rank in range(11):
        assert told[rank]["loss"] == pytest.approx(loss, rel=1e-6)
        assert apart(load_file(tmp_path / f"gradients-{rank}.safetensors"), expected) < 1e-5
        assert apart(load_file(tmp_path / f"weights-{rank}.safetensors"), trained) < 1e-5


@pytest.mark.slow
def test_a_run_of_eleven_workers_leaves_the_model_of_one(small_run, tmp_path):
    """A training that no run with one worker has made before, in a store of its own, from the tokens that there are."""
    folder = tmp_path / "store"
    shutil.copytree(small_run.store, folder)
    eleven = replace(small_run, store=folder, env=small_run.env | {VARIABLE: str(folder)})
    settings = ["train.seed=2", "train.steps=2", "train.precision=fp32", "train.micro_batch=1", "train.attention=sdpa"]
    settings.append("train.stages=[{share: 0.5, context: 64}, {share: 0.5}]")  # a step of each
    # Of matrices that begin at 0 two steps of AdamW are all there is: with an eps of 1e-8 it makes a whole step of
    # gradients no larger than what the order of a sum changes, and the two are 2e-5 apart.
    settings.append("train.eps=1.0e-6")
    runtime = {"compile": "off", "sample_at": [], "validation_tokens": 1000}
    given = [*settings, "runtime.train.processes=11", *(f"runtime.train.{k}={v}" for k, v in runtime.items())]
    eleven.collect("run", RECIPE, "--until", "train", *(word for each in given for word in ("--set", each)))
    store = Store(folder)
    trained = store.resolve("train").local()
    told = json.loads((trained / "provenance" / "plan.json").read_text())
    assert told["processes"] == 11
    assert last_step(trained) == 2

    params = load_recipe(RECIPE, settings).training
    values = {
        "tokens": str(store.resolve("tokens").local()), "tokenizer": str(store.resolve("tokenizer").local()),
        "work": str(tmp_path / "one"), "params": params.model_dump(mode="json"),
        "runtime": runtime | {"device": "cpu", "threads": 1},
    }  # fmt: skip
    train(Job.model_validate(values))
    one = load_file(tmp_path / "one" / "out" / "model.safetensors")
    found = load_file(trained / "model.safetensors")
    assert found.keys() == one.keys()
    assert apart(found, one) < 1e-5
    untrained = load_file(trained / "checkpoints" / "step_0" / "model.safetensors")
    assert not any(torch.equal(untrained[name], found[name]) for name in found), "every tensor has moved"


def apart(mine, other):
    """The largest difference of a tensor, relative to its length."""
    return max(float((mine[name] - other[name]).norm() / other[name].norm()) for name in other)


@pytest.mark.slow
def test_owner_07_checkpoints_come_at_their_cadence_and_a_kill_changes_no_bit(small_run, tmp_path):
    store = Store(small_run.store)
    params = load_recipe(RECIPE, ["train.steps=12", "train.milestone_every=5", "train.precision=fp32"]).training
    params = params.model_copy(update={"micro_batch": 6, "attention": "sdpa"})
    runtime = {"device": "cpu", "threads": 1, "compile": "off", "save_every_steps": 3, "sample_at": []}
    runtime |= {"validate_every_steps": 4, "validation_tokens": 1000}
    values = {
        "tokens": str(store.resolve("tokens").local()), "tokenizer": str(store.resolve("tokenizer").local()),
        "params": params.model_dump(mode="json"), "runtime": runtime,
    }  # fmt: skip
    straight, killed = values | {"work": str(tmp_path / "a")}, values | {"work": str(tmp_path / "b")}
    train(Job.model_validate(straight))
    (tmp_path / "JOB.json").write_text(json.dumps(killed))
    died = subprocess.run(
        [sys.executable, "-m", "lmcore.train", str(tmp_path / "JOB.json")],
        env=os.environ | {"COLLECT_TRAIN_FAULT": "train.step:8", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert died.returncode == -9
    assert not (tmp_path / "b" / "out").exists()
    assert train(Job.model_validate(killed))["resumes"] == 1
    names = [
        "model.safetensors", "metrics.parquet",
        *(f"checkpoints/step_{step}/model.safetensors" for step in (0, 5, 10)),
    ]  # fmt: skip
    for name in names:
        assert digest_file(tmp_path / "a" / "out" / name) == digest_file(tmp_path / "b" / "out" / name), name
    marks = sorted(path.name for path in (tmp_path / "a" / "out" / "checkpoints").iterdir())
    assert marks == ["step_0", "step_10", "step_5"]


def test_owner_08_a_file_comes_back_with_equal_logits_12_heads_and_a_context_of_256(recipe, tmp_path):
    words = Words([b"w%d" % n for n in range(295)], [1] * 295)
    made = build(recipe.model, words.vocab_size, 3).eval()
    write_cllm(tmp_path / "model.cllm", contents(made, words, step=1000, name="cllm"))
    read = read_cllm(tmp_path / "model.cllm")
    ids = torch.arange(5, 261)[None]
    with torch.no_grad():
        assert torch.equal(read.model(ids), made(ids))
    shape = read.header.model["model"]
    assert (shape["n_heads"], shape["context"]) == (12, 256)


def test_owner_12_the_rate_is_5e_5_after_500_steps_and_1e_4_after_1000(recipe):
    found = rates(recipe, make_horizon(recipe.training, 4096, math.ceil(ORIGINAL_TOKENS / 4096)))
    assert (found[499] + found[500]) / 2 == pytest.approx(5e-5)  # rates are of the middle of a step
    assert found[999] == pytest.approx(1e-4, rel=1e-3)
    assert found[1000:] == [1e-4] * 100


def test_owner_13_the_first_loss_is_ln_30000(recipe):
    made = build(recipe.model, VOCABULARY, 1).eval()
    ids = torch.randint(VOCABULARY, (2, 129), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        loss = cross_entropy(made(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert float(loss) == pytest.approx(math.log(30_000), abs=0.3)


def test_owner_15_there_is_a_step_for_every_4096_tokens_of_every_epoch(recipe):
    assert recipe.train.batch * recipe.model.context == 4096
    each = math.ceil(ORIGINAL_TOKENS / 4096)
    horizon = make_horizon(recipe.training, 4096, each)
    assert (each, horizon.steps) == (1454, 43_620)


# The small sister, run


@pytest.fixture(scope="module")
def written(small_run):
    """The folder that the document promises."""
    output = small_run.folder / "production_checkpoints"
    small_run.collect("export", RECIPE, "--layout", "document", "--output", str(output), "--optimizer")
    return output


@pytest.mark.slow
def test_it_leaves_the_files_of_the_document(written, small_run):
    assert sorted(path.name for path in written.iterdir()) == [
        "checkpoint_step_0.cllm", "checkpoint_step_20.cllm", "dataset.bin", "vocab.txt",
    ]  # fmt: skip
    for name in ("checkpoint_step_0.cllm", "checkpoint_step_20.cllm"):
        told = small_run.collect("info", "--model", str(written / name)).out
        assert "n_heads: 12" in told
        assert "context: 128" in told
    assert len((written / "vocab.txt").read_text().splitlines()) == 16_384
    first, last = (read_header(written / f"checkpoint_step_{step}.cllm") for step in (0, 20))
    assert (first.optimizer_inside, last.optimizer_inside) == (False, True)
    state = sum(entry.bytes for entry in last.optimizer)
    assert state == 8 * last.parameters + 4 * len(last.tensors), "two moments, and the steps of every tensor"


@pytest.mark.slow
def test_an_epoch_of_both_stages_is_all_the_text_once(small_run):
    store, params = Store(small_run.store), load_recipe(RECIPE, SHORT[1:]).training
    tokens = store.resolve("tokens").local()
    loader = Loader(
        tokens, "train", batch=params.batch, context=params.model.context, seed=1, tokenizer_bytes=None, settings=params
    )
    n = read_meta(tokens).splits["train"].tokens
    assert loader.steps_per_epoch == math.ceil(n // params.model.context / params.batch)
    assert loader.steps_per_epoch - math.ceil(n / (params.batch * params.model.context)) in (0, -1)
    first, last = loader.batch(0), loader.batch(18, (0, 18))
    assert (first.ids.shape, last.ids.shape) == ((24, 64), (12, 128))
    assert bool(first.loss_mask.all()), "questions and paragraphs are learnt too, not answers alone"


@pytest.mark.slow
def test_it_learns_and_says_what_it_cannot_know(small_run):
    store = Store(small_run.store)
    assert last_step(store.resolve("train").local()) == 20
    found = json.loads((store.resolve("evaluate").local() / "evaluation.json").read_text())
    assert found["lossy"] is True, "what words lose is charged for"
    assert {row["name"].split()[0] for row in found["baselines"]} == {"gzip", "xz", "n-gram"}
    assert set(found["groups"]["source"]) == {"documentation", "source-code", "squad"}
    told = small_run.done.out
    assert "what its document claims" in told
    assert "ArceeForCausalLM" in told


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["cllm-first-seen-small", "cllm-bpe-small"])
def test_what_is_unknown_is_told_of_each_vocabulary(small_run, variant):
    store = Store(small_run.store)
    plain = unknown(store)
    small_run.run(variant, "--until", "tokenizer" if "first" in variant else "train")
    if "first" in variant:
        assert 1 > unknown(store) > plain > 0
        return
    assert unknown(store) == 0
    folder, out = store.resolve("train").local(), small_run.folder / variant
    small_run.collect("export", str(folder), "--layout", "document", "--system", "cllm", "--output", str(out))
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint_step_0.cllm", "checkpoint_step_20.cllm", "dataset.bin",
    ]  # fmt: skip


def unknown(store):
    """Share of the words of held-out text that the newest vocabulary does not have."""
    report = json.loads((store.resolve("tokenizer").local() / "tokenizer_report.json").read_text())
    return report["measured"]["val"].get("unknown_share", 0.0)


@pytest.mark.slow
def test_the_commands_of_its_document(small_run):
    for command in commands("CLLM"):
        small_run.type(command)
