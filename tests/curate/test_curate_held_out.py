"""What was ever held out is never trained on, nor is a near copy of it: whatever is away for a night, in any order."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from test_curate_chain import WIDE, Chain, judged, kept, on_side
from test_curate_stage import GOOD, OTHER

from lmcore.curate.choose import Pairs
from lmcore.curate.compare import read_pairs
from lmcore.curate.ids import ids
from lmcore.curate.sides import FOLDER, Sides
from lmcore.curate.split import TRAIN
from lmcore.documents import SPLITS
from storage.parquet import read_parquet, write_parquet

NEAR = f"{GOOD} So they say."
VAL, TEST = SPLITS.index("val"), SPLITS.index("test")


@pytest.fixture
def chain(tmp_path, collected):
    return Chain(tmp_path, collected)


@pytest.fixture
def held(row):
    return on_side(row, "test", GOOD, **WIDE)


@pytest.fixture
def near(row):
    return on_side(row, "train", NEAR, **WIDE)


def told(out, record):
    """Rule, the other text and the split of one record."""
    return tuple(judged(out)[record["record_id"]][name] for name in ("rule", "other", "split"))


def test_a_near_copy_does_not_come_to_training_while_its_original_is_away(chain, held, near, pages):
    others = pages[:8]
    assert told(chain.edition([*others, held], split=WIDE), held) == ("kept", None, "test")
    dropped = ("held_out_duplicate", held["record_id"], None)
    assert told(chain.edition([*others, held, near], split=WIDE), near) == dropped
    assert told(chain.edition([*others, near], split=WIDE), near) == ("held_out_before", None, None)
    assert told(chain.edition([*others, near], split=WIDE), near) == ("held_out_before", None, None)
    last = chain.edition([*others, held, near], split=WIDE)
    assert (told(last, held), told(last, near)) == (("kept", None, "test"), dropped)
    (value,) = {judged(out.out)[near["record_id"]]["value"] for out in (chain.made[1], chain.made[4])}
    assert 0.7 <= value < 1


def test_a_near_copy_that_comes_after_its_original_left(chain, held, near, pages):
    """The two are never in one corpus; the comparison names them, since the measures of before are still there."""
    others = pages[:8]
    chain.edition([*others, held], split=WIDE)
    assert told(chain.edition([*others, near], split=WIDE), near) == ("held_out_before", None, None)
    last = chain.edition([*others, near, held], split=WIDE)
    assert told(last, held) == ("kept", None, "test")
    assert told(last, near) == ("held_out_duplicate", held["record_id"], None)


def test_what_binds_is_carried_without_any_comparison(chain, held, near, pages):
    """After thirty comparisons all texts are compared anew, and one that is away is not among them."""
    others = pages[:8]
    chain.edition([*others, held], split=WIDE)
    chain.edition([*others, held, near], split=WIDE)
    made = chain.made[-1]
    made.measures, made.compares = {}, []
    chain.held = {}
    assert told(chain.edition([*others, near], split=WIDE), near) == ("held_out_before", None, None)


def test_a_training_copy_gives_way_to_a_text_that_was_held_out(chain, held, near, pages):
    """As in a corpus of version 2, which trained on the copy while its original was away."""
    others = pages[:8]
    chain.edition([*others, held], split=WIDE)
    made = chain.made[-1]
    made.measures, made.compares = {}, []
    chain.held = {}
    assert told(chain.edition([*others, near], split=WIDE), near) == ("kept", None, "train"), "none knew of the two"
    both = chain.edition([*others, near, held], split=WIDE)
    assert told(both, held) == ("kept", None, "test")
    assert told(both, near) == ("held_out_duplicate", held["record_id"], None)
    assert told(chain.edition([*others, near], split=WIDE), near) == ("held_out_before", None, None), "from now on"


def test_the_same_words_on_a_page_of_training(chain, held, row, pages):
    """A page keeps its side; so a held-out text that moves to it is left out."""
    page = on_side(row, "train", OTHER, **WIDE)
    moved = row(GOOD.upper(), f"{page['url']}#2", page_of_origin=page["url"])
    chain.edition([*pages[:8], page, held], split=WIDE)
    out = chain.edition([*pages[:8], page, moved], split=WIDE)
    assert (told(out, page), told(out, moved)) == (("kept", None, "train"), ("held_out_before", None, None))
    both = chain.edition([*pages[:8], page, moved, held], split=WIDE)
    assert (told(both, held), told(both, moved)[0]) == (("kept", None, "test"), "held_out_duplicate")


def test_a_test_text_does_not_become_one_of_validation(chain, held, row, pages):
    other = on_side(row, "val", NEAR, **WIDE)
    chain.edition([*pages[:8], held], split=WIDE)
    assert told(chain.edition([*pages[:8], held, other], split=WIDE), other)[0] == "held_out_duplicate"
    assert told(chain.edition([*pages[:8], other], split=WIDE), other)[0] == "held_out_before"


def test_a_near_copy_on_the_same_side_takes_the_place_of_its_original(chain, held, row, pages):
    copy = on_side(row, "test", NEAR, **WIDE)
    chain.edition([*pages[:8], held, copy], split=WIDE)
    first = kept(chain.made[-1].out)
    assert (held["record_id"] in first) != (copy["record_id"] in first)
    stays, goes = (held, copy) if held["record_id"] in first else (copy, held)
    assert told(chain.edition([*pages[:8], goes], split=WIDE), goes) == ("kept", None, "test")
    both = chain.edition([*pages[:8], held, copy], split=WIDE)
    assert told(both, goes) == ("kept", None, "test"), "what stood in the corpus before stays"
    assert told(both, stays)[:2] == ("near_duplicate", goes["record_id"])


def test_copies_of_a_copy_are_free(chain, held, row, pages):
    """What is only like a held-out text binds nothing: a chain of copies would take away more and more."""
    words = GOOD.split()
    texts = [" ".join([*words[step:], *(f"new{n}" for n in range(step))]) for step in (0, 7, 14)]
    sides = ("test", "train", "train")
    first, second, third = (on_side(row, side, text, **WIDE) for side, text in zip(sides, texts, strict=True))
    settings = {"split": WIDE, "decontaminate": {"enabled": False}}
    chain.edition([*pages[:8], first], **settings)
    out = chain.edition([*pages[:8], first, second, third], **settings)
    found = Pairs.of(*(read_pairs(folder) for folder in chain.made[-1].compares))
    assert len(found.jaccard) == 2, "first and second, second and third"
    assert told(out, second)[0] == "held_out_duplicate"
    assert told(out, third) == ("kept", None, "train")
    assert told(chain.edition([*pages[:8], third], **settings), third) == ("kept", None, "train")


def test_nights_in_any_order_never_train_on_what_was_held_out(chain, pages, row, seed, tmp_path, collected):
    """Pages come, go, are copied with changes, and come back; the same rows in another order give the same sides."""
    draw = random.Random(seed)
    other = Chain(tmp_path / "other", collected)
    every = {page["url"]: page for page in pages[:50]}
    for number, page in enumerate(pages[:50]):
        for copy in range(draw.choice([0, 1, 2])):
            url = f"http://copies/{number}-{copy}"
            every[url] = row(f"{page['text']}\n\nCopied by {copy} hands.", url)
    ever = set()
    for _ in range(5):
        now = [every[url] for url in draw.sample(sorted(every), len(every) * 3 // 4)]
        out = chain.edition(now, split=WIDE)
        again = other.edition(draw.sample(now, len(now)), split=WIDE)
        assert (out / FOLDER / "texts.parquet").read_bytes() == (again / FOLDER / "texts.parquet").read_bytes()
        assert judged(out) == judged(again)
        words = {
            name: digest
            for folder in chain.made[-1].measures.values()
            for path in (folder / "measured").glob("*")
            for name, digest in zip(
                *(read_parquet(path)[column].to_pylist() for column in ("record_id", "words_hash")), strict=True
            )
        }
        texts = kept(out)
        train = {words[name] for name, text in texts.items() if text["side"] == "train"}
        ever |= {words[name] for name, text in texts.items() if text["side"] != "train"}
        pairs = [read_parquet(folder / "pairs.parquet") for folder in chain.made[-1].compares]
        like = {
            pair
            for table in pairs
            for pair in zip(*(_hex(table[name]) for name in ("a_words", "b_words")), strict=True)
        }
        like |= {(b, a) for a, b in like}
        assert not train & ever
        assert not train & {b for a, b in like if a in ever}
    rules = {row["rule"] for row in judged(out).values()}
    assert {"held_out_duplicate", "held_out_before"} & rules


def _hex(column):
    return [value.hex() for value in column.to_pylist()]


@pytest.fixture
def carried():
    names = ids(f"{number:032x}" for number in range(1, 7))
    sides = Sides.nobody().with_kept(
        np.arange(3, dtype=np.uint64), names[[0, 1, 2]], np.array([TRAIN, VAL, TEST], np.int8)
    )
    return names, sides


def test_the_strongest_of_what_is_said_stays(carried):
    names, sides = carried
    nothing = Pairs(names[:0], names[:0], np.zeros(0))
    both = sides.with_copies(names[[0, 1, 2, 3]], np.array([VAL, TEST, VAL, TRAIN], np.int8), nothing)
    assert both.texts.tolist() == names[:3].tolist(), "a copy of a training text binds nothing"
    assert both.text_side.tolist() == [VAL, VAL, TEST], "held out before training, kept before bound"
    assert both.text_kept.tolist() == [False, True, True]
    assert both.held[0].tolist() == names[[1, 2]].tolist()
    back = both.with_kept(np.array([9], np.uint64), names[[0]], np.array([VAL], np.int8))
    assert back.text_kept.tolist() == [True, True, True]


def test_what_pairs_name_beside_a_held_out_text_is_bound(carried):
    names, sides = carried
    pairs = Pairs(names[[0, 1, 4, 3]], names[[3, 4, 5, 2]], np.full(4, 0.8))
    assert sides.bound(names, pairs)[0].tolist() == [TRAIN, VAL, TEST, TEST, VAL, TRAIN]
    after = sides.with_copies(names[:0], np.zeros(0, np.int8), pairs)
    assert after.bound(names, Pairs(names[:0], names[:0], np.zeros(0)))[0].tolist() == [
        TRAIN,
        VAL,
        TEST,
        TEST,
        VAL,
        TRAIN,
    ]
    assert after.with_copies(names[:0], np.zeros(0, np.int8), pairs).text_side.tolist() == after.text_side.tolist()


def test_sides_are_read_as_they_were_written(carried, tmp_path):
    names, sides = carried
    pairs = Pairs(names[[1]], names[[4]], np.full(1, 0.8))
    sides = sides.with_copies(names[:0], np.zeros(0, np.int8), pairs)
    sides.write(tmp_path)
    back = Sides.read(tmp_path)
    for name in ("pages", "page_side", "texts", "text_side", "text_kept"):
        assert getattr(back, name).tolist() == getattr(sides, name).tolist()


def test_sides_of_version_2_have_kept_texts_only(carried, tmp_path):
    _, sides = carried
    sides.write(tmp_path)
    path = tmp_path / FOLDER / "texts.parquet"
    table = read_parquet(path)
    path.unlink()
    write_parquet(path, pa.table({name: table[name] for name in ("words", "side")}, schema=table.schema.remove(2)))
    assert Sides.read(tmp_path).text_kept.tolist() == [True] * 3
