"""SOMA: the settings of its document by value, and what a sceptical owner would run, on its own recipes and shape."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from helpers_systems import commands
from model_checks import check_gradients, next_token_loss, random_ids

from lmcore.collect.params import CollectRuntime
from lmcore.collect.source import collect
from lmcore.curate.rule_sets import packaged_rules
from lmcore.curate.signals import signals
from lmcore.generate.engine import generate
from lmcore.generate.sampler import Sampler
from lmcore.models import build, estimate, load_model, save_model
from lmcore.progress import silent
from lmcore.recipe import load_recipe
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens.stream import TokenStream
from lmcore.train.horizon import make_horizon, warmup_share
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from lmcore.train.schedule import lr_share
from storage.digest import digest_file
from storage.errors import RunError

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from helpers_texts import make_data

RECIPE = "soma-small"
VARIANTS = ("soma", "soma-67m", "soma-standard", "soma-small", "soma-finetune", "soma-finetune-small")
TINY = (
    "model.n_layers=2",
    "model.d_model=32",
    "model.n_heads=4",
    "model.d_ff=128",
    "tokenizer.vocab_size=400",
    "evaluate.positions=[8]",
)
NAMES, SIGNS = ("Aki", "Ren", "Yui", "Mio"), "空海山川雪花火風鳥月星雲雨石竹光"
LINES = [  # dialogue with all that the document's own tokenizer drops
    f"HERO: {count} times, {name}… not once more!\n「{sign}だ！」と彼は言った。 — {name}-san?! 🎌\n"
    f"{name.upper()}: “Wait—” (she ran to the {sign}) …and {name}, who had seen it {count} times, said: «{sign}!?»"
    for count, (name, sign) in enumerate(product(NAMES, SIGNS))
]


def shape(*settings, recipe="soma"):
    return load_recipe(recipe, settings).model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tokens and a byte-level vocabulary of 64 lines of dialogue, all of them also for validation."""
    return make_data(
        tmp_path_factory.mktemp("lines"),
        {"train": LINES, "val": LINES[:8], "test": LINES[:2]},
        vocab_size=400,
        cap=True,
    )


@pytest.fixture
def job(data, tmp_path):
    """A job with soma's training and shape, narrow, on those lines."""

    return lambda work, *settings: made_job(data, tmp_path / work, *settings)


@pytest.fixture(scope="module")
def learnt(data, tmp_path_factory):
    """The folder of a model that soma's own training has taught those lines by heart."""
    wide = (
        "model.d_model=64",
        "model.d_ff=256",
        "model.context=128",
        "train.steps=250",
        "train.lr=5e-3",
        "train.packing=best_fit",
    )
    learning = made_job(data, tmp_path_factory.mktemp("learnt"), *wide)
    train(learning)
    return learning.work / "out"


def made_job(data, work, *settings):
    """soma's training and shape, narrow, on the lines."""
    recipe = load_recipe("soma", [*TINY, "model.context=32", "train.steps=30", "train.lr=3e-3", *settings])
    runtime = {"device": "cpu", "threads": 1, "compile": "off", "sample_tokens": 5, "validation_tokens": 500}
    params = recipe.training.model_dump(mode="json") | {"precision": "fp32", "micro_batch": 8, "attention": "sdpa"}
    return Job.model_validate({"work": str(work), **data, "params": params, "runtime": runtime})


def content(job):
    """sha256 of the files of an artifact but those of provenance."""
    out = job.work / "out"
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(p.relative_to(out)): digest_file(p) for p in files if p.relative_to(out).parts[0] != "provenance"}


# The settings of the document.


def test_the_settings_are_the_documents():
    recipe = load_recipe("soma")
    train, model = recipe.train, recipe.model
    assert (train.epochs, train.batch, train.lr, train.warmup, train.schedule) == (30, 8, 3e-4, 0.1, "cosine")
    assert train.lr * train.final_lr_share == pytest.approx(1.5e-5)
    assert recipe.tokenizer.vocab_size == 32_000
    assert recipe.tokenizer.kind == "byte_bpe"
    assert (model.d_model, model.n_layers, model.n_heads, model.d_ff, model.context) == (1024, 16, 16, 4096, 2048)
    assert (model.norm, model.norm_placement, model.norm_affine, model.norm_eps) == ("layer", "post", False, 1e-6)
    assert (model.position, model.mlp, model.mlp_bias, model.bias) == ("learned", "relu", True, False)
    assert not model.tie_embeddings


def test_the_sampler_is_set_as_its_fluency_enhancer():
    sampling = load_recipe("soma").evaluate.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.7, 0.95, 50, 100)
    assert (sampling.repetition_penalty, sampling.repetition_window) == (1.15, 20)
    assert (sampling.no_repeat_ngram, sampling.no_repeat_factor) == (3, 0.5)


def test_the_gates_are_its_own_trainers():
    recipe = load_recipe("soma")
    gates, runtime = recipe.curate.gates, recipe.runtime.train
    assert (gates.min_train_bytes, gates.min_sentences, gates.min_mean_sentence_chars) == (524_288, 500, 30)
    assert gates.min_unique_word_ratio == 0.05
    assert (runtime.min_tokens, runtime.min_batches) == (100_000, 100)


def test_the_fine_tune_starts_from_the_release_and_replays_a_quarter():
    for name, start in (("soma-finetune", "soma"), ("soma-finetune-small", "soma-small")):
        recipe = load_recipe(name)
        assert recipe.train.init_from == start
        assert recipe.model == load_recipe(start).model
        mixture = recipe.train.mixture
        replayed = mixture["books"] + mixture["chats"] + mixture["general"]
        assert replayed / sum(mixture.values()) == pytest.approx(0.25)
        assert recipe.evaluate.before
        assert (recipe.tokens.learn_roles, recipe.tokens.only_roles_of) == (("HAMLET",), ("lines",))


def test_what_looks_like_tokens_is_dropped():
    """Its gate against the output of a tokenizer ("word", digits, more than five fields a line), as rules of ours."""
    dump = "\n".join(f"word {n} {n + 1} 0.{n} 12 99 {n * 7} 3" for n in range(60))
    line = LINES[0].partition("\n")[0] + " She looked at the mountain, and said that she would climb it alone. "
    digits, words = (
        signals([dump, line * 5], ["en", "en"], ["prose", "prose"])[name]
        for name in ("digit_share", "alpha_word_share")
    )
    limits = {rule.name: rule.limit for rule in packaged_rules()}
    assert digits[0] > limits["max_digits"] > digits[1]
    assert words[0] < limits["min_alpha_words"] < words[1]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_recipe_is_read_and_every_claim_says_where_it_stands(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert all(row.source.startswith(("line ", "gate ", "ours: ")) for row in recipe.expect)
    assert recipe.expect


def test_small_recipes_need_no_internet():
    for name in VARIANTS:
        if name.endswith("-small"):
            assert not [url for source in load_recipe(name).sources for url in source.asks]


# What a sceptical owner would run, in the order of the list.


@pytest.mark.parametrize(
    ("recipe", "settings", "count"),
    [
        ("soma", (), 269_041_664),
        ("soma", ("model.tie_embeddings=true",), 236_273_664),
        ("soma-67m", (), 67_805_184),
        ("soma-standard", (), 5_329_920),
        ("soma-standard", ("model.tie_embeddings=false",), 7_377_920),
    ],
)
def test_owner_01_counts(recipe, settings, count):
    loaded = load_recipe(recipe, settings)
    assert estimate(loaded.model, loaded.tokenizer.vocab_size).total == count


def test_owner_02_lr_log(job):
    recipe = load_recipe("soma")
    horizon = make_horizon(recipe.train, 8 * 2048, 1000)
    assert horizon.steps == 30_000
    how = {"warmup": warmup_share(recipe.train, horizon), "final": recipe.train.final_lr_share}

    def rate(progress):
        return recipe.train.lr * lr_share(progress, recipe.train.schedule, **how)

    rates = [rate(horizon.middle(step, 0.0)) for step in range(horizon.steps)]
    assert rates[0] == pytest.approx(5e-8)
    assert rate(3_000 / 30_000) == 3e-4, "exactly, at the end of the warm-up"
    assert max(rates) <= 3e-4
    assert rates.index(max(rates)) in (2_999, 3_000)
    assert rates[-1] == pytest.approx(1.5e-5, rel=1e-6)
    short = job("lr", "train.lr=3e-4")
    train(short)
    logged = pq.read_table(short.work / "out" / "metrics.parquet")["lr"].to_pylist()
    assert logged == pytest.approx([rate((step + 0.5) / 30) for step in range(30)])


def test_owner_03_layers_differ():
    """The original seeds every block with 42, so that all of its layers begin alike."""
    model = build(shape(*TINY, "model.n_layers=16"), 400, seed=1)
    hashes = [
        hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in block.parameters() if p.any())).hexdigest()
        for block in model.blocks
    ]
    assert len(set(hashes)) == 16


def test_owner_03_every_tensor_learns():
    """After 100 steps q, k, v and o too have changed: the original moves these by noise."""
    config = shape(*TINY, "model.context=32")
    model = build(config, 400, seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    first = last = 0.0
    ids = torch.randint(0, 400, (8, 33), generator=generator)
    for step in range(100):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        first, last = (loss.item() if step == 0 else first), loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert last < 0.8 * first
    for name, parameter in model.named_parameters():
        if name.endswith("qkv.weight"):
            parts = zip(parameter.chunk(3), before[name].chunk(3), strict=True)
            assert all((new != old).all() for new, old in parts), name
        assert not torch.equal(parameter, before[name]), name


def test_owner_03_gradients():
    """Those of finite differences, tensor by tensor, within a thousandth."""
    model = build(shape(*TINY, "model.context=16"), 400, seed=1).double()
    model.stream_dtype = torch.float64
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.05)
    ids = random_ids(400, 2, 13)
    check_gradients(model, lambda: next_token_loss(model, ids))


@pytest.mark.slow
def test_owner_04_overfit(learnt):
    """64 lines by heart, through the real trainer."""
    losses = pq.read_table(learnt / "metrics.parquet")["loss"].to_pylist()
    assert len(LINES) == 64
    assert sum(losses[-5:]) / 5 < 0.1


def test_owner_04_resume(job):
    """Stopped after step 11 and started again: the same files, to the bit."""
    straight, stopped = job("straight"), job("stopped")
    train(straight)
    calls = iter([False] * 11 + [True])
    with pytest.raises(Stopped):
        train(stopped, stopped=lambda: next(calls))
    train(stopped)
    assert content(straight) == content(stopped)


def test_owner_05_long_context():
    """At its full length: the second token is seen at place 2,047, and no token is seen before its own place."""
    config = shape("model.n_layers=2", "model.d_model=32", "model.n_heads=4", "model.d_ff=128")
    assert config.context == 2048
    model = build(config, 400, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
        ids = torch.randint(0, 400, (1, 2048), generator=generator)
        other = ids.clone()
        other[0, 1] = (other[0, 1] + 1) % 400
        one, two = model(ids)[0], model(other)[0]
        assert torch.equal(one[:1], two[:1])
        assert not torch.equal(one[2047], two[2047])
        late = ids.clone()
        late[0, 1500] = (late[0, 1500] + 1) % 400
        three = model(late)[0]
    assert torch.equal(one[:1500], three[:1500])
    assert not torch.equal(one[2047], three[2047])


def test_owner_06_round_trip(data):
    tokenizer = load_tokenizer(Path(data["tokenizer"]))
    hard = [
        "“Don’t!” she cried… ‘too late’?!",
        "「待て！」と叫んだ——",
        "ﾊﾝｶｸ カタカナ 漢字",
        "Señor-sama 🏯👩‍🎤\n\t  end",
        "A\u0301 ｡",
    ]
    for text in [*LINES, *hard]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_owner_07_collector(tmp_path):
    """A folder of txt, srt and epub, as `own-books` and `own-subtitles` read it."""
    (tmp_path / "a.txt").write_text("It was late. " * 30, encoding="utf-8")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,000\n<i>AKI: Wait!</i>\n\n2\n00:00:02,500 --> 00:00:04,000\n{\\an8}♪ la la ♪\n\n"
        "3\n00:00:05,000 --> 00:00:06,000\nREN: [sighs] No.\n",
        encoding="utf-8",
    )
    with zipfile.ZipFile(tmp_path / "c.epub", "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles><rootfile '
            'full-path="p.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        )
        book.writestr(
            "p.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Tale</dc:title><dc:language>en</dc:language>'
            '</metadata><manifest><item id="x" href="x.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="x"/></spine></package>',
        )
        text = "The castle stood empty. " * 10
        book.writestr(
            "x.xhtml", f'<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>One</h1><p>{text}</p></body></html>'
        )
    sources = {source.name: source for source in load_recipe("soma").sources}
    found = {}
    for name in ("own-books", "own-subtitles"):
        local = tuple(path for path in sources[name].paths if not path.startswith("http"))
        source = sources[name].model_copy(update={"base": str(tmp_path), "paths": local})
        found[name] = collected(tmp_path / "work" / name, source)
    assert sorted(found["own-books"]) == ["file:a.txt", "file:c.epub#x.xhtml"]
    assert found["own-books"]["file:c.epub#x.xhtml"].startswith("One")
    assert found["own-subtitles"] == {"file:deep/b.srt#1.000": "AKI: Wait!\nla la\nREN: No."}


def test_owner_07_nothing_found_is_an_error(tmp_path):
    """Never "0 examples ... [OK]"."""
    books = next(source for source in load_recipe("soma").sources if source.name == "own-books")
    empty = books.model_copy(update={"base": str(tmp_path), "paths": ("**/*.txt",)})
    with pytest.raises(RunError, match="no file matches") as told:
        collected(tmp_path / "work", empty)
    assert told.value.exit_code == 1
    (tmp_path / "blank.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(RunError, match="no record in 1 files"):
        collected(tmp_path / "again", empty)


def collected(work, source):
    """The texts of a source by their names."""
    collect(
        work, edition="one", parent=None, parent_digest=None, locate=lambda _: None, params=source,
        runtime=CollectRuntime(), report=silent, articles=(),
    )  # fmt: skip
    tables = [pq.read_table(path) for path in sorted((work / "out" / "documents").glob("*.parquet"))]
    return {row["url"]: row["text"] for table in tables for row in table.to_pylist()}


def test_owner_08_generation(data):
    """100 tokens of "The hero" as soma samples: no special token, hardly a repeated 3-gram."""
    tokenizer = load_tokenizer(Path(data["tokenizer"]))
    model = build(shape(*TINY, "model.context=256"), tokenizer.vocab_size, seed=1)
    sampling = load_recipe("soma").evaluate.sampling
    found = [generate(model, tokenizer, "The hero", sampling.model_copy(update={"seed": n})) for n in range(5)]
    assert not [special for special in tokenizer.specials for one in found if special in one.text]
    assert sum(repeated(one.ids) for one in found) / 5 < 0.1


@pytest.mark.slow
def test_owner_08_it_stops_at_the_end_of_the_text(learnt):
    """The original masks the end, so it never stops early."""
    sampling = load_recipe("soma").evaluate.sampling.model_copy(update={"max_tokens": 500, "temperature": 0.0})
    stopped = generate(load_model(learnt), load_tokenizer(learnt), LINES[20][:30], sampling)
    assert stopped.finish_reason == "end"
    assert len(stopped.ids) < 120


def repeated(ids):
    """Share of the 3-grams that stood in the text before."""
    grams = list(zip(ids, ids[1:], ids[2:], strict=False))
    return 1 - len(set(grams)) / max(1, len(grams))


def test_the_samplers_window_and_soft_limit_are_the_originals():
    """By value: 1.15 over the last 20 tokens, and half a logit for what would repeat three tokens."""
    sampling = load_recipe("soma").evaluate.sampling
    logits = torch.tensor([2.0, -2.0, 1.0, 4.0, 0.5])
    text = [0, *[2] * 19, 1, 3, 4, 1, 3]  # the last 20 have no 0; 4 would be the second (1, 3, 4)
    scores = Sampler(sampling, text).scores(logits)
    assert scores.tolist() == pytest.approx([2.0, -2.0 * 1.15, 1 / 1.15, 4 / 1.15, 0.5 / 1.15 * 0.5])


# What every system is asked.


def test_the_loss_before_training_is_that_of_a_uniform_guess():
    model = build(shape("model.n_layers=4", "model.context=64", "evaluate.positions=[8]"), 4096, seed=1)
    ids = torch.randint(0, 4096, (2, 65), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).item()
    assert abs(loss - torch.tensor(4096.0).log().item()) < 0.3


def test_a_saved_model_has_equal_logits(tmp_path):
    model = build(shape(*TINY, "model.context=32"), 400, seed=1).eval()
    save_model(tmp_path, model)
    ids = torch.arange(64).view(2, 32)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(ids), model(ids))


# The small recipe, shortened.


@pytest.mark.slow
def test_the_small_recipe_runs_to_its_release(small_run):
    assert "release" in small_run.done.out
    figures = evaluation(small_run.store)
    assert figures["headline"]["bits_per_byte"] < 8
    assert {row["name"] for row in figures["baselines"]} == {"gzip -9", "xz -9e", "n-gram of 8 bytes"}
    assert set(figures["groups"]["source"]) >= {"books", "chats", "sentences"}
    assert set(figures["groups"]["lang"]) == {"en", "ja"}
    assert set(figures["groups"]["genre"]) == {"novels", "dialogue", "other"}
    asked, found = load_recipe(RECIPE).evaluate, figures["probes"]
    edges = [0, *asked.positions, 512]
    assert [(b["from"], b["to"]) for b in found["positions"]["buckets"]] == list(pairwise(edges))
    assert found["positions"]["documents"] >= 10
    low, high = found["positions"]["gain_interval"]
    assert low <= found["positions"]["gain"] <= high


@pytest.mark.slow
def test_the_terms_are_the_domains_own(small_run):
    """No labels, no words that are in every talk; and enough of them are in held-out text to judge by."""
    found = evaluation(small_run.store)["probes"]["terms"]
    listed = load_recipe(RECIPE).evaluate.terms.words
    mined = set(found["terms"][len(listed) :])
    assert len(mined) == 100
    assert not mined & {"user", "assistant", "like", "just", "yeah", "haha", "really", "about", "would", "that"}
    assert mined >= {"calculus", "movie", "biology"}
    assert found["terms_found"] >= 30
    assert found["occurrences"] >= 100
    assert 0 <= found["recall"] <= 1
    assert {row["term"] for row in found["frequent"]} <= mined | set(listed)


@pytest.mark.slow
def test_owner_08_held_out_dialogue_is_continued(small_run):
    """By the released model, as it samples: as many texts as were asked for, and hardly a repeated 3-gram."""
    asked, found = load_recipe(RECIPE).evaluate, evaluation(small_run.store)["probes"]["dialogue"]
    assert found["texts"] == asked.dialogue.texts
    assert found["sampling"]["no_repeat_ngram"] == 3
    assert found["model"]["repeated_3"] < 0.1
    assert 0 < found["model"]["distinct_2"] <= 1
    assert 0 <= found["model"]["alternation"] <= 1
    assert found["corpus"]["alternation"] > 0.9, "talks of two"


@pytest.mark.slow
def test_owner_08_the_hero(small_run):
    flags = "--temperature 0.7 --top-p 0.95 --top-k 50 --repetition-penalty 1.15 --repetition-window 20"
    soft = "--no-repeat-ngram 3 --no-repeat-factor 0.5 --max-tokens 100"
    told = small_run.collect("generate", RECIPE, "The hero", *flags.split(), *soft.split())
    assert told.out.strip()
    assert "<|" not in told.out


@pytest.mark.slow
def test_the_fine_tune_goes_on_from_the_release(small_run, tuned):
    """Domain and general text are told apart, before and after; what the start had learnt is not scored."""
    figures = evaluation(tuned.store)
    before, after = (side["groups"]["source"] for side in (figures["before"], figures))
    assert set(before) == set(after) >= {"genre", "general", "chats"}
    for source in ("genre", "general"):  # of the domain, and of what may be forgotten
        assert 0 < after[source]["bits_per_byte"] != before[source]["bits_per_byte"] > 0
        assert after[source]["documents"] == before[source]["documents"] > 0
    assert set(figures["before"]["groups"]["genre"]) == set(figures["groups"]["genre"])
    assert figures["before"]["probes"].keys() == figures["probes"].keys()
    assert not set(figures["probes"]["terms"]["terms"]) & {"state", "century", "used", "during", "user"}
    (plan,) = [p for p in small_run.store.glob("runs/*/plan.json") if "soma-finetune-small" in p.read_text("utf-8")]
    assert "init_from" in plan.read_text(encoding="utf-8")


@pytest.mark.slow
def test_of_the_dialogue_only_one_speakers_tokens_are_learnt(tuned):
    """By the masks of the run: of the play Hamlet's lines alone, and everything of the genre and the replay."""
    meta_file = newest(tuned.store, "tokens/*/meta.json")
    folder, sources = meta_file.parent, json.loads(meta_file.read_text(encoding="utf-8"))["sources"]
    (corpus,) = (path for path in tuned.store.glob("curate/*") if sources == curated_sources(path))
    spoken = [document for path in sorted((corpus / "train").glob("*.parquet")) for document in read_documents(path)]
    stream, tokenizer = (
        TokenStream(folder, "train"),
        load_tokenizer(newest(tuned.store, "tokenizer/*/tokenizer.json").parent),
    )
    rows = pq.read_table(folder / "train" / "documents.parquet").to_pylist()
    text_of = {document["record_id"]: document for document in spoken}
    heard = said = 0
    for number, row in enumerate(rows):
        place = int(stream.starts[number]), int(stream.lengths[number])
        learnt, source = stream.learnt(*place), sources[row["source"]]
        if source != "lines":
            assert learnt.all(), source
            continue
        his = [turn["text"] for turn in text_of[row["record_id"]]["turns"] if turn["role"] == "HAMLET"]
        told = tokenizer.decode(stream.read(*place)[1:][learnt[1:]])
        assert "".join(told.split()) == "".join("".join(his).split())
        said, heard = said + int(learnt[1:].sum()), heard + int((~learnt).sum())
    assert said > 5_000
    assert heard > said, "the others say more"
    assert f"role tokens train {said:,}" in tuned.done.out


@pytest.fixture(scope="module")
def tuned(small_run):
    """The store after the small fine-tune, shortened, and what that told."""
    return replace(small_run, done=small_run.run("soma-finetune-small"))


def curated_sources(folder):
    """The names of the sources of a corpus, sorted."""
    return sorted(
        {name for path in folder.glob("train/*.parquet") for name in pq.read_table(path)["source"].to_pylist()}
    )


def read_documents(path):
    return pq.read_table(path, columns=["record_id", "turns"]).to_pylist()


def newest(store, pattern):
    return max(store.glob(pattern), key=lambda path: path.stat().st_mtime)


def evaluation(store):
    """The newest evaluation.json of a store."""
    return json.loads(newest(store, "evaluate/*/evaluation.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_commands_of_its_document(small_run):
    for command in commands("SOMA"):
        small_run.type(command)
