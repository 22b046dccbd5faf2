"""LAi as recipes: the settings of its guide, the checks of a sceptical owner, and the trial size run to its release.

`test_owner_N_...` are the numbered checks of LAi's fact sheet.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_systems import DOCS, asked, commands
from lai_made import HELLO, lai_model, lai_tokenizer
from lai_numpy import LAi, read_vocab
from talker_made import TEXTS, talker_folder

from lmcore.collect.hub_params import HubSource
from lmcore.collect.synthetic.generate import generated
from lmcore.curate.line_stats import MIN_UNIQUE, LineStats
from lmcore.export.check import greedy_continuation
from lmcore.export.lai import SIZES, write_lai
from lmcore.export.lai_format import DType
from lmcore.export.lai_reader import read_lai
from lmcore.export.lai_tensors import header_of
from lmcore.generate.load import load
from lmcore.models import build, estimate
from lmcore.recipe import load_recipe, packaged_recipes
from lmcore.tokenizer.char_bpe import CharBPE
from lmcore.tokenizer.chat_tags import TAGS
from lmcore.tokens import Loader
from lmcore.tokens.meta import read_meta
from lmcore.train import machine, plan
from lmcore.train.horizon import make_horizon, warmup_share
from lmcore.train.params import TrainParams
from lmcore.train.schedule import lr_share
from storage.errors import UserError
from storage.store import Store

RECIPE = "lai-small"
MADE_AND_REAL = """WITH latest AS
(SELECT max_by(model_key, number) AS model FROM releases WHERE recipe = 'lai-synthetic-small'),
made AS (SELECT m.* FROM metrics m JOIN latest ON m.artifact = latest.model)
SELECT 'made texts, learnt' AS texts, avg(loss) AS nats_a_token, avg(bits_per_byte) AS bits_per_byte FROM made
WHERE step > (SELECT 0.9 * max(step) FROM made)
UNION ALL SELECT name || ', held out', ln(perplexity), bits_per_byte FROM evaluation_groups JOIN latest USING (model)
WHERE grouping = 'source' ORDER BY bits_per_byte"""
FULL = ("lai", "lai-mini", "lai-768")
ODD_TEXTS = (
    "árvíztűrő tükörfúrógép",
    "😀👨‍👩‍👧",
    "a\u0301rvi\u0301ztu\u030bro\u030b",
    "\x00\x7f\x80\ufffd",
    "<0xFF><user>",
)


def source(recipe, name):
    return next(source for source in load_recipe(recipe).sources if source.name == name)


# Settings of the guide


@pytest.mark.parametrize("name", [*FULL, "lai-data-tiny", "lai-data-medium", "lai-data-large", "lai-synthetic"])
def test_training_is_the_guide_s(name):
    train = load_recipe(name).train
    assert (train.epochs, train.batch, train.lr, train.warmup_steps) == (10, 32, 3e-4, 100)
    assert (train.schedule, train.final_lr_share, train.grad_clip) == ("cosine", 0.1, 1.0)
    assert (train.optimizer, train.betas, train.weight_decay, train.decays) == ("adamw", (0.9, 0.95), 0.1, "all")


@pytest.mark.parametrize(("name", "size", "inner", "context"), [
    ("lai", "tiny", 1536, 512), ("lai-mini", "mini", 2048, 1024), ("lai-768", "small", 3072, 2048),
])  # fmt: skip
def test_shapes_are_the_guide_s(name, size, inner, context):
    recipe = load_recipe(name)
    model = recipe.model
    assert (model.n_layers, model.d_model, model.n_heads) == SIZES[size]
    assert (model.ff_width, model.context, model.head_width, model.norm_eps) == (inner, context, 64, 1e-5)
    assert (model.norm, model.mlp, model.position, model.rope_theta) == ("rms", "swiglu", "rope", 10_000)
    assert (model.qk_norm, model.bias, model.dropout, model.tie_embeddings) == (False, False, 0, True)
    assert recipe.tokenizer.vocab_size == (8_000 if name == "lai" else 32_000)
    assert (recipe.tokenizer.kind, recipe.tokenizer.chat_tags, recipe.tokenizer.max_token_length) == (
        "char_bpe", True, 20,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "rows"), [
    ("lai-data-tiny", (1_000, 1_000, 5_000, 1_000)), ("lai", (5_000, 5_000, 20_000, 5_000)),
    ("lai-data-medium", (20_000, 20_000, 50_000, 10_000)), ("lai-data-large", (50_000, 50_000, 100_000, 20_000)),
])  # fmt: skip
def test_data_presets_are_those_of_data_py(name, rows):
    hub = [made for made in load_recipe(name).sources if isinstance(made, HubSource)]
    assert [made.name for made in hub] == ["wiki-hu", "web-hu", "stories-en", "pairs"]
    assert tuple(made.max_rows for made in hub) == rows
    same = [made.model_dump(exclude={"max_rows"}) for made in load_recipe("lai").sources if isinstance(made, HubSource)]
    assert [made.model_dump(exclude={"max_rows"}) for made in hub] == same
    assert (hub[-1].directions, hub[-1].template) == ("both", "tags")


def test_every_claim_names_its_place_and_the_impossible_ones_are_itemised():
    for name in (*FULL, "lai-synthetic", RECIPE, "lai-synthetic-small"):
        assert all(claim.source.startswith(("line", "train.py", "ours: ")) for claim in load_recipe(name).expect)
    for name in FULL:
        claims = {claim.metric: claim for claim in load_recipe(name).expect}
        assert claims["parameters"].differences
        assert claims["file_bytes"].differences


def test_the_trial_size_is_lai_with_less_of_everything():
    small, full = load_recipe(RECIPE), load_recipe("lai")
    assert small.model.ff_width / small.model.d_model == full.model.ff_width / full.model.d_model == 4
    assert small.model.head_width == full.model.head_width
    changed = {"steps", "epochs", "batch", "lr", "warmup", "warmup_steps"}
    assert small.train.model_dump(exclude=changed) == full.train.model_dump(exclude=changed)
    assert small.train.warmup * small.train.steps == full.train.warmup_steps
    assert {made.kind for made in small.sources} == {"books", "parallel", "synthetic"}
    written = packaged_recipes()[RECIPE].read_text(encoding="utf-8")
    assert written.count("paths: ") == written.count('paths: ["samples:') == 2


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
@pytest.mark.parametrize("name", FULL)
def test_devices_resolve_or_say_what_there_is(name, device):
    """Lines 81 to 87: what this machine has is planned as set, what it lacks is one clear error."""
    runtime = load_recipe(name, [f"runtime.train.device={device}"]).runtime.train
    reasons: dict[str, str] = {}
    if device in machine.devices():
        assert plan._choose_device(runtime.device, reasons) == device
        assert reasons == {"device": "as set"}
    else:
        with pytest.raises(UserError, match=f"device is {device}, which this machine does not have"):
            plan._choose_device(runtime.device, reasons)
    assert plan._choose_device("auto", reasons) == machine.devices()[0]


# Checks of a sceptical owner


def test_owner_1_vocab_bin():
    tokenizer = CharBPE.train(
        lambda: [HELLO + "Szia!</assistant>\nárvíztűrő"] * 3,
        vocab_size=360, split=None, min_frequency=2, max_token_length=20, chat_tags=True,
    )  # fmt: skip
    content = tokenizer.files()["vocab.bin"]
    assert struct.unpack("I", content[8:12])[0] == tokenizer.vocab_size
    tokens, _, end = read_vocab(content)
    assert end == len(content)
    assert tokens[:4] == [b"<pad>", b"<bos>", b"<eos>", b"<unk>"]
    assert tokens[4:260] == [bytes([byte]) for byte in range(256)]
    assert tokens[260:266] == [tag.encode() for tag in TAGS]
    assert max(len(token.decode()) for token in tokens[260:]) <= 20


def test_owner_2_25_000_examples_over_60_percent_unique_782_steps():
    made = source("lai", "templates")
    assert made == source("lai-synthetic", "templates")
    assert (made.sentences, made.stories, made.translations, made.instructions) == (10_000, 5_000, 3_000, 2_000)
    records = list(generated(made, {}))
    assert len(records) == 25_000
    stats = LineStats()
    for record in records:
        stats.add(record.text.split("\n"))
    assert stats.total == 25_000, "each is one line"
    assert stats.share > 0.99 > MIN_UNIQUE
    assert Counter(record.kind for record in records) == {"prose": 15_000, "pair": 6_000, "instruction": 4_000}
    assert math.ceil(len(records) / load_recipe("lai").train.batch) == 782


def test_owner_2_a_row_is_a_text_in_the_quick_start():
    recipe = load_recipe("lai-synthetic")
    assert recipe.train.packing == "texts"
    assert [claim.range for claim in recipe.expect if claim.metric == "steps_per_epoch"] == [(782, 782)]
    assert not any(weight for name, weight in recipe.curate.mix.sources.items())
    assert {made.name for made in recipe.sources} - recipe.curate.mix.sources.keys() == {"templates"}


def test_owner_3_parameters_and_file_sizes():
    def counted(name, *overrides):
        recipe = load_recipe(name, overrides)
        vocabulary = recipe.tokenizer.vocab_size
        return estimate(recipe.model, vocabulary).total, header_of(recipe.model, vocabulary).file_bytes

    assert counted("lai") == (21_952_896, 100_099_840)
    parameters, file_bytes = counted("lai", "tokenizer.vocab_size=1409")
    assert (parameters, f"{file_bytes / 1e6:.1f}") == (19_421_952, "79.9")
    assert counted("lai-mini", "model.tie_embeddings=false")[0] == 83_112_448
    assert counted("lai-mini")[0] == 66_728_448
    assert counted("lai-768", "model.tie_embeddings=false")[0] == 200_172_288
    assert counted("lai-768")[0] == 175_596_288


def test_owner_4_learning_rate():
    train = load_recipe("lai").train
    params = TrainParams(**{"steps": 7820, "model": load_recipe("lai").model} | {
        name: getattr(train, name) for name in ("warmup_steps", "schedule", "final_lr_share", "lr")
    })  # fmt: skip
    warmup = warmup_share(params, make_horizon(params, 1, 1))

    def rate(step):
        return params.lr * lr_share(step / 7820, params.schedule, warmup=warmup, final=params.final_lr_share)

    assert rate(1) == pytest.approx(3e-6)  # LAi steps its schedule before it prints "step 0"
    assert rate(100) == pytest.approx(3e-4)
    assert rate(7820) == pytest.approx(3e-5)
    for step in (500, 3000, 7000):  # 0.1 + 0.9 (1 + cos pi p) / 2
        p = (step - 100) / 7720
        assert rate(step) == pytest.approx(3e-4 * (0.1 + 0.9 * (1 + math.cos(math.pi * p)) / 2))


@pytest.mark.parametrize("vocab_size", [1409, 8000])
def test_owner_4_first_loss_is_ln_v(vocab_size):
    recipe = load_recipe("lai", ["model.n_layers=2"])  # ours begin as the identity: layers do not count
    model = build(recipe.model, vocab_size, recipe.train.seed)
    ids = torch.randint(0, vocab_size, (2, 65), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(float(loss) - math.log(vocab_size)) < 0.3


@pytest.fixture(scope="module")
def tagged():
    """A tokenizer that knows the tags."""
    texts = [HELLO + "Szia, hogy vagy?</assistant>", "A kutya a kertben van, és árvíztűrő tükörfúrógép."] * 3
    return CharBPE.train(
        lambda: texts, vocab_size=400, split=None, min_frequency=2, max_token_length=20, chat_tags=True
    )


def test_owner_5_an_independent_reader_agrees(tagged, tmp_path):
    model = lai_model(tagged.vocab_size)
    header = write_lai(tmp_path / "lai.bin", model, tagged)
    content = (tmp_path / "lai.bin").read_bytes()
    assert len(content) == header.file_bytes
    assert content[65:256] == bytes(191)
    copy = LAi(tmp_path / "lai.bin")
    ids = [tagged.bos_id, *tagged.encode(HELLO)]
    with torch.inference_mode():
        wanted = model(torch.tensor([ids]))[0].double().numpy()
    assert np.abs(copy.logits(ids) - wanted).max() < 1e-4
    assert copy.greedy(ids[:12], 50) == greedy_continuation(model, ids[:12], 50)


@pytest.mark.parametrize(("dtype", "most"), [(DType.Q8_0, 0.01), (DType.Q4_0, 0.15)])
def test_owner_5_quantised_files_tell_their_error(tagged, tmp_path, dtype, most):
    from lmcore.export.lai_error import quantisation_error

    model = lai_model(tagged.vocab_size)
    write_lai(tmp_path / "q.bin", model, tagged, dtype)
    assert read_lai(tmp_path / "q.bin").tokenizer.tags == tagged.tags
    report = quantisation_error(model, dtype, tokenizer=tagged, texts=["A kutya a kertben van."])
    assert 0 < report["relative_error"] < most


@pytest.mark.parametrize("text", ODD_TEXTS)
@pytest.mark.parametrize("tags", [True, False])
def test_owner_6_every_text_comes_back(tagged, text, tags):
    tokenizer = tagged if tags else lai_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_owner_6_invalid_bytes_are_one_error(tagged):
    with pytest.raises(UserError, match="lone surrogate"):
        tagged.encode(b"\xff\xfe".decode(errors="surrogateescape"))


def test_owner_7_a_model_of_this_vocabulary_is_asked_in_tags(tagged, tmp_path):
    write_lai(tmp_path / "lai.bin", lai_model(tagged.vocab_size), tagged)
    loaded = load(tmp_path / "lai.bin")
    assert loaded.form == "tags"
    ids = loaded.prompt_ids([{"role": "user", "content": "Hello, how are you?"}])
    assert ids[-1] == tagged.tags["<assistant>"]
    assert tagged.decode(ids).removeprefix("<bos>") == "<user>Hello, how are you?</user><assistant>"
    first, again = (loaded.chat([{"role": "user", "content": "Hello"}], max_tokens=12, seed=0) for _ in range(2))
    assert first == again
    assert loaded.info()["file"]["header"]["layers"] == 3


def test_owner_7_answers_and_translations_end_at_their_tag(tmp_path):
    """A model that knows a few conversations by heart, with this vocabulary."""
    tokenizer = CharBPE.train(
        lambda: TEXTS * 4, vocab_size=400, split=None, min_frequency=2, max_token_length=20, chat_tags=True
    )
    talker = load(talker_folder(tmp_path, tokenizer=tokenizer))
    assert talker.form == "tags"
    assert talker.chat([{"role": "user", "content": "Hello"}], temperature=0) == "Szia!"
    for text, to, wanted in (("apple", "hu", "alma"), ("alma", "en", "apple")):
        pieces = talker.stream_translation(text, to, temperature=0)
        ended = []

        def told(pieces=pieces, ended=ended):
            ended.append((yield from pieces))

        said = "".join(told())
        assert (said, ended[0].finish_reason) == (wanted, "stop")


# The trial size, run to its release


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_small_run_learns_the_tags_and_both_sides_of_a_pair(small_run):
    (meta,) = small_run.store.glob("tokens/*/meta.json")
    facts = json.loads(meta.read_text())
    assert facts["sources"] == ["novels-en", "pairs", "templates"]
    assert not facts["splits"]["train"]["masks"], "every token is learnt"
    (vocabulary,) = small_run.store.glob("tokenizer/*/vocab.bin")
    tokens, _, end = read_vocab(vocabulary.read_bytes())
    assert [token.decode() for token in tokens[260:266]] == list(TAGS)
    assert end == vocabulary.stat().st_size


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_small_run_exports_and_talks(small_run):
    out = small_run.folder / "lai"
    told = small_run.collect(
        "export", RECIPE, "--layout", "document", "--output", str(out), "--quantise", "q8_0", "--quantise", "q4_0"
    ).out
    model = out / "models" / "lai-tiny.bin"
    assert (out / "data" / "vocab.bin").exists()
    assert f"{model.stat().st_size:,}" in told
    losses = [json.loads(path.read_text()) for path in sorted((out / "models").glob("*-q*.json"))]
    assert [round(loss["relative_error"], 1) for loss in losses] == [0.1, 0.0]
    info = small_run.collect("info", "--model", str(model)).out
    assert "LAi1" in info
    assert "<user>message</user><assistant>" in info
    for to, text in (("hu", "Good morning"), ("en", "Jó reggelt")):
        said = small_run.collect("generate", "--model", str(model), "--translate", text, "--to", to, "--seed", "0")
        again = small_run.collect("generate", "--model", str(model), "--translate", text, "--to", to, "--seed", "0")
        assert said.out == again.out
    ours, theirs = load(next(small_run.store.glob("train/*"))), LAi(model)
    ids = ours.prompt_ids([{"role": "user", "content": "Szia!"}])
    with torch.inference_mode():
        wanted = ours.model(torch.tensor([ids]))[0].double().numpy()
    assert np.abs(theirs.logits(ids) - wanted).max() < 1e-4


def evaluation_of(run, recipe):
    """What the newest release of a recipe was found to be worth."""
    query = f"""SELECT e.artifact FROM releases r JOIN evaluations e ON e.model = r.model_key
        WHERE e.headline AND r.recipe = '{recipe}' ORDER BY r.number DESC LIMIT 1"""
    (row,) = asked(run, query)
    return json.loads((run.store / "evaluate" / row.artifact / "evaluation.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_small_run_translates_held_out_pairs_both_ways(small_run):
    """Line 55. That both figures stand there, each beside that of the text as it was; 20 steps translate nothing."""
    found, settings = evaluation_of(small_run, RECIPE), load_recipe(RECIPE).evaluate
    translation = found["probes"]["translation"]
    assert (translation["form"], translation["metric"]) == ("tags", "chrF2, sacrebleu")
    assert list(translation["directions"]) == ["Translate English to Hungarian.", "Translate Hungarian to English."]
    held_out = asked(small_run, "SELECT record_id, turns FROM curated WHERE split = 'test' AND kind = 'pair'")
    assert len(held_out) > 2 * settings.translation.pairs
    made = "SELECT count(*) AS n FROM curated WHERE split <> 'train' AND source = 'templates'"
    assert asked(small_run, made)[0].n == "0"
    for direction, one in translation["directions"].items():
        assert one["pairs"] == settings.translation.pairs == 25
        assert 0 <= one["chrf"] <= 100
        assert 0 < one["copied"] < 100, "help says OK and Ctrl in both languages"
        assert [row.keys() >= {"source", "reference", "answer"} for row in one["examples"]] == [True] * 5
        (told,) = (line for line in small_run.done.out.splitlines() if direction in line and "│" in line)
        assert [cell.strip() for cell in told.strip("│ ").split("│")[1:4]] == [
            "25", f"{one['chrf']:.1f}", f"{one['copied']:.1f}",
        ]  # fmt: skip
    assert [baseline["name"].split()[0] for baseline in found["baselines"]] == ["gzip", "xz", "n-gram"]
    assert all(
        isinstance(baseline["beaten"], bool) and baseline["bits_per_byte"] > 0 for baseline in found["baselines"]
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_owner_2_the_25_000_come_through_to_782_batches(small_run):
    """Made, measured, curated and cut by the recipe itself: no made text is lost on the way, each has a row."""
    recipe = load_recipe("lai-synthetic")
    told = small_run.collect("run", "lai-synthetic", "--until", "tokens").out
    tokens = Store(small_run.store).resolve("tokens").local()
    assert read_meta(tokens).splits["train"].documents == 25_000
    loader = Loader(
        tokens, "train", batch=recipe.train.batch, context=recipe.model.context, seed=recipe.train.seed,
        tokenizer_bytes=None, settings=recipe.training,
    )  # fmt: skip
    assert (loader.n_rows, loader.steps_per_epoch) == (25_000, 782)
    assert 781 * recipe.train.batch < 25_000 < 782 * recipe.train.batch
    last = loader.batch(781)
    assert last.ids.shape[0] == recipe.train.batch
    assert "782" in told


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_owner_8_the_small_run_tells_held_out_text(small_run):
    assert "held-out test pages" in small_run.done.out
    assert set(evaluation_of(small_run, RECIPE)["groups"]["lang"]) >= {"hu", "en"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_owner_8_made_texts_that_are_learnt_beside_real_ones_that_are_not(small_run):
    """In one table, and on one page: the loss of training is of made texts alone, all held-out text is real."""
    out = small_run.run("lai-synthetic-small").out
    table = {row.texts: float(row.bits_per_byte) for row in asked(small_run, MADE_AND_REAL)}
    groups = evaluation_of(small_run, "lai-synthetic-small")["groups"]["source"]
    assert table.keys() == {"made texts, learnt", "help-hu, held out", "novels-en, held out"}
    for name, figures in groups.items():
        assert table[f"{name}, held out"] == pytest.approx(figures["bits_per_byte"])
    assert MADE_AND_REAL in (DOCS / "systems" / "lai.md").read_text(encoding="utf-8")
    page = Path(re.search(r"report:\s+(\S+report\.html)", out)[1]).read_text(encoding="utf-8")
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert re.search(r"train loss end at most 1\.0000 \d+\.\d+ not comparable ", words), "of made texts alone"
    for name, figures in groups.items():
        assert f"source: {name} {figures['bits_per_byte']:.3f} " in words
    (tokens,) = asked(
        small_run,
        "SELECT count(DISTINCT c.source) AS sources, any_value(c.source) AS source FROM curated c JOIN lineage l "
        "ON l.input_key = c.artifact JOIN lineage t ON t.input_key = l.key JOIN releases r ON r.model_key = t.key "
        "WHERE l.stage = 'tokens' AND t.stage = 'train' AND c.split = 'train' AND r.recipe = 'lai-synthetic-small'",
    )
    assert (tokens.sources, tokens.source) == ("1", "templates")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_guide_s_commands(small_run):
    for command in commands("LAi"):
        small_run.type(command)
