"""Sources and masks in the shards: documents name their source, and only the turns of learnt roles count."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curated_texts import mixed_texts, run_python, tree, write_curated
from hypothesis import given
from hypothesis import strategies as st

from lmcore.documents import CURATED
from lmcore.forget.artifacts import drop_tokens
from lmcore.progress import silent
from lmcore.tokenizer import ByteBPE, load_tokenizer
from lmcore.tokens import Loader, sequential
from lmcore.tokens.roles import learnt_spans, pack_mask, tokens_in, unpack_mask
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from lmcore.tokens.stream import Pick, TokenStream
from storage.errors import RunError, UserError

CHAT = [("user", "Mi a réz?"), ("assistant", "A réz fém.\nPirosas."), ("user", "És az u?"), ("assistant", "Betű.")]
TEXTS = {
    "train": [
        *mixed_texts(5, 20),
        *(f"{n} user: Mi a réz?\nA réz fém.\nPirosas.\nÉs az u?\nBetű.\n" for n in range(3)),
    ],
    "val": mixed_texts(6, 4),
    "test": [],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Curated texts of three sources, some with turns, and a tokenizer."""
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = ByteBPE.train(TEXTS["train"], vocab_size=400, split="gpt2", min_frequency=2, max_token_length=64)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    for path in write_curated(folder / "curated", TEXTS, rows_a_file=9).rglob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        for number, row in enumerate(rows):
            chat = "user: " in row["text"]
            row["source"] = "chat" if chat else ("b", "a")[number % 2]
            row["turns"] = [{"role": role, "text": text} for role, text in CHAT] if chat else None
        pq.write_table(pa.Table.from_pylist(rows, schema=CURATED), path)
    return folder / "curated", folder


def made(work, folders, workers=1, **params):
    """The totals that the stage tells."""
    return make_tokens(
        work,
        *folders,
        params=TokensParams(shard_tokens=3_000, **params),
        runtime=TokensRuntime(workers=workers),
        report=silent,
    )


def make(work, folders, workers=1, **params):
    made(work, folders, workers, **params)
    return work / "out"


@pytest.fixture(scope="module")
def tokens(folders, tmp_path_factory):
    return make(tmp_path_factory.mktemp("tokens"), folders)


def test_every_document_names_its_source(folders, tokens):
    meta = json.loads((tokens / "meta.json").read_text())
    assert meta["sources"] == ["a", "b", "chat"]
    for split in ("train", "val", "test"):
        rows = [row for path in sorted((folders[0] / split).glob("*")) for row in pq.read_table(path).to_pylist()]
        found = pq.read_table(tokens / split / "documents.parquet")
        assert found.schema.field("source").type == pa.int16()
        assert [meta["sources"][number] for number in found["source"].to_pylist()] == [row["source"] for row in rows]


def test_only_shards_with_turns_have_a_mask(tokens):
    meta = json.loads((tokens / "meta.json").read_text())["splits"]
    assert 0 < len(meta["train"]["masks"]) < len(meta["train"]["shards"])
    assert meta["val"]["masks"] == meta["test"]["masks"] == []
    written = sorted(path.name for path in tokens.rglob("*.mask.bin"))
    assert written == [f"{number:05d}.mask.bin" for number in meta["train"]["masks"]]


def test_what_counts_is_what_the_assistant_said(folders, tokens):
    tokenizer = load_tokenizer(folders[1])
    stream = TokenStream(tokens, "train")
    sources = pq.read_table(tokens / "train" / "documents.parquet")["source"].to_pylist()
    seen = 0
    for number, source in enumerate(sources):
        start, length = int(stream.starts[number]), int(stream.lengths[number])
        ids, learnt = stream.read(start, length), stream.learnt(start, length)
        assert learnt[0], "the begin mark is the end of the document before"
        if source != 2:
            assert learnt.all()
            continue
        seen += 1
        said = tokenizer.decode(ids[1:][learnt[1:]])
        for role, text in CHAT:
            assert (text in said) == (role == "assistant")
    assert seen == 3


def test_of_a_source_that_is_one_speakers_nothing_else_is_learnt(folders, tmp_path, tokens):
    """Its texts without that speaker are read, and only their begin marks learnt; other sources are learnt whole."""
    curated, work = shutil.copytree(folders[0], tmp_path / "curated"), tmp_path / "work"
    for path in curated.rglob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        rows = [row | {"source": "chat" if row["source"] == "a" else row["source"]} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows, schema=CURATED), path)
    settings = {"learn_roles": ("assistant",), "only_roles_of": ("chat",)}
    told = made(work, (curated, folders[1]), **settings)
    stream, plain = TokenStream(work / "out", "train"), TokenStream(tokens, "train")
    assert np.array_equal(stream.read(0, stream.n_tokens), plain.read(0, plain.n_tokens)), "only the masks are others"
    sources = pq.read_table(tokens / "train" / "documents.parquet")["source"].to_pylist()
    said = 0
    for number, source in enumerate(sources):
        place = int(stream.starts[number]), int(stream.lengths[number])
        learnt = stream.learnt(*place)
        assert learnt[0]
        if source == 2:
            assert learnt.tolist() == plain.learnt(*place).tolist()
            said += int(learnt[1:].sum())
        else:
            assert (learnt[1:].any(), learnt.all()) == ((False, False) if source == 0 else (True, True))
    assert told["role_tokens_train"] == said > 0
    assert told["role_tokens_val"] == 0
    before = tree(work / "out")
    assert made(work, (curated, folders[1]), **settings) == told, "from what was finished"
    for path in (work / "finished").rglob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text())["tokens"]))  # as an earlier version left it
    assert made(work, (curated, folders[1]), **settings) == told
    assert tree(work / "out") == before


def test_a_role_that_nobody_has_stops_the_stage(folders, tmp_path):
    """Else everybody would be learnt, and nothing would say so."""
    with pytest.raises(UserError, match="asks for EMO, and no turn of the corpus has that role") as told:
        made(tmp_path, folders, learn_roles=("EMO",))
    assert told.value.mend == "the roles are user (6), assistant (6): name one of them"
    with pytest.raises(UserError, match="asks for assistant, and no turn of source a has that role") as told:
        made(tmp_path, folders, only_roles_of=("a",))
    assert "none of its texts has turns" in told.value.mend
    assert not list(tmp_path.rglob("*.bin"))
    assert "role_tokens_train" in made(tmp_path / "two", folders, learn_roles=("EMO", "user"))
    plain = tmp_path / "plain"
    write_curated(plain / "curated", {"train": ["abc"], "val": ["d"], "test": []})
    assert "role_tokens_train" not in made(tmp_path / "none", (plain / "curated", folders[1])), "nobody was asked for"
    with pytest.raises(ValueError, match="only_roles_of without learn_roles"):
        TokensParams(learn_roles=(), only_roles_of=("a",))


def test_batches_carry_the_mask(tokens):
    stream = TokenStream(tokens, "train")
    whole = stream.learnt(0, stream.n_tokens)
    assert not whole.all()
    passes = list(sequential(tokens, "train", 3, 50))
    counted = np.concatenate([part.loss_mask.numpy().ravel() for part in passes])[: stream.n_tokens - 1]
    assert counted.tolist() == whole[1:].tolist()
    loader = Loader(tokens, "train", batch=10, context=64, seed=3, tokenizer_bytes=np.ones(400, dtype=np.int32))
    drawn = [loader.batch(step) for step in range(loader.steps_per_epoch)]
    assert any(not batch.loss_mask.all() for batch in drawn)
    assert all(int(batch.n_bytes[~batch.loss_mask].sum()) == 0 for batch in drawn)


def test_one_source_is_a_ring_of_its_own_documents(tokens):
    whole = TokenStream(tokens, "train")
    parts = [TokenStream(tokens, "train", Pick(name)) for name in ("a", "b", "chat")]
    assert sum(part.n_tokens for part in parts) == whole.n_tokens
    assert sum(part.n_bytes for part in parts) == whole.n_bytes
    for part in parts:
        ids = [whole.read(int(whole.starts[n]), int(whole.lengths[n])) for n in part.documents]
        assert part.read(0, part.n_tokens).tolist() == np.concatenate(ids).tolist()
        assert part.read(part.n_tokens - 2, 5).tolist() == [*ids[-1][-2:], *part.read(0, 3)]
        assert sorted(set(part.document_at(np.arange(part.n_tokens)).tolist())) == part.documents.tolist()
    with pytest.raises(UserError, match="has no source 'c'") as caught:
        TokenStream(tokens, "train", Pick("c"))
    assert "a, b, chat" in caught.value.mend


def test_equal_bytes_for_any_threads_and_after_a_kill(folders, tokens, tmp_path):
    code = """
import sys
from pathlib import Path
from lmcore.progress import silent
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
work, curated, tokenizer = map(Path, sys.argv[1:])
make_tokens(work, curated, tokenizer, params=TokensParams(shard_tokens=3_000), runtime=TokensRuntime(workers=3),
            report=silent)
"""
    for point in ("tokens.shard:2", "tokens.before-meta", ""):
        done = run_python(code, tmp_path, *folders, **({"COLLECT_TRAIN_FAULT": point} if point else {}))
        assert done.returncode == (-signal.SIGKILL if point else 0), done.stderr
    assert tree(tmp_path / "out") == tree(tokens)


def test_a_forgotten_text_leaves_the_mask_too(tokens, tmp_path):
    table = pq.read_table(tokens / "train" / "documents.parquet").to_pylist()
    stream = TokenStream(tokens, "train")
    gone = {row["record_id"] for number, row in enumerate(table) if row["source"] == 2 or number % 3 == 0}
    gone.remove(next(row["record_id"] for row in table if row["source"] == 2))
    left = [number for number, row in enumerate(table) if row["record_id"] not in gone]
    expected = [stream.learnt(int(stream.starts[n]), int(stream.lengths[n])) for n in left]
    target = shutil.copytree(tokens, tmp_path / "target")
    drop_tokens(tokens, target, gone)
    after = TokenStream(target, "train")
    assert after.learnt(0, after.n_tokens).tolist() == np.concatenate(expected).tolist()


def test_a_turn_that_is_not_there_is_named(folders, tmp_path):
    turns = [{"role": "assistant", "text": "nowhere"}]
    with pytest.raises(RunError, match=r"document 7 has a turn of assistant .* 'nowhere'"):
        learnt_spans("somewhere", turns, ("assistant",), "document 7")
    assert learnt_spans("x", [{"role": "user", "text": "x"}], ("assistant",), "") is None
    assert make(tmp_path, folders, learn_roles=())
    assert not list(tmp_path.rglob("*.mask.bin"))
    assert "learn_roles" not in TokensParams().key_values()


@given(
    turns=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text("ab é漢.", max_size=6)), max_size=8),
    between=st.sampled_from(["\n", "\n\n", " | "]),
)
def test_spans_are_the_turns_in_their_order(turns, between):
    text = between.join(said for _, said in turns)
    spans = learnt_spans(text, [{"role": role, "text": said} for role, said in turns], ("assistant",), "it")
    said = [part.strip() for role, part in turns if role == "assistant" and part.strip()]
    if not any(role == "assistant" for role, _ in turns):
        assert spans is None
        return
    assert [text[start:stop] for start, stop in spans] == said
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


def test_an_empty_turn_is_passed_over():
    """It is at every place, also behind the turns that follow it."""
    text = "hello\nworld!"
    turns = [{"role": "assistant", "text": said} for said in ("", "hello", " \n", "world!", "")]
    assert learnt_spans(text, turns, ("assistant",), "it") == [(0, 5), (6, 12)]
    assert learnt_spans("!! ", [{"role": "assistant", "text": ""}], ("assistant",), "it") == []


@given(
    text=st.text(alphabet="aé_u: \n.2ב", max_size=40),
    said=st.text(alphabet="aé_u:.2ב", min_size=1, max_size=3),
    before=st.text(alphabet="a :", max_size=5),
)
def test_a_turn_is_found_where_a_pattern_of_word_borders_finds_it(text, said, before):
    whole = before + text + said
    turns = [{"role": "user", "text": before}, {"role": "assistant", "text": said}]
    begins = re.search(rf"(?<!\w){re.escape(before.strip())}(?!\w)", whole) if before.strip() else None
    at = (begins.end() if begins else whole.find(before.strip()) + len(before.strip())) if before.strip() else 0
    found = re.compile(rf"(?<!\w){re.escape(said)}(?!\w)").search(whole, at)
    start = found.start() if found else whole.find(said, at)
    if start < 0:  # the turn before was found at the last place
        with pytest.raises(RunError, match="it has a turn of assistant"):
            learnt_spans(whole, turns, ("assistant",), "it")
    else:
        assert learnt_spans(whole, turns, ("assistant",), "it") == [(start, start + len(said))]


@given(mask=st.lists(st.booleans(), max_size=70), data=st.data())
def test_masks_are_packed_exactly(mask, data):
    start = data.draw(st.integers(0, len(mask)))
    stop = data.draw(st.integers(start, len(mask)))
    packed = np.frombuffer(pack_mask(np.array(mask, dtype=bool)), np.uint8)
    assert len(packed) == -(-len(mask) // 8)
    assert unpack_mask(packed, start, stop).tolist() == mask[start:stop]


def test_a_token_that_is_partly_learnt_counts():
    tokenizer = ByteBPE.train(["a"], vocab_size=262, split="gpt2", min_frequency=2, max_token_length=64)
    (encoding,) = tokenizer.encode_batch(["aéb"])  # é is two tokens
    assert tokens_in(tokenizer, "aéb", encoding.ids, [(1, 2)]).tolist() == [False, True, True, False]
    assert not tokens_in(tokenizer, "aéb", encoding.ids, []).any()


def test_a_mask_that_is_cut_short_is_named(tokens, tmp_path):
    folder = shutil.copytree(tokens, tmp_path / "cut")
    mask = next(iter((folder / "train").glob("*.mask.bin")))
    mask.write_bytes(mask.read_bytes()[:-1])
    with pytest.raises(RunError, match=f"the token shard {mask} has"):
        TokenStream(folder, "train")
    mask.unlink()
    with pytest.raises(RunError, match=f"cannot read the token shard {mask}"):
        TokenStream(folder, "train")
