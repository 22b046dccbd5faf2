"""SQuAD files: what becomes a record, which spans are believed, and what broken files give."""

import json

import pytest
from helpers_collect import broken, damage, documents, log, read, run, try_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.collect.qa import QaSource
from lmcore.collect.unpack import Unreadable
from lmcore.tokens.roles import learnt_spans

MILL = "The mill stands by the river. Anna built it in 1889, and it still grinds corn."
BOAT = "A ferry crosses at noon. It carries ten people."


def ask(number, question, context, *answers, **more):
    given = [{"text": answer, "answer_start": context.index(answer)} for answer in answers]
    return {"id": f"q{number}", "question": question, "answers": given, **more}


WHO = ask(1, "Who built the mill?", MILL, "Anna", "Anna built it")
WHEN = ask(2, "When was it built?", MILL, "1889")
WHY = ask(3, "Why was it built?", MILL, is_impossible=True)
TEN = ask(4, "How many people does the ferry carry?", BOAT, "ten")
PARAGRAPHS = [{"context": MILL, "qas": [WHO, WHEN, WHY]}, {"context": BOAT, "qas": [TEN]}]
SQUAD = {"version": "v2.0", "data": [{"title": "The_river%2C_old", "paragraphs": PARAGRAPHS}]}
WHOLE = json.dumps(SQUAD).encode()


def source(base=".", **params):
    return QaSource(name="squad", base=str(base), paths=(".",), **params)


def taken(tmp_path, value, name="a.json", **params):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read(source(**params), name, data, tmp_path)


def asked(*questions, context=MILL):
    return {"data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def test_a_record_a_question(tmp_path):
    (tmp_path / "squad.json").write_bytes(WHOLE)
    run(tmp_path / "work", source(tmp_path))
    rows = documents(tmp_path / "work")
    by_url = {row["url"]: row for row in rows}
    row = by_url["file:squad.json#q2"]
    assert row["text"] == f"# The river, old\n\n{MILL}\n\nQ: When was it built?\nA: 1889"
    assert (row["kind"], row["title"]) == ("qa", "The river, old")
    user, assistant = row["turns"]
    assert (user["role"], assistant) == ("user", {"role": "assistant", "text": "1889"})
    assert user["text"].endswith("Q: When was it built?")
    ((start, stop),) = learnt_spans(row["text"], row["turns"], ["assistant"], "row")
    assert row["text"][start - 3 : stop] == "A: 1889", "the answer is learnt, not its place in the context"
    assert by_url["file:squad.json#q3"]["text"].endswith("\nA: unanswerable")
    origins = {row["url"][-2:]: row["page_of_origin"] for row in rows}
    assert origins["q1"] == origins["q2"] == origins["q3"] != origins["q4"]
    (about,) = json.loads(by_url["file:squad.json#q1"]["meta"])["questions"]
    text = by_url["file:squad.json#q1"]["text"]
    assert [text[start:stop] for start, stop in about["spans"]] == ["Anna", "Anna built it"]
    (about,) = json.loads(by_url["file:squad.json#q3"]["meta"])["questions"]
    assert about == {"id": "q3", "impossible": True, "spans": []}


def test_a_record_a_paragraph(tmp_path):
    good, bad = taken(tmp_path, SQUAD, record="paragraph", no_answer="")
    assert good[0].text == (
        f"# The river, old\n\n{MILL}\n\nQ: Who built the mill?\nA: Anna\n\nQ: When was it built?\nA: 1889"
    )
    assert [(role, said) for role, said in good[0].turns if role == "assistant"] == [
        ("assistant", "Anna"),
        ("assistant", "1889"),
    ]
    assert good[0].part == good[0].origin
    assert [item["id"] for item in good[0].meta["questions"]] == ["q1", "q2"]
    assert bad == {"unanswerable": ["q3"]}
    assert len(good) == 2


def test_rows_of_the_hub_give_the_same_records(tmp_path):
    lines = []
    for paragraph in PARAGRAPHS:
        for question in paragraph["qas"]:
            columns = {key: [answer[key] for answer in question["answers"]] for key in ("text", "answer_start")}
            row = {"id": question["id"], "title": "The_river%2C_old", "context": paragraph["context"]}
            lines.append(json.dumps({**row, "question": question["question"], "answers": columns}))
    for record in ("question", "paragraph"):
        good, bad = taken(tmp_path, "\n".join(lines).encode(), "rows.jsonl", record=record)
        assert good == taken(tmp_path, SQUAD, record=record)[0]
        assert not bad


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (WHO | {"answers": [{"text": "Anna", "answer_start": 29}]}, "a span that is not its answer"),
        (WHO | {"answers": [{"text": "Anna", "answer_start": -48}]}, "answers without text or start"),
        (WHO | {"answers": [{"text": "Anna"}]}, "answers without text or start"),
        (WHO | {"answers": [{"text": "Anna", "answer_start": True}]}, "answers without text or start"),
        (WHO | {"answers": "Anna"}, "answers without text or start"),
        (WHO | {"question": " "}, "a question without text"),
        (WHO | {"question": None}, "a question without text"),
        ("Who?", "a question without text"),
        (WHO | {"answers": [], "is_impossible": False}, "no answer, and not said to be unanswerable"),
        (WHEN, "a second question of this id"),
    ],
)
def test_bad_questions_cost_only_themselves(tmp_path, question, problem):
    good, bad = taken(tmp_path, asked(WHEN, question))
    assert [item.part for item in good] == ["q2"]
    assert list(bad) == [problem]


def test_an_answer_that_reads_like_its_label(tmp_path):
    context = "She had an A in Latin."
    good, bad = taken(tmp_path, asked(ask(1, "What had she in Latin?", context, "A"), context=context))
    assert not good
    assert list(bad) == ["an answer that cannot be told from its label"]


def test_line_ends_of_windows_keep_spans_true(tmp_path):
    context = "First line.\r\nThe second\r\nline is long."
    good, _ = taken(tmp_path, asked(ask(1, "Which is long?", context, "second\r\nline"), context=context))
    (about,) = good[0].meta["questions"]
    ((start, stop),) = about["spans"]
    assert good[0].text[start:stop] == "second\nline"


def test_questions_without_id_and_bad_articles(tmp_path):
    value = asked({key: WHO[key] for key in ("question", "answers")})
    value["data"] += [1, {"title": "x"}, {"paragraphs": [2, {"qas": []}]}]
    good, bad = taken(tmp_path, value)
    assert len(good[0].part) == 16
    assert bad == {
        "an article without paragraphs": [2, 3],
        "a paragraph without questions": ["4/1"],
        "a paragraph without context": ["4/2"],
    }


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"", "truncated"),
        (WHOLE[:-20], "truncated"),
        (WHOLE[:-2], "truncated"),
        (b"[1]", "damaged"),
        (b"{}", "damaged"),
        (b'{"data": {}}', "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"1" * 5000, "damaged"),
        ('{"data": "é"}'.encode("latin-1"), "damaged"),
    ],
)
def test_files_that_are_no_squad(tmp_path, data, outcome):
    with pytest.raises(Unreadable) as error:
        taken(tmp_path, data)
    assert "\n" not in error.value.reason
    assert error.value.outcome == outcome


@pytest.mark.parametrize("charset", ["utf-8-sig", "utf-16", "utf-32"])
def test_charsets_of_json(tmp_path, charset):
    assert taken(tmp_path, json.dumps(SQUAD).encode(charset))[0] == taken(tmp_path, SQUAD)[0]


def test_a_damaged_file_is_in_the_log(tmp_path):
    (tmp_path / "good.json").write_bytes(WHOLE)
    (tmp_path / "bad.json").write_bytes(WHOLE[:-2])
    (tmp_path / "span.json").write_text(json.dumps(asked(WHO | {"answers": [{"text": "x", "answer_start": 1}]})))
    run(tmp_path / "work", source(tmp_path))
    rows = [(row["url"], row["outcome"], row["reason"]) for row in log(tmp_path / "work")]
    assert ("file:bad.json", "truncated") in [row[:2] for row in rows]
    assert ("file:span.json", "bad_rows", "1 rows: a span that is not its answer; the first is q1") in rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
def test_damaged_bytes(tmp_path, at, junk, cut):
    for name in ("a.json", "a.jsonl"):
        try_read(source(), name, broken(WHOLE, at, junk, cut), tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["data", "paragraphs", "context", "qas", "question", "answers", "text", "answer_start", "id", "title"]
    ), inner),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=VALUES, question=st.text(min_size=1), context=st.text(min_size=1), at=st.floats(0, 1), record=st.booleans()
)
def test_any_json(tmp_path, value, question, context, at, record):
    kind = "paragraph" if record else "question"
    start = int(at * (len(context) - 1))
    answers = [{"text": context[start : start + 7], "answer_start": start}]
    whole = asked({"id": value, "question": question, "answers": answers}, value, context=context)
    good, bad = taken(tmp_path, whole, record=kind)
    assert len(good) + sum(map(len, bad.values())) >= 1
    for item in good:
        for about in item.meta["questions"]:
            assert all(0 <= start < stop <= len(item.text) for start, stop in about["spans"])
    try_read(source(), "b.json", json.dumps(value).encode(), tmp_path)
