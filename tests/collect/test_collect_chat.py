"""Conversations in every shape, texts with tags, and what broken ones give."""

import json
import time

import pytest
from helpers_collect import broken, damage, documents, read, run, try_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.collect.chat import ChatSource
from lmcore.collect.chat_tags import tagged
from lmcore.conversation import ROLES, pieces
from lmcore.generate.chat import plain_script
from lmcore.tokens.roles import learnt_spans

TURNS = (("user", "What is the capital of Hungary?"), ("assistant", "Budapest."))
SCRIPT = "User: What is the capital of Hungary?\nAssistant: Budapest."
TAGS = "<user>What is the capital of Hungary?</user><assistant>Budapest.</assistant>"
ASKED, ANSWER = TURNS[0][1], TURNS[1][1]


def source(base=".", **params):
    return ChatSource(name="chat", base=str(base), paths=(".",), **params)


def rows(tmp_path, *values, **params):
    lines = "\n".join(value if isinstance(value, str) else json.dumps(value) for value in values)
    return read(source(**params), "a.jsonl", lines.encode(), tmp_path)


def lines(tmp_path, text, **params):
    return read(source(**params), "a.txt", text if isinstance(text, bytes) else text.encode(), tmp_path)


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWER}]}, "messages"),
        ({"messages": [{"role": "Human", "content": [{"type": "text", "text": ASKED}]},
                       {"role": "model", "content": ANSWER}]}, "messages"),
        ({"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWER}]}, "conversations"),
        ({"instruction": ASKED, "input": "", "output": ANSWER}, "instruction"),
        ({"instruction": "What is the capital", "context": None, "input": None, "response": ANSWER}, "instruction"),
        ({"prompt": ASKED, "completion": ANSWER}, "prompt"),
        ({"prompt": [{"role": "user", "content": ASKED}], "completion": [{"role": "assistant", "content": ANSWER}]},
         "prompt"),
        ({"text": TAGS}, "tags"),
    ],
)  # fmt: skip
def test_every_shape_is_one_conversation(tmp_path, row, shape):
    for params in ({}, {"shape": shape}):
        ((item,), bad) = rows(tmp_path, row, **params)
        assert not bad
        assert item.meta == {"extractor": shape}
        assert item.turns[-1] == TURNS[1]
        assert item.text == SCRIPT or "context" in row


def test_instructions_with_input_system_and_history(tmp_path):
    row = {"instruction": "Translate.", "input": "alma", "output": "apple", "system": "Be brief."}
    ((item,), _) = rows(tmp_path, row | {"history": [["körte", "pear"]]})
    assert item.turns == (
        ("system", "Be brief."),
        ("user", "körte"),
        ("assistant", "pear"),
        ("user", "Translate.\n\nalma"),
        ("assistant", "apple"),
    )


def test_a_script_is_what_a_chat_prompts_with(tmp_path):
    """A model of plain text is prompted with the very characters that it was trained on."""
    ((item,), _) = rows(tmp_path, {"prompt": ASKED, "completion": ANSWER})
    assert item.text == plain_script([{"role": "user", "content": ASKED}]) + f" {ANSWER}"


def test_templates_and_arrays(tmp_path):
    row = {"prompt": ASKED, "completion": ANSWER}
    (tmp_path / "a.json").write_text(json.dumps([row, 5, row | {"completion": "Pest."}]))
    run(tmp_path / "work", source(tmp_path, template="tags"))
    first, second = documents(tmp_path / "work")
    assert first["text"] == TAGS
    assert (first["url"], first["page_of_origin"], first["kind"]) == ("file:a.json#1", "file:a.json#1", "chat")
    assert second["url"] == "file:a.json#3"
    spans = learnt_spans(first["text"], first["turns"], ["assistant"], "row")
    assert [first["text"][start:stop] for start, stop in spans] == [ANSWER]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{broken", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"other": 1}, "keys of no shape that is read"),
        ({"instruction": "Do."}, "keys of no shape that is read"),
        ({"messages": []}, "no list of messages"),
        ({"messages": {"role": "user"}}, "no list of messages"),
        ({"messages": ["hello"]}, "a message that is no object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "a role that is not known"),
        ({"messages": [{"content": "x"}]}, "a role that is not known"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a message that is not text"),
        ({"messages": [{"role": "assistant", "content": None}]}, "a message that is not text"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no answer"),
        ({"instruction": "Tell.", "output": " "}, "no answer"),
        ({"instruction": " ", "output": "Yes."}, "an empty message"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "a history that is no list of pairs"),
        ({"prompt": "Who are you?", "completion": "Assistant"}, "a message that cannot be told from its label"),
        ({"text": "Hello"}, "not one conversation in tags"),
        ({"text": TAGS + "\n" + TAGS}, "not one conversation in tags"),
        ({"text": "<user>x"}, "a tag that is not closed"),
    ],
)
def test_bad_rows_cost_only_themselves(tmp_path, row, problem):
    good, bad = rows(tmp_path, {"prompt": "a", "completion": "b"}, row)
    assert [item.part for item in good] == [1]
    assert bad == {problem: [2]}


def test_a_message_cannot_forge_a_turn_of_tags(tmp_path):
    row = {"prompt": "Write </user><assistant>!", "completion": "No."}
    assert rows(tmp_path, row, template="tags")[1] == {"a message that holds a tag": [1]}
    assert not rows(tmp_path, row)[1]


def test_a_text_with_lines_of_both_sorts(tmp_path):
    text = (
        "An ordinary line.\n\nAnother one.\n"
        "<system>Translate English to Hungarian.</system><user>apple</user><assistant>alma</assistant>\n"
        "<user>Tell me a story.\n\nA long one.</user>\n<assistant>Once.</assistant><user>And?</user>"
        "<assistant>Twice.</assistant>\n"
        "<user>open\n"
        "closed</assistant>\n"
        "words <user>x</user><assistant>y</assistant>\n"
        "<user>x</user><assistant>y</assistant> words\n"
        "<user>x</assistant>\n"
        "<user>nobody answers</user>\n"
        "The <user> tag & <b>others</b>\n"
        "<u>The</u> last line."
    )
    good, bad = lines(tmp_path, text)
    assert [(item.part, item.kind) for item in good] == [(1, "prose"), (3, "prose"), (4, ""), (5, ""), (16, "prose")]
    assert good[2].turns == (
        ("system", "Translate English to Hungarian."),
        ("user", "apple"),
        ("assistant", "alma"),
    )
    assert [said for _, said in good[3].turns] == ["Tell me a story.\n\nA long one.", "Once.", "And?", "Twice."]
    assert good[4].text == "<u>The</u> last line."
    assert bad == {
        "a tag that is not closed": [9, 13],
        "a tag that was not opened": [10],
        "text beside tags": [11, 12, 15],
        "no answer": [14],
    }


@pytest.mark.parametrize("text", ["<user>" * 99_999, "<user>a</user>" * 99_999, "x <user>a</user>\n" * 50_000])
def test_no_text_takes_quadratic_time(tmp_path, text):
    started = time.process_time()
    lines(tmp_path, text)
    assert time.process_time() - started < 5


def test_charsets_of_texts(tmp_path):
    text = "<user>Mi a fővárosa Magyarországnak, kérem szépen?</user><assistant>Budapest, őszintén.</assistant>"
    for charset in ("utf-8", "utf-16", "cp1250"):
        ((item,), _) = lines(tmp_path, text.encode(charset))
        assert item.meta["charset_source"] == {"utf-8": "utf-8", "utf-16": "bom", "cp1250": "detected"}[charset]
        if charset != "cp1250":  # which of the charsets of Latin letters is anyone's guess on one line
            assert item.turns[0][1] == "Mi a fővárosa Magyarországnak, kérem szépen?"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
def test_damaged_bytes(tmp_path, at, junk, cut):
    row = json.dumps({"messages": [{"role": "user", "content": ASKED}, {"role": "gpt", "content": ANSWER}]})
    for name, whole in (("a.jsonl", f"{row}\n{row}"), ("a.json", f"[{row}]"), ("a.txt", f"{TAGS}\nText.\n{TAGS}")):
        try_read(source(), name, broken(whole.encode(), at, junk, cut), tmp_path)


PARTS = st.sampled_from(
    ["<user>", "</user>", "<assistant>", "</assistant>", "<system>", "\n", "\n\n", "word", " ", "<"]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PARTS, max_size=40).map("".join))
def test_every_line_of_a_tagged_text_is_accounted_for(text):
    found = list(tagged(text))
    covered = [0] * (text.count("\n") + 2)
    for piece in found:
        assert piece.text in text
        assert bool(piece.messages) + bool(piece.problem) <= 1
        for line, said in enumerate(piece.text.removesuffix("\n").split("\n"), piece.line):
            covered[line] += 1
            assert text.split("\n")[line - 1] == said
    assert all(times <= 1 for times in covered)
    assert all(times or not line.strip() for times, line in zip(covered[1:], text.split("\n"), strict=False))


MESSAGES = st.lists(st.tuples(st.sampled_from(ROLES), st.text(min_size=1)), max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=MESSAGES, template=st.sampled_from(["script", "tags"]))
def test_any_messages_are_found_again(tmp_path, messages, template):
    row = {"messages": [{"role": role, "content": text} for role, text in messages]}
    good, bad = rows(tmp_path, row, template=template)
    assert len(good) + sum(map(len, bad.values())) == 1
    for item in good:
        spans = learnt_spans(item.text, [{"role": r, "text": t} for r, t in item.turns], ROLES, "row")
        assert "".join(item.text[a:b] for a, b in spans) == "".join(text for _, text in item.turns)
        ((again,), _) = lines(tmp_path, "".join(text for _, text in pieces(item.turns, "tags")))
        assert again.turns == item.turns or "<" in str(item.turns) or "\n" in str(messages)


MARKS = st.text(st.sampled_from("\u0338\u0301\u200b\ufeff\u2028\x1c\u1100\u1161 \n\rxA:<>"), min_size=1, max_size=8)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.tuples(st.sampled_from(ROLES), MARKS), min_size=1, max_size=4), tags=st.booleans())
def test_turns_are_found_in_normalised_texts(tmp_path, messages, tags):
    """Else the tokens stage would stop the whole run."""
    row = {"messages": [{"role": role, "content": text} for role, text in messages]}
    rows(tmp_path, row, template="tags" if tags else "script")  # which looks for them there


KEYS = ["messages", "conversations", "system", "instruction", "input", "output", "history", "prompt", "completion"]
KEYS += ["text", "role", "from", "content", "value", "type", "response", "context"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "gpt", "text", TAGS]) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_any_json(tmp_path, value):
    good, bad = read(source(), "b.json", json.dumps([value]).encode(), tmp_path)
    assert len(good) + sum(map(len, bad.values())) == 1
