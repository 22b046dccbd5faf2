"""Rounds of cleaning: what only touches what has changed leaves what cleaning every text in every round leaves."""

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_curate_decontaminate import SMALL, held, index, run, texts
from three_stages import curate_folders

from lmcore.curate.cleaning import FOLDER, Cleaning
from lmcore.curate.gates import GatesParams
from lmcore.curate.params import CompareParams, CurateParams
from lmcore.curate.postings import ALWAYS, MAY_CHANGE, STAYS

OPEN = dict.fromkeys(GatesParams.model_fields, 0) | {"max_dropped_share": 1}
LINES = CompareParams.model_validate({"boilerplate": {"min_documents": 2}})
SCRIPT = f"""
import os, sys
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parent)!r}]
from test_curate_rounds import LINES, drawn_params
from three_stages import curate_folders
work, folder, seed = sys.argv[1:]
curate_folders(Path(work), [Path(folder)], params=drawn_params(int(seed)), compare=LINES)
"""


class Plain(Cleaning):
    """Every round begins afresh: an index of what is held out then, and every text that is kept is cleaned."""

    def __init__(self, work, *given):
        super().__init__(work, *given)
        self.work, self.given, self.count = work, given, 0

    def again(self, decided):
        count = self.count + 1
        self.__init__(self.work / f"plain-{count}", *self.given)
        self.work, self.count = self.work.parent, count
        super().again(decided)


def drawn_corpus(row, seed):
    """Small texts of made-up words that quote each other, with near copies; some lose most of what they say."""
    draw = random.Random(seed)
    clusters, rows = [], []
    for _ in range(draw.randrange(4, 12)):
        words = [f"w{draw.randrange(4000)}x" for _ in range(draw.randrange(20, 90))]
        for _ in range(draw.randrange(4) if clusters else 0):
            quoted = draw.choice(clusters)
            length = draw.randrange(13, 60)
            first, at = draw.randrange(max(1, len(quoted) - length)), draw.randrange(len(words) + 1)
            words[at:at] = quoted[first : first + length]
        clusters.append(words)
    menu = [" ".join(f"w{draw.randrange(4000)}x" for _ in range(8)) for _ in range(3)]
    for words in clusters:
        for _ in range(draw.choice([1, 1, 2, 3, 5])):
            copy = list(words)
            for _ in range(draw.randrange(3)):
                copy[draw.randrange(len(copy))] = f"w{draw.randrange(4000)}x"
            text = " ".join(copy) + (f"\n{draw.choice(menu)}\nthe end" if draw.random() < 0.3 else "")
            rows.append(row(text, f"http://drawn/{draw.randrange(10**6)}-{len(rows)}"))
    draw.shuffle(rows)
    return rows


def drawn_params(seed):
    draw = random.Random(seed)
    values = {
        "gates": OPEN,
        "rules": {"sets": []},
        "split": {"val": draw.choice([0.1, 0.3]), "test": draw.choice([0, 0.2])},
        "decontaminate": {"min_left_words": draw.choice([20, 40, 70]), "n_words": draw.choice([5, 13])},
        "boilerplate": {"remove": draw.random() < 0.3, "min_left_words": draw.choice([5, 60])},
        "substrings": {"enabled": draw.random() < 0.3, "min_left_words": draw.choice([5, 60])},
    }
    return CurateParams.model_validate(values)


def rounds_told(said):
    """How many files each round cleaned."""
    found = [re.fullmatch(r"cleaned [\d,]+ of ([\d,]+) files, round (\d+)", line) for line in said]
    return {int(match[2]): int(match[1]) for match in found if match}


@pytest.mark.parametrize("first", range(0, 40, 8))
def test_the_same_as_when_every_round_cleans_everything(tmp_path, row, collected, content, monkeypatch, first, seed):
    most = 0
    for number in range(first, first + 8):
        rows = drawn_corpus(row, seed + number)
        half = len(rows) // 2 if number % 2 else len(rows)
        folders = [collected(tmp_path / f"in-{number}-0", rows[:half], files=3)]
        if half < len(rows):
            folders.append(collected(tmp_path / f"in-{number}-1", rows[half:]))
        left = []
        for cleaning in (Cleaning, Plain):
            monkeypatch.setattr("lmcore.curate.rounds.Cleaning", cleaning)
            made, said, digests = None, [], []
            for night in range(len(folders)):
                made = curate_folders(
                    tmp_path / f"{cleaning.__name__}-{number}-{night}",
                    folders[: night + 1],
                    params=drawn_params(seed + number),
                    compare=LINES,
                    before=made,
                    report=lambda done, total, line: said.append(line),  # noqa: B023 - used up within the round
                )
                digests.append(content(made.out))
            left.append(digests)
            most = max(most, *rounds_told(said), 0) if cleaning is Cleaning else most
        assert left[0] == left[1], f"seed {seed + number}"
    assert most > 1, "some of them took more than one round"


def corpus_of_rounds(row, collected, tmp_path, least=3):
    """A corpus that takes so many rounds, its seed, how many files each round cleans, and where it was curated."""
    for seed in range(100):
        rows = drawn_corpus(row, seed)
        folder = collected(tmp_path / f"asked-{seed}", rows, files=len(rows))
        said = []
        params = drawn_params(seed)
        if not params.substrings.enabled:
            work = tmp_path / f"whole-{seed}"
            curate_folders(work, [folder], params=params, compare=LINES, report=lambda *told: said.append(told[2]))  # noqa: B023
            if len(told := rounds_told(said)) >= least:
                return folder, seed, told, work
    raise AssertionError("no such corpus")


def test_later_rounds_look_at_few_files_and_a_kill_among_them_changes_nothing(
    tmp_path, row, collected, content, monkeypatch
):
    monkeypatch.setattr("lmcore.curate.measure.SHARD_BYTES", 1)
    folder, seed, told, whole = corpus_of_rounds(row, collected, tmp_path)
    assert all(count < told[1] / 2 for round_, count in told.items() if round_ > 1), told
    script = SCRIPT.replace(
        "work, folder, seed", "import lmcore.curate.measure as m; m.SHARD_BYTES = 1\nwork, folder, seed"
    )
    for at in (1, told[1], told[1] + 1, sum(told.values())):
        work = tmp_path / f"killed-{at}"
        command = [sys.executable, "-c", script, str(work), str(folder), str(seed)]
        died = subprocess.run(
            command, env=os.environ | {"COLLECT_TRAIN_FAULT": f"curate.cleaned:{at}"}, capture_output=True, timeout=120
        )
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
        layers = {path: path.stat().st_mtime_ns for path in (work / "curate" / FOLDER).glob("[0-9]*/*-changed.parquet")}
        assert len(layers) == at
        said = []
        curate_folders(
            work,
            [folder],
            params=drawn_params(seed),
            compare=LINES,
            report=lambda *told: said.append(told[2]),  # noqa: B023
        )
        assert content(work / "curate" / "out") == content(whole / "curate" / "out")
        assert not (work / "curate" / FOLDER).exists()


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


counting = st.lists(st.sampled_from(["0", "1", "01", "-", "S", "A"]), min_size=5, max_size=5)


@relaxed
@given(items=held, given_texts=st.lists(texts, max_size=4), counting=counting)
def test_items_that_do_not_count_are_as_if_they_were_not_there(items, given_texts, counting, tmp_path_factory):
    """And a text of which something else is found when other items count has said so: it hung on one of them.

    An item counts at first (0), then (1), both times or never, as one that may change; or it stays (S, A). The third
    time only a part counts: those that always do (A) and some of those that may change.
    """
    folder = tmp_path_factory.mktemp("index")
    how = counting[: len(items)]
    masks = [
        np.array([name in times for name in how], bool) for times in (("0", "01", "S", "A"), ("1", "01", "S", "A"))
    ]
    masks.append(np.array([name in ("0", "A") for name in how], bool))
    stays = [{"S": STAYS, "A": ALWAYS}.get(name, MAY_CHANGE) for name in how]
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmcore.curate.held_out.MOST_ITEMS", 2)
        every = index(items, folder / "every", stays=stays)
        for number, mask in enumerate(masks):
            among = every.of(mask, masks[0] != masks[1])
            scanned = run(given_texts, among, SMALL)
            alone = [item for item, counts in zip(items, mask, strict=True) if counts]
            plain = run(given_texts, index(alone, folder / str(number)), SMALL)
            assert scanned.texts == plain.texts
            names = np.array([str(place) for place in np.flatnonzero(mask)], object)
            told = [row | {"item": names[int(row["item"])]} for row in plain.hits.to_pylist()]
            assert sorted(scanned.hits.to_pylist(), key=str) == sorted(told, key=str)
            found.append((among, scanned))
        (before, one), (after, other), _part = found
        windows = after.windows_between(before)
        hanging = set(one.hangs[0][np.isin(one.hangs[1], windows)].tolist())
        for place, name in enumerate(f"r{number:03d}" for number in range(len(given_texts))):
            hits = [[row for row in scan.hits.to_pylist() if row["record_id"] == name] for scan in (one, other)]
            same = one.texts[place] == other.texts[place] and hits[0] == hits[1]
            assert same or place in hanging
