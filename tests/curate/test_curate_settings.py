"""Every setting of measure, compare and curate changes what it says it changes, through all three stages.

And with all of them on, the corpus hangs on the texts alone: on no cut into files and shards, no order of rows or
folders, no number of processes.
"""

import json
import random

import pyarrow as pa
import pytest
from three_stages import Curated, curate_folders

from lmcore.curate.gates import GatesParams
from lmcore.curate.params import CompareParams, CurateParams, CurateRuntime, MeasureParams
from lmcore.curate.records import Part
from lmcore.curate.rules import packaged_rules
from lmcore.curate.split import SplitParams, page_hashes, positions, splits
from lmcore.curate.stage import curate as stage
from lmcore.documents import CURATED, DECISION, SPLITS, read_documents
from lmcore.progress import silent
from storage.errors import RunError, UserError
from storage.parquet import read_parquet

pytestmark = pytest.mark.slow  # a corpus is made for every setting

OPEN = dict.fromkeys(GatesParams.model_fields, 0) | {"max_dropped_share": 1}
GOOD = """The harbour was quiet before dawn, and only the fishermen were awake to see it.
They mended nets by lantern light, talking in low voices about the weather and the price of cod.
A strange ship had anchored beyond the reef in the night, and nobody on the quay knew its flag.
When the sun came up at last the vessel had vanished, and it left nothing but a single oar.
The oldest of them carried it home, and for years it hung above the door of his house.
Whoever asked him about it was told another story, and each of them was better than the last."""
HOUSE = [rule.name for rule in packaged_rules()]
PLAIN = {"gates": OPEN, "split": {"val": 0, "test": 0}, "rules": {"off": HOUSE}, "decontaminate": {"enabled": False}}


class Made:
    def __init__(self, curated, work):
        out = curated.out
        self.work, self.out, self.curated = work, out, curated
        self.kept = {
            row["url"]: row | {"split": name}
            for name in SPLITS
            for file in sorted((out / name).glob("*.parquet"))
            for row in read_documents(file, CURATED).to_pylist()
        }
        decisions = read_documents(out / "decisions.parquet", DECISION).to_pylist()
        self.rules = {row["url"]: row["rule"] for row in decisions}
        self.url = {row["record_id"]: row["url"] for row in decisions}
        self.decisions = {row["url"]: row for row in decisions}
        self.stats = json.loads((out / "stats.json").read_text())

    @property
    def texts(self):
        return {url: row["text"] for url, row in self.kept.items()}

    @property
    def measured(self):
        files = [path for folder in self.curated.measures.values() for path in (folder / "measured").glob("*")]
        return {row["url"]: row for path in files for row in read_parquet(path).to_pylist()}

    @property
    def beside(self):
        rows = read_parquet(self.curated.compares[-1] / "beside.parquet").to_pylist()
        return {self.url[row["record_id"]]: row for row in rows}


@pytest.fixture
def go(tmp_path, row, collected):
    """go(rows or {url: text}, measure=…, compare=…, **curate): the corpus."""
    before = {}
    count = 0

    def run(rows, measure=None, compare=None, **curate):
        nonlocal count
        count += 1
        if isinstance(rows, dict):
            rows = [row(text, url) for url, text in rows.items()]
        work = tmp_path / f"go-{count}"
        asked = json.dumps([rows, measure, compare])
        comparing, params = CompareParams.model_validate(compare or {}), CurateParams.model_validate(PLAIN | curate)
        if asked not in before:
            folder = collected(work / "in", rows)
            measuring = MeasureParams.model_validate(measure or {})
            before[asked] = curate_folders(work, [folder], measure=measuring, compare=comparing, params=params)
            return Made(before[asked], work)
        same = before[asked]  # only curate is asked for something else
        ids = [row["record_id"] for row in rows]
        parts = [Part.of(folder, ids) for folder in same.measures.values()]
        about = {"measures": [], "compares": [], "compared": "", "measured": []}
        more = {"about": about, "params": params, "runtime": CurateRuntime(), "report": silent, "comparing": comparing}
        metrics = stage(work, parts, same.compares, None, **more)
        return Made(Curated(work / "out", metrics, same.measures, same.compares), work)

    return run


# measure.privacy

PRIVATE = {
    "email": ("write to jane.doe@kikoto.hu", "<email>"),
    "phone": ("call +36 30 123 4567", "<phone>"),
    "ip": ("it came from 91.82.14.7", "<ip>"),
    "iban": ("pay to GB82 WEST 1234 5698 7654 32", "<iban>"),
    "card": ("card 4111 1111 1111 1111", "<card>"),
    "secret": ("key AKIAIOSFODNN7EXAMPLQ", "<secret>"),
}


def test_privacy_masks_or_keeps_each_type(go):
    texts = {kind: f"Please {text} today, and thank you very much." for kind, (text, _) in PRIVATE.items()}
    masked = go(texts)
    for kind, (text, mark) in PRIVATE.items():
        assert mark in masked.texts[kind], kind
        assert text.split()[-1] not in masked.texts[kind]
        kept = go(texts, {"privacy": {kind: "keep"}})
        assert kept.texts[kind] == texts[kind]
        others = set(PRIVATE) - {kind}
        assert {other: kept.texts[other] for other in others} == {other: masked.texts[other] for other in others}


def test_privacy_regions(go):
    texts = {"u": "Ring the office on 06 30 123 4567 before noon, please."}
    assert go(texts).texts == texts
    assert "<phone>" in go(texts, {"privacy": {"regions": ["HU"]}}).texts["u"]


# measure.normalise


@pytest.mark.parametrize(
    ("settings", "lang", "text", "changed"),
    [
        ({"mojibake": True}, "en", "It’s a cafÃ© near the harbour, isn’t it?", "café"),
        ({"geez": {"merge_h": True}}, "am", "ሐገር ኀይል", "ሀገር ሀይል"),
        ({"geez": {"merge_kh": True}}, "am", "ኸበረ", "ሀበረ"),
        ({"geez": {"merge_s": True}}, "am", "ሠላም", "ሰላም"),
        ({"geez": {"merge_a": True}}, "am", "ዐለም", "አለም"),
        ({"geez": {"merge_ts": True}}, "am", "ፀሐይ", "ጸሐይ"),
        ({"geez": {"fourth_h": True}}, "am", "ሃገር", "ሀገር"),
        ({"geez": {"fourth_a": True}}, "am", "ኣለም", "አለም"),
        ({"geez": {"labialised": True}}, "am", "ቱዋል", "ቷል"),
        ({"geez": {"marks": True}}, "am", "ሰላም፡ለዓለም፡፡", "ሰላም ለዓለም።"),
        ({"hungarian": True}, "hu", "Az õrült tûzoltó késõn jött.", "Az őrült tűzoltó későn jött."),
        ({"japanese": {"letters": True}}, "ja", "これはＡＢＣ１２です", "これはABC12です"),
        ({"japanese": {"punctuation": True}}, "ja", "これは！", "これは!"),
        ({"japanese": {"kana": True}}, "ja", "これはｶﾀｶﾅです", "これはカタカナです"),
        ({"japanese": {"wave_dash": True}}, "ja", "一～二", "一〜二"),
    ],
)
def test_normalise(go, row, settings, lang, text, changed):
    rows = [row(text, "u", lang=lang), row(text, "other", lang="fr", source="b")]
    off = ["off"] if "mojibake" in settings else []
    assert go(rows[:1]).texts["u"] == text
    found = go(rows[:1], {"normalise": settings}).texts["u"]
    assert changed in found
    assert found != text
    if not off:
        assert go(rows[1:], {"normalise": settings}).texts["other"] == text, "only that language"


# measure.language


def test_language(go, row, docstrings):
    hungarian = "A kikötő csendes volt hajnal előtt, és csak a halászok voltak ébren a lámpafényben. " * 5
    rows = [row(docstrings[5], "en", lang="und"), row(hungarian, "hu", lang="und")]
    plain = go(rows)
    assert (plain.kept["en"]["lang"], plain.kept["hu"]["lang"]) == ("en", "hu")
    assert plain.measured["hu"]["expected_share"] != plain.measured["hu"]["expected_share"], "nothing is expected"
    off = go(rows, {"language": {"enabled": False}})
    assert (off.kept["en"]["lang"], off.measured["hu"]["lang_found"]) == ("und", "und")
    assert go(rows, {"language": {"min_score": 1}}).kept["en"]["lang"] == "und", "nothing is so sure"
    rules = {"off": [rule for rule in HOUSE if rule != "min_expected_share"], "limits": {"min_expected_share": 0.5}}
    only = go(rows, {"language": {"expected": ["hu"]}}, rules=rules)
    assert only.rules == {"en": "min_expected_share", "hu": "kept"}
    both = go(rows, {"language": {"expected": ["hu", "en"]}}, rules=rules)
    assert set(both.kept) == {"en", "hu"}
    mixed = [row(f"{hungarian}\n\n{docstrings[5]}\n\n{docstrings[6]}", "mixed", lang="und")]
    shares = [
        go(mixed, {"language": {"expected": ["hu"], "paragraphs": paragraphs}}).measured["mixed"]["expected_share"]
        for paragraphs in (True, False)
    ]
    assert 0 < shares[0] < 1
    assert shares[1] in (0, 1)


def test_an_expected_language_that_is_never_found(go, docstrings):
    with pytest.raises(ValueError, match="'english' is no language code"):
        MeasureParams.model_validate({"language": {"expected": ["english"]}})
    with pytest.raises(UserError, match="'qx', and no text is ever found") as caught:
        go({"u": docstrings[0]}, {"language": {"expected": ["qx"]}})
    assert "measure.language.expected" in caught.value.what
    go({"u": docstrings[0]}, {"language": {"expected": ["zh-Hant", "no", "am"]}})


# compare


def test_min_jaccard(go, docstrings, seed):
    rng = random.Random(seed)
    words = max(docstrings, key=len).split()
    changed = [word if rng.random() > 0.03 else f"other{n}" for n, word in enumerate(words)]
    texts = {"a": " ".join(words), "b": " ".join(changed)}
    loose, strict = go(texts, compare={"min_jaccard": 0.5}), go(texts, compare={"min_jaccard": 1.0})
    assert sorted(loose.rules.values()) == ["kept", "near_duplicate"]
    (told,) = (row for row in loose.decisions.values() if row["rule"] == "near_duplicate")
    assert 0.5 == told["threshold"] <= told["value"] < 1
    assert set(strict.kept) == {"a", "b"}
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.5"):
        CompareParams.model_validate({"min_jaccard": 0.3})


FOOTER = "This page is part of the manual; report mistakes to the people who wrote it."


def test_boilerplate(go, docstrings):
    texts = {f"u{n}": f"{text}\n\n{FOOTER}" for n, text in enumerate(docstrings[:12])}
    assert all(text.endswith(FOOTER) for text in go(texts).texts.values()), "off by itself"
    removed = go(texts, boilerplate={"remove": True})
    assert len(removed.kept) > 9
    assert not any(FOOTER in text for text in removed.texts.values())
    assert all(row["boilerplate_share"] > 0 for row in removed.beside.values())
    rare = go(texts, compare={"boilerplate": {"min_documents": 13}}, boilerplate={"remove": True})
    assert all(text.endswith(FOOTER) for text in rare.texts.values())
    some = sorted(len(text.split()) for text in removed.texts.values())[4]
    fewer = go(texts, boilerplate={"remove": True, "min_left_words": some})
    assert set(fewer.rules.values()) >= {"kept", "boilerplate"}


def test_reference(go, row, docstrings):
    strange = " ".join(reversed(" ".join(docstrings[60:70]).split()))
    rows = [row(text, f"r{n}", source="good") for n, text in enumerate(docstrings[:40])]
    rows += [row(docstrings[50], "like"), row(strange[:3000], "unlike")]
    assert go(rows).beside["like"]["reference_bits"] != go(rows).beside["like"]["reference_bits"], "NaN"
    asked = {"reference": {"sources": ["good"]}}
    bits = {url: row["reference_bits"] for url, row in go(rows, compare=asked).beside.items()}
    assert bits["like"] < bits["unlike"]
    limit = (bits["like"] + bits["unlike"]) / 2
    rules = {"limits": {"max_reference_bits": limit}, "off": [rule for rule in HOUSE if rule != "max_reference_bits"]}
    dropped = go(rows, compare=asked, rules=rules)
    assert (dropped.rules["like"], dropped.rules["unlike"]) == ("kept", "max_reference_bits")
    small = go(rows, compare={"reference": {"sources": ["good"], "max_chars": 10_000, "order": 1}})
    assert small.beside["like"]["reference_bits"] > bits["like"], "little and simple is worse"
    with pytest.raises(UserError, match=r"compare\.reference"):
        go(rows, rules=rules)


def classified(docstrings, row):
    rows = [row(text, f"g{n}", source="good") for n, text in enumerate(docstrings[:120])]
    junk = ["BUY NOW cheap pills", "click here to win", "free money casino", "hot deal discount code"]
    rng = random.Random(0)
    for n in range(120):
        rows.append(row(" ".join(rng.choice(junk) for _ in range(20)) + f" {n}", f"b{n}", source="bad"))
    return rows


def test_classifier(go, row, docstrings, tmp_path):
    rows = classified(docstrings, row)
    by_source = {"classifier": {"good": ["good"], "bad": ["bad"], "min_examples": 50}}
    made = go(rows, compare=by_source)
    quality = {url: row["classifier_quality"] for url, row in made.beside.items()}
    assert sum(quality[f"g{n}"] for n in range(120)) > sum(quality[f"b{n}"] for n in range(120)) + 50
    labelled = tmp_path / "labelled.jsonl"
    lines = [{"t": r["text"], "l": "good" if r["source"] == "good" else "bad"} for r in rows]
    labelled.write_text("\n".join(map(json.dumps, lines)))
    by_file = {"classifier": {"labelled": str(labelled), "text_field": "t", "label_field": "l", "min_examples": 50}}
    again = {url: row["classifier_quality"] for url, row in go(rows, compare=by_file).beside.items()}
    assert again["g0"] > again["b0"]
    weak = by_source["classifier"] | {"bits": 10, "epochs": 1, "rate": 0.01, "max_chars": 10_000, "min_auc": 0.5}
    try:
        other = {url: row["classifier_quality"] for url, row in go(rows, compare={"classifier": weak}).beside.items()}
    except (RunError, UserError) as error:
        assert "classifier" in str(error)  # noqa: PT017  either is an effect
    else:
        assert other != quality
    with pytest.raises((RunError, UserError), match=r"1000|1,000"):
        go(rows, compare={"classifier": by_source["classifier"] | {"min_examples": 1000}})


# curate


def test_substrings(go, docstrings):
    shared = max(docstrings, key=lambda text: len(text.split()))
    texts = {"a": f"{docstrings[0]}\n{shared}", "b": f"{docstrings[1]}\n{docstrings[2]}\n{docstrings[4]}\n{shared}"}
    loose = {"min_jaccard": 1.0}
    assert go(texts, compare=loose).texts == go(texts, compare=loose, substrings={"enabled": False}).texts
    cut = go(texts, compare=loose, substrings={"enabled": True})
    assert sum(shared in text for text in cut.texts.values()) == 1
    whole = go(texts, compare=loose, substrings={"enabled": True, "min_words": 1000})
    assert sum(shared in text for text in whole.texts.values()) == 2
    gone = go(texts, compare=loose, substrings={"enabled": True, "min_left_words": 10_000})
    assert sorted(gone.rules.values()) == ["kept", "long_repeat"]
    chinese = "".join(chr(0x4E00 + (n * n * 7919 + n * 31) % 20000) for n in range(300))
    texts = {"a": f"{'甲乙丙丁' * 9}。\n{chinese}", "b": f"{'子丑寅卯' * 30}。\n{chinese}"}
    for size, times in ((200, 1), (4000, 2)):
        made = go(texts, compare=loose, substrings={"enabled": True, "min_chars": size, "min_words": 1000})
        assert sum(chinese in text for text in made.texts.values()) == times, size


def test_decontaminate(go, docstrings, tmp_path):
    asked = docstrings[3].split()[:60]
    question = " ".join(asked[:30])
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"q": " ".join(asked), "a": "nothing of the kind"}) + "\n")
    text = f"{docstrings[0]}\n{question}\n{docstrings[1]}"
    sets = {"enabled": True, "evaluation_sets": [{"name": "exam", "path": str(exam)}]}

    def hits(made):
        return read_parquet(made.out / "contamination.parquet").to_pylist()

    cut = go({"u": text}, decontaminate=sets)
    assert question not in " ".join(cut.texts["u"].split())
    assert [(hit["set"], hit["item"]) for hit in hits(cut)] == [("exam", "1")]
    for changed in (
        {"enabled": False},
        {"n_words": 40},
        {"evaluation_sets": []},
        {"evaluation_sets": [{"name": "exam", "path": str(exam), "fields": ["a"]}]},
    ):
        made = go({"u": text}, decontaminate=sets | changed)
        assert question in " ".join(made.texts["u"].split()), changed
        assert not hits(made)
    listed = go({"u": text}, decontaminate=sets | {"remove": False})
    assert question in " ".join(listed.texts["u"].split())
    assert len(hits(listed)) == 1
    short = {"u": text, "other": docstrings[9]}
    gone = go(short, decontaminate=sets | {"min_left_words": 10_000})
    assert gone.rules == {"u": "contaminated", "other": "kept"}
    chinese = "".join(chr(0x4E00 + (n * n * 7919 + n * 31) % 20000) for n in range(160))
    exam.write_text(json.dumps({"q": chinese}, ensure_ascii=False))
    chinese = chinese[:60]
    text = "".join(chr(0x4E00 + (n * 104729) % 19000) for n in range(200)) + chinese
    assert chinese not in go({"u": text}, decontaminate=sets).texts["u"]
    assert chinese in go({"u": text}, decontaminate=sets | {"n_chars": 100}).texts["u"]


def test_look_back(tmp_path, row, docstrings, collected):
    """What an earlier corpus kept is compared with what is held out since."""
    held = SplitParams(val=0.3, test=0)
    pages = [f"http://p/{n}" for n in range(40)]
    side = splits(positions(page_hashes(pa.chunked_array([pages]), "")), held).tolist()
    train, val = pages[side.index(0)], pages[side.index(1)]
    overlap = " ".join(docstrings[3].split()[:40])
    first = collected(tmp_path / "a", [row(f"{docstrings[0]}\n{overlap}\n{docstrings[1]}", train)])
    later = collected(tmp_path / "b", [row(f"{docstrings[7]}\n{overlap}\n{docstrings[8]}", val)])

    def corpus(look_back):
        params = PLAIN | {"split": {"val": 0.3, "test": 0}, "decontaminate": {"enabled": True, "look_back": look_back}}
        settings = CurateParams.model_validate(params)
        before = curate_folders(tmp_path / f"first-{look_back}", [first], params=settings)
        after = curate_folders(tmp_path / f"then-{look_back}", [first, later], before=before, params=settings)
        return Made(after, tmp_path)

    assert overlap not in " ".join(corpus(True).texts[train].split())
    assert overlap in " ".join(corpus(False).texts[train].split())


def test_mix(go, row, docstrings):
    rows = [row(text, f"a{n}", source="a") for n, text in enumerate(docstrings[:30])]
    rows += [row(text, f"b{n}", source="b", kind="chat") for n, text in enumerate(docstrings[30:60])]
    plain = go(rows)
    assert {row["repeats"] for row in plain.kept.values()} == {None}

    def times(**mix):
        made = go(rows, mix=mix)
        return {url: made.kept[url]["repeats"] or 1 if url in made.kept else 0 for url in made.rules}

    a = [url for url in plain.kept if url.startswith("a")]
    b = [url for url in plain.kept if url.startswith("b")]
    twice = times(sources={"a": 2})
    assert {twice[url] for url in a} == {2}
    assert {twice[url] for url in b} == {1}
    none = times(kinds={"chat": 0})
    assert {none[url] for url in b} == {0}
    assert {times(sources={"a": 9}, max_repeats=3)[url] for url in a} == {3}
    assert {times(sources={"a": 9})[url] for url in a} == {4}
    half, other = times(sources={"a": 0.5}), times(sources={"a": 0.5}, seed=1)
    assert half != other
    assert 0 < sum(half[url] for url in a) < len(a)
    copies = [row(docstrings[0].upper(), f"c{n}") for n in range(3)] + rows[5:9]
    found = go(copies, mix={"rehydrate": True})
    assert sorted(row["repeats"] or 1 for row in found.kept.values())[-1] == 3


def test_licences(go, row, docstrings):
    names = ["MIT", "CC-BY-4.0", "unknown"]
    rows = [row(docstrings[n], name, license=name) for n, name in enumerate(names)]
    assert set(go(rows).kept) == set(names)
    assert set(go(rows, licences={"allow": ["CC-BY-*"]}).kept) == {"CC-BY-4.0", "unknown"}
    dropped = go(rows, licences={"allow": ["CC-BY-*", "MIT"], "unknown": "drop"})
    assert dropped.rules["unknown"] == "licence"
    assert set(dropped.kept) == {"MIT", "CC-BY-4.0"}


def test_trusted(go, row, docstrings):
    rows = [row(docstrings[0], name, source=name) for name in ("a", "b", "c")]
    for name in "abc":
        assert set(go(rows, duplicates={"trusted": [name]}).kept) == {name}


def test_split(go, row, docstrings):
    rows = [row(text, f"u{n}") for n, text in enumerate(docstrings[:80])]

    def sides(**split):
        return {url: row["split"] for url, row in go(rows, split=split).kept.items()}

    assert set(sides(val=0, test=0).values()) == {"train"}
    some = sides(val=0.3, test=0)
    assert set(some.values()) == {"train", "val"}
    assert set(sides(val=0, test=0.3).values()) == {"train", "test"}
    assert sides(val=0.3, test=0, salt="other") != some


def test_scores(go, row, docstrings):
    rows = [row(text, f"u{n}") for n, text in enumerate(docstrings[:20])]
    rows.append(row("ሰላም ለዓለም ሁሉ ይሁን። ነገር ግን ሰዎች በአንድ ላይ ናቸው። " * 5, "am", lang="am"))
    found = {}
    for name in ("v1", "v2", "amharic_collector", "amharic_preprocessor"):
        found[name] = {url: kept["quality"] for url, kept in go(rows, score=name).kept.items()}
    assert len({json.dumps(quality, sort_keys=True) for quality in found.values()}) == 4
    for name in ("v1", "v2", "amharic_curriculum"):
        found[name] = {url: kept["complexity"] for url, kept in go(rows, complexity=name).kept.items()}
    assert len({json.dumps(found[name], sort_keys=True) for name in ("v1", "v2", "amharic_curriculum")}) == 3


def test_rules(go, docstrings):
    texts = {"short": "Too short, though a sentence it is.", "long": GOOD, "brace": docstrings[1] + " {}"}
    house = go(texts, rules={})
    assert house.rules["short"] == "min_words"
    assert house.rules["long"] == "kept"
    assert go(texts, rules={"off": ["min_words"]}).rules["short"] != "min_words"
    assert go(texts, rules={"limits": {"min_words": 5}}).rules["short"] != "min_words"
    assert go(texts, rules={"per_language": {"en": {"min_words": 5}}}).rules["short"] != "min_words"
    assert go(texts, rules={"per_language": {"hu": {"min_words": 5}}}).rules["short"] == "min_words"
    assert go(texts, rules={"per_language": {"en": {"min_words": None}}}).rules["short"] != "min_words"
    with_c4 = go(texts, rules={"sets": ["house", "c4"]})
    assert with_c4.rules["brace"] != "kept"
    assert with_c4.rules["brace"] not in HOUSE


@pytest.mark.parametrize("name", ["gopher_quality", "gopher_repetition", "c4", "fineweb", "fineweb2", "privacy"])
def test_every_set_of_rules_drops_something(go, docstrings, name):
    words = [word for word in " ".join(docstrings[:40]).split() if word.isalpha()]
    texts = {
        "good": GOOD, "repeated": "The same sentence again and again, word for word it is. " * 60,
        "braces": "{ } " * 80, "digits": "12 34 " * 80, "words": " ".join(words[:400]),
        "mails": " ".join(f"write to a{n}@kikoto.hu or b{n}@kikoto.hu about it" for n in range(40)),
    }  # fmt: skip
    made = go(texts, rules={"sets": [name], "off": []})
    own = {rule.name for rule in packaged_rules((name,))}
    assert own & set(made.rules.values())
    assert set(made.rules.values()) - own <= {"kept", "exact_duplicate", "near_duplicate"}
    trips = {row["rule"] for row in read_parquet(made.out / "trips.parquet").to_pylist()}
    assert trips <= own


@pytest.mark.parametrize(
    ("gate", "limit", "off"),
    [("min_documents", 1000, 0), ("min_train_bytes", 10**9, 0), ("min_val_documents", 1, 0),
     ("min_test_documents", 1, 0), ("min_unique_word_ratio", 1.0, 0), ("max_dropped_share", 0.1, None),
     ("min_sentences", 10**6, None), ("min_mean_sentence_chars", 10**4, None)],
)  # fmt: skip
def test_gates(go, docstrings, gate, limit, off):
    texts = {"a": docstrings[0], "again": docstrings[0], "b": docstrings[1]}
    go(texts, gates=OPEN | {gate: off})
    with pytest.raises(RunError, match=gate):
        go(texts, gates=OPEN | {gate: limit})


def test_each_option_of_the_docs_stands_here():
    """A new setting needs a test of its own here."""
    from pathlib import Path

    here = Path(__file__).read_text()
    seldom = {"digest"}  # filled in by a run: tests/flows

    def leaves(model):
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from leaves(inner)
            else:
                yield name

    names = {name for model in (MeasureParams, CompareParams, CurateParams) for name in leaves(model)} - seldom
    assert len(names) > 50
    assert not {name for name in names if f'"{name}"' not in here and f"{name}=" not in here}


# the whole, with everything on


def everything(exam, labelled):
    measure = {
        "normalise": {"mojibake": True, "hungarian": True, "geez": {"merge_h": True, "marks": True}},
        "language": {"expected": ["en", "hu", "am", "zh"]}, "privacy": {"regions": ["HU"]},
    }  # fmt: skip
    compare = {
        "min_jaccard": 0.6, "boilerplate": {"min_documents": 5}, "reference": {"sources": ["a"]},
        "classifier": {"labelled": str(labelled), "min_examples": 10, "min_auc": 0.5},
    }  # fmt: skip
    curate = {
        "gates": OPEN, "split": {"val": 0.15, "test": 0.1}, "boilerplate": {"remove": True},
        "substrings": {"enabled": True}, "mix": {"sources": {"a": 1.5}, "rehydrate": True},
        "decontaminate": {"evaluation_sets": [{"name": "exam", "path": str(exam)}]},
        "duplicates": {"trusted": ["b", "a"]}, "licences": {"allow": ["PSF-*", "MIT"]},
        "rules": {"sets": ["house", "gopher_repetition", "fineweb2", "privacy"], "limits": {"min_expected_share": 0.2}},
    }  # fmt: skip
    models = ((MeasureParams, measure), (CompareParams, compare), (CurateParams, curate))
    return [model.model_validate(given) for model, given in models]


def deal(rng, rows, folder, collected):
    """The same rows in folders, files and an order of chance."""
    rows = rng.sample(rows, len(rows))
    cuts = sorted(rng.sample(range(1, len(rows)), rng.randrange(1, 4)))
    parts = [rows[low:high] for low, high in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    return [collected(folder / f"{n}", part, files=rng.randrange(1, 4)) for n, part in enumerate(parts)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_corpus_hangs_on_the_texts_alone(tmp_path, docstrings, row, collected, content, seed, monkeypatch):
    rng = random.Random(seed)
    texts = rng.sample(docstrings, 110)
    rows = [row(f"{text}\n\n{FOOTER}", f"http://s/{n % 70}", source="ab"[n % 2]) for n, text in enumerate(texts)]
    rows = [r | {"page_of_origin": f"{r['url']}"} for r in rows]
    for n in range(25):  # copies, near copies, long repeats, what is in the exam, other languages, mail, licences
        text = rng.choice(texts)
        words = text.split()
        words[rng.randrange(len(words))] = "changed"
        made = rng.choice([
            text, text.upper(), " ".join(words), f"{rng.choice(texts)}\n{text}", f"{text}\nWrite to x{n}@kikoto.hu",
            "ሰላም፡ለዓለም፡ሁሉ፡ይሁን፡፡ ሐገር " * 30, "人之初性本善" * 40, "Az õrült tûzoltó késõn jött haza. " * 30,
        ])  # fmt: skip
        licence = rng.choice(["MIT", "GPL-3.0-only"])
        rows.append(row(f"{made}\n{n}", f"http://c/{n}", source="c", license=licence, lang="und"))
    exam, labelled = tmp_path / "exam.txt", tmp_path / "labelled.jsonl"
    exam.write_text("\n\n".join(" ".join(text.split()[10:40]) for text in texts[:6]))
    labels = [{"text": r["text"], "label": r["source"]} for r in classified(docstrings, row)]
    labelled.write_text("\n".join(map(json.dumps, labels)))
    measure, compare, params = everything(exam, labelled)
    settings = {"measure": measure, "compare": compare, "params": params}
    expected = None
    for turn in range(5):
        monkeypatch.setattr("lmcore.curate.measure.SHARD_BYTES", rng.choice([5_000, 40_000, 8 << 20]))
        monkeypatch.setattr("lmcore.curate.measured._MAX_ROWS", rng.choice([3, 50, 5_000]))
        folders = deal(rng, rows, tmp_path / f"{turn}" / "in", collected)
        work = tmp_path / f"{turn}" / "work"
        made = curate_folders(work, folders, workers=rng.choice([1, 2]), **settings)
        found = content(made.out)
        if expected is None:
            expected = found
            rules = {row["rule"] for row in read_parquet(made.out / "decisions.parquet").to_pylist()}
            assert rules >= {"kept", "licence"}
            assert rules & {"exact_duplicate", "near_duplicate", "held_out_duplicate"}
            assert read_parquet(made.out / "contamination.parquet").num_rows
        assert found == expected, f"turn {turn}"
