"""MU-SOTA as a recipe: its settings by value, its claims, and what a sceptical owner would check, item by item."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from helpers_systems import DOCS, asked, commands
from helpers_texts import make_data
from model_checks import moved, sees_a_later_token
from mu_made import mu_stream

from lmcore import load
from lmcore.evaluate.likelihood import score_documents, summarise
from lmcore.expect.planned import Planned
from lmcore.expect.times import Time
from lmcore.export.layouts import system_of
from lmcore.export.mu_layout import write_layout
from lmcore.generate.sampler import Sampler
from lmcore.generate.sampling import Sampling
from lmcore.models import build, estimate, load_model
from lmcore.models.mu_layer import join, split
from lmcore.recipe import counted_as, load_recipe
from lmcore.tokens import Loader, sequential
from lmcore.train.horizon import make_horizon
from lmcore.train.journal import read_lines
from lmcore.train.loop import train
from lmcore.train.params import Job
from lmcore.train.plan import _choose_precision
from lmcore.train.scale import LossScale
from lmcore.train.schedule import lr_share
from storage.errors import UserError

RECIPE = "mu-small"
COMPARED = """WITH latest AS (SELECT recipe, max_by(model_key, number) AS model FROM releases
    WHERE recipe IN ('mu-small', 'mu-baseline-small') GROUP BY recipe)
SELECT recipe, t.metrics->>'parameters' AS parameters, t.metrics->>'steps' AS steps,
    t.metrics->>'tokens' AS tokens_learnt, l.input_key AS learnt_from,
    e.documents AS held_out, e.bytes, e.bits_per_byte, e.low, e.high
FROM latest JOIN artifacts t ON t.stage = 'train' AND t.key = model
JOIN lineage l ON l.stage = 'train' AND l.key = model AND l.input_stage = 'tokens'
JOIN evaluations e USING (model) WHERE e.headline ORDER BY bits_per_byte"""
PROMPTS = ("The quick brown", "Once upon a time", "In the beginning")
STEPS = 1_310  # 5 epochs of 262
LINES = [
    "The quick brown fox jumps over a lazy dog.",
    "Once upon a time an old king lived there, and nobody knew him.",
    "In the beginning all was dark; then somebody lit a lamp.",
    "A bird sings under the bridge while the river walks on.",
]


@pytest.fixture(scope="module")
def mu():
    return load_recipe("mu")


def training_of(recipe, *, epochs_of=262):
    return make_horizon(recipe.training, recipe.train.batch * recipe.model.context, epochs_of)


def rates(recipe, steps):
    """The learning rate of every step of a run."""
    t = recipe.train
    warmup = t.warmup_steps / steps if t.warmup_steps else t.warmup
    shares = ((step + 0.5) / steps for step in range(steps))
    course = {"warmup": warmup, "decay_share": t.decay_share, "final": t.final_lr_share}
    return [t.lr * lr_share(at, t.schedule, **course) for at in shares]


# --- the document's settings


def test_settings_of_the_document(mu):
    train, model, runtime = mu.train, mu.model, mu.runtime.train
    assert (train.epochs, train.batch, train.lr, train.weight_decay, train.grad_clip) == (5, 32, 1e-4, 0.01, 1.0)
    assert (train.optimizer, train.betas, train.eps, train.decays) == ("adamw", (0.9, 0.999), 1e-8, "all")
    assert (train.packing, train.stride, model.context) == ("stride", 256, 512)
    assert (model.n_layers, model.n_heads, model.matrix, model.block, model.block_heads) == (24, 8, (8, 8), (2, 2), 2)
    assert (model.ff_width, model.dropout, model.compat) == (256, 0.1, None)
    assert (mu.tokenizer.kind, mu.tokenizer.vocab_size, mu.tokenizer.cap) == ("word_bpe", 50_000, False)
    assert train.prompts == mu.evaluate.prompts == PROMPTS
    assert mu.evaluate.sampling == Sampling(max_tokens=30, temperature=0.8, top_k=50, top_p=0.9, repetition_penalty=1.2)
    assert (runtime.each_epoch, runtime.keep_best) == (True, True)
    sampled = {name: getattr(runtime, f"sample_{name}") for name in ("temperature", "top_k", "top_p")}
    assert sampled == {"temperature": 0.8, "top_k": 50, "top_p": 0.9}
    assert (runtime.sample_tokens, runtime.sample_repetition_penalty) == (30, 1.2)
    assert training_of(mu).steps == STEPS


def test_the_data_set_keeps_its_own_division(mu):
    assert [(source.dataset, source.config, source.split) for source in mu.sources] == [
        ("Salesforce/wikitext", "wikitext-2-raw-v1", part) for part in ("train", "validation", "test")
    ]
    assert mu.curate.split.sources == {"train": "train", "validation": "val", "test": "test"}
    assert mu.curate.rules.sets == (), "it cleans nothing"


@pytest.mark.parametrize(
    "advice",
    [["train.batch=16"], ["train.lr=5e-5", "train.grad_clip=0.5"], ["train.epochs=50"], ["train.epochs=100"]],
)
def test_what_the_document_advises_when_it_fails_is_a_setting(mu, advice):
    changed = load_recipe("mu", advice)
    assert changed.train != mu.train
    assert changed.model == mu.model


def test_the_small_recipe_differs_in_size_and_text_alone(mu):
    def leaves(value, place=""):
        if not isinstance(value, dict):
            return {place: value}
        return {at: leaf for key, under in value.items() for at, leaf in leaves(under, f"{place}.{key}").items()}

    full, small = (leaves(recipe.model_dump(mode="json")) for recipe in (mu, load_recipe(RECIPE)))
    differ = {place.lstrip(".") for place in full.keys() | small.keys() if full.get(place) != small.get(place)}
    same = ("name", "description", "sources", "expect", "document_epoch", "curate.split", "curate.mix", "curate.gates")
    assert {place for place in differ if not place.startswith(same)} == {
        "tokenizer.vocab_size", "tokenizer.cap", "model.n_layers", "model.context", "train.stride", "train.lr",
        "evaluate.max_bytes", "runtime.train.validation_tokens",
    }  # fmt: skip


def test_the_claims_that_settings_decide(mu):
    planned, rows = Planned(mu), {(row.metric, str(row.at)): row for row in mu.expect}
    found = {name: planned.value(name, Time("end")) for name in ("vocab_size", "context", "epochs", "peak_lr", "lr")}
    for name, value in found.items():
        assert rows[name, "end"].gap(value) == 0, name
    ours = planned.value("parameters", Time("end"))
    assert rows["parameters", "end"].gap(ours) == -6_144 == -24 * 16 * 16
    assert [(step.value, step.by) for step in planned.differences(rows["parameters", "end"])] == [(26_946_256, 6_144)]
    leaky = {"train_loss", "accuracy", "perplexity"}
    assert all(row.reason for row in mu.expect if row.metric in leaky), "of a model that sees the next token"


def test_the_published_model_can_be_counted_and_not_run(five_epochs, tmp_path):
    assert load_recipe("mu", ["model.compat=original"]).model.compat == "original"
    job = five_epochs[2]
    leaky = job.params.model.model_copy(update={"compat": "original"})
    changes = {"work": tmp_path, "params": job.params.model_copy(update={"model": leaky})}
    with pytest.raises(UserError, match=r"model\.compat: original lets every token see the next one"):
        train(job.model_copy(update=changes))


# --- the sceptical owner's checks


def test_owner_01_count(mu):
    published = estimate(counted_as(mu, ["model.compat=original"]).model, mu.tokenizer.vocab_size)
    assert published.total == 26_946_256
    assert published.groups["affinity"] == 24 * 800_000
    ours = estimate(mu.model, mu.tokenizer.vocab_size)
    assert ours.total == 26_940_112
    assert {name: published.groups[name] - n for name, n in ours.groups.items() if published.groups[name] != n} == {
        "gate": 24 * 256
    }
    small = load_recipe(RECIPE)
    assert estimate(small.model, small.tokenizer.vocab_size).total == 1_004_288


@pytest.mark.parametrize(
    ("part", "tokens", "windows", "batches"),
    [("train", 2_142_080, 8_366, 262), ("val", 231_552, 903, 29)],
)
def test_owner_02_windows_and_batches(mu, tmp_path, part, tokens, windows, batches):
    """On a stream of the length that the document's counts follow from: the data set is not here."""
    folder = mu_stream(tmp_path, part, tokens)
    settings = {"batch": mu.train.batch, "context": mu.model.context, "seed": mu.train.seed, "settings": mu.training}
    found = Loader(folder, part, tokenizer_bytes=None, **settings)
    assert (found.n_rows, found.steps_per_epoch) == (windows, batches)


def test_owner_03_leak():
    """Of mu-small's own shape: a token behind t changes no logit up to t; in the published model it does."""
    config = load_recipe(RECIPE).model
    ids = torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(1))
    for compat, leaks in ((None, False), ("original", True)):
        model = moved(config.model_copy(update={"compat": compat}), 97)
        for place in range(23):
            assert sees_a_later_token(model, ids, place) is leaks, (compat, place)


def test_owner_04_untrained_loss(mu):
    """ln 50,000 = 10.82 in the full shape."""
    model = build(mu.model, 50_000, mu.train.seed).eval()
    ids = torch.randint(0, 50_000, (1, 65), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert float(loss) == pytest.approx(math.log(50_000), abs=0.3)


def test_owner_05_blocks_tile_the_matrix_once(mu):
    blocks = split(torch.arange(64), mu.model)
    assert blocks.shape == (16, 4)
    assert sorted(blocks.flatten().tolist()) == list(range(64))
    assert torch.equal(join(blocks, mu.model), torch.arange(64))
    assert [int(block[0]) for block in blocks] == [16 * row + 2 * column for row in range(4) for column in range(4)]


@pytest.fixture(scope="module")
def five_epochs(tmp_path_factory):
    """(folder of a run by mu's own settings with one layer, on a made-up text; its tokens; its job)."""
    recipe = load_recipe(
        "mu", ["model.n_layers=1", "model.context=32", "train.stride=16", "train.batch=16", "train.lr=3e-2"]
    )
    root = tmp_path_factory.mktemp("mu")
    texts = [" ".join(LINES[(n + k * k) % 4] for k in range(20)) for n in range(12)]
    vocabulary = {"kind": recipe.tokenizer.kind, "vocab_size": 50_000, "cap": True}
    made = make_data(root, {"train": texts[:10], "val": texts[10:11], "test": texts[11:]}, **vocabulary)
    settings = {"device": "cpu", "threads": 1, "compile": "off"}
    job = Job(
        work=root / "work", tokens=Path(made["tokens"]), tokenizer=Path(made["tokenizer"]),
        params=recipe.training.model_copy(update={"micro_batch": 16, "precision": "fp32", "attention": "sdpa"}),
        runtime=recipe.runtime.train.model_copy(update=settings),
    )  # fmt: skip
    train(job)
    return job.work / "out", job.tokens, job


def nats(model, tokens, part, batch, context=32):
    """(sum of the nats, tokens) of all windows of a split, in batches of so many."""
    total, count = 0.0, 0
    with torch.no_grad():
        for rows in sequential(tokens, part, batch, context):
            each = F.cross_entropy(model(rows.ids).flatten(0, 1), rows.targets.flatten().long(), reduction="none")
            total += float((each * rows.loss_mask.flatten()).double().sum())
            count += int(rows.loss_mask.sum())
    return total, count


def test_owner_06_the_best_checkpoint_comes_back_with_its_perplexity(five_epochs, tmp_path):
    out, tokens, _ = five_epochs
    path, _ = write_layout(out, tmp_path)
    found = torch.load(path, weights_only=True)
    looks = pq.read_table(out / "provenance" / "validation.parquet").to_pylist()
    assert found["perplexity"] == pytest.approx(min(math.exp(look["loss"]) for look in looks), rel=1e-12)
    total, count = nats(load(path).model, tokens, "val", 16)
    assert math.exp(total / count) == pytest.approx(found["perplexity"], rel=1e-4)


def test_owner_07_perplexity_is_of_sums_whatever_the_batch(five_epochs):
    out, tokens, _ = five_epochs
    model = load_model(out)
    found = [nats(model, tokens, "val", batch) for batch in (1, 3, 16)]
    assert {count for _, count in found} == {found[0][1]}
    assert [total for total, _ in found] == pytest.approx([found[0][0]] * 3, rel=1e-5)
    scores = score_documents(model, load(out).tokenizer, LINES, context=32)
    assert summarise(scores)["perplexity"] == pytest.approx(math.exp(scores.nll.sum() / scores.n_tokens.sum()))


def test_owner_08_the_samples_of_every_epoch_are_saved_and_change(five_epochs):
    out, _, job = five_epochs
    samples = pq.read_table(out / "provenance" / "samples.parquet").to_pylist()
    steps = sorted({row["step"] for row in samples})
    assert len(steps) == 5
    by_step = {step: [row["text"] for row in samples if row["step"] == step] for step in steps}
    assert all([row["prompt"] for row in samples if row["step"] == step] == list(PROMPTS) for step in steps)
    assert by_step[steps[0]] != by_step[steps[-1]]
    told = [line for line in read_lines(job.work / "progress.jsonl") if line.get("event") == "epoch-looks"]
    assert [line["epoch"] for line in told] == [1, 2, 3, 4, 5]
    looks = [line[part] for line in told for part in ("train", "validation")]
    assert all({"loss", "accuracy", "perplexity"} <= look.keys() for look in looks)
    assert told[-1]["validation"]["loss"] < told[0]["validation"]["loss"]


def test_owner_09_the_learning_rate_peaks_and_ends_near_zero(mu):
    found = rates(mu, STEPS)
    peak = max(range(STEPS), key=found.__getitem__)
    assert found[peak] == pytest.approx(1e-4, rel=1e-5)
    assert peak == pytest.approx(0.3 * STEPS, abs=1)
    assert all(a < b for a, b in pairwise(found[:peak]))
    assert all(a > b for a, b in pairwise(found[peak:]))
    assert found[0] == pytest.approx(1e-4 / 25, rel=1e-3)
    assert found[-1] < 1e-9 + 4e-10
    published = rates(load_recipe("mu", ["train.warmup_steps=1000"]), STEPS)  # as its program has it
    assert published.index(max(published)) / STEPS == pytest.approx(0.763, abs=0.002)


def test_owner_10_a_repeated_token_with_a_negative_logit_becomes_less_likely(mu):
    logits = torch.tensor([-2.0, -2.0, 3.0, 3.0])
    scores = Sampler(mu.evaluate.sampling, prompt=[0, 2]).scores(logits)
    assert scores.tolist() == pytest.approx([-2.4, -2.0, 2.5, 3.0])


def test_owner_11_the_tokenizer_is_for_the_stock_library(five_epochs, tmp_path):
    stock = Tokenizer.from_file(str(write_layout(five_epochs[0], tmp_path)[1]))
    assert [stock.token_to_id(name) for name in ("<PAD>", "<UNK>", "<BOS>", "<EOS>")] == [0, 1, 2, 3]
    for line in LINES:
        back = stock.decode(stock.encode(line).ids)
        assert back.replace(" ,", ",").replace(" .", ".").replace(" ;", ";") == line


@pytest.mark.parametrize("name", ["mu", "mu-small"])
def test_owner_12_a_baseline_of_its_size_beside_it(name):
    ours, plain = load_recipe(name), load_recipe(name.replace("mu", "mu-baseline"))
    sizes = [estimate(recipe.model, recipe.tokenizer.vocab_size).total for recipe in (ours, plain)]
    assert sizes[1] / sizes[0] == pytest.approx(1, abs=0.01)
    assert (plain.model.family, plain.model.context, plain.model.n_layers) == (
        "decoder", ours.model.context, ours.model.n_layers,
    )  # fmt: skip
    for section in ("sources", "measure", "compare", "curate", "tokenizer", "tokens", "train", "evaluate", "runtime"):
        assert getattr(plain, section) == getattr(ours, section), section


@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.float32, None), (torch.bfloat16, None), (torch.float16, LossScale())]
)
def test_owner_13_half_precision_without_nan(dtype, scale):
    """A step of mu-small's shape, on this CPU in each format; fp16 with its loss scale."""
    model = build(load_recipe(RECIPE).model, 4096, 1).train()
    model.stream_dtype = dtype
    torch.manual_seed(0)
    ids = torch.randint(0, 4096, (4, 65))
    loss = F.cross_entropy(model(ids[:, :-1]).float().flatten(0, 1), ids[:, 1:].flatten())
    (loss * (scale.value if scale else 1.0)).backward()
    if scale:
        scale.divide(model.parameters())
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]))
    assert loss.isfinite()
    assert 0 < norm < 10
    assert scale is None or scale.fits(loss.item(), norm)


def test_owner_13_fp16_where_a_gpu_has_no_bf16(mu):
    assert mu.train.precision == "auto"
    assert _choose_precision("auto", {"fp32": 100.0, "fp16": 400.0}, {}) == "fp16"
    assert _choose_precision("auto", {"fp32": 100.0, "bf16": 400.0}, {}) == "bf16"


# --- the small recipe, shortened


@pytest.mark.slow
def test_the_small_recipe_runs_and_is_told(small_run):
    out = small_run.done.out
    assert "release" in out
    assert "1,004,288" in out
    told = small_run.collect("info", RECIPE).out
    for fact in ("family", "affinity", "1,004,288"):
        assert fact in told


@pytest.mark.slow
def test_its_files_are_the_document_s(small_run):
    assert system_of(RECIPE) == "mu"
    done = small_run.collect("export", RECIPE, "--layout", "document", "--output", str(small_run.folder / "files"))
    model, vocabulary = (small_run.folder / "files" / name for name in ("mu_sota_best.pt", "mu_sota_tokenizer.json"))
    assert f"{model.stat().st_size:,} bytes" in done.out
    found = torch.load(model, weights_only=True)
    assert found["config"]["train"]["stride"] == 32
    assert found["perplexity"] < 4096, "better than a guess"
    assert set(found["optimizer_state_dict"])
    stock = Tokenizer.from_file(str(vocabulary))
    assert stock.get_vocab_size() == 4096
    assert "affinity" in small_run.collect("info", "--model", str(model)).out
    said = small_run.collect("generate", "--model", str(model), PROMPTS[0], "--max-tokens", "5").out
    assert said.strip()


@pytest.mark.slow
def test_owner_12_one_table_of_both_on_the_same_text(small_run):
    """Lines 176 to 179: the same tokens, as many steps and parameters, and what each needs a byte of the same text."""
    done = small_run.run("mu-baseline-small")
    assert "1,004,240" in done.out
    assert done.out.count("Reused") >= 5, "collect to tokens"
    assert COMPARED in (DOCS / "systems" / "mu.md").read_text(encoding="utf-8")
    rows = {row.recipe: row for row in asked(small_run, COMPARED)}
    assert {name: int(row.parameters) for name, row in rows.items()} == {
        "mu-small": 1_004_288, "mu-baseline-small": 1_004_240,
    }  # fmt: skip
    ours, plain = rows["mu-small"], rows["mu-baseline-small"]
    for same in ("steps", "tokens_learnt", "learnt_from", "held_out", "bytes"):
        assert getattr(ours, same) == getattr(plain, same), same
    assert int(ours.steps) == 20
    assert int(ours.held_out) > 0
    for row in rows.values():
        assert 0 < float(row.low) <= float(row.bits_per_byte) <= float(row.high)
    assert ours.bits_per_byte != plain.bits_per_byte


@pytest.mark.slow
def test_the_commands_of_its_document(small_run):
    for command in commands("MU-SOTA"):
        small_run.type(command)
