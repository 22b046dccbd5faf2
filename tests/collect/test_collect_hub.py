"""Data sets of the Hub: one commit an edition, files by their content, rows of every shape."""

import gzip
import io
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frozen_site import Reply
from helpers_collect import digests, documents, log, run
from hub_site import HubSite
from test_collect_unchanged import Editions

from lmcore.collect.hub_files import split_files
from lmcore.collect.hub_params import HubSource
from storage.errors import RunError, UserError

NAME = "mills/stories"


def parquet(rows):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=5)
    return out.getvalue()


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def stories(begin, end):
    return [{"text": f"Story number {number} of the mill.", "title": f"No. {number}"} for number in range(begin, end)]


SHARDS = {
    "README.md": b"# Stories",
    **{f"data/train-{n:05d}-of-00003.parquet": parquet(stories(n * 10, n * 10 + 10)) for n in range(3)},
    "data/validation-00000-of-00001.parquet": parquet(stories(90, 93)),
}


@pytest.fixture
def hub(monkeypatch):
    with HubSite(token="hf_TheSecretOne0123", gated=frozenset({"mills/gated"})) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        yield site


def source(**params):
    return HubSource(**{"name": "stories", "dataset": NAME, **params})


def texts(work):
    return [row["text"] for row in documents(work)]


class TestRows:
    def test_records_are_rows_in_order(self, hub, tmp_path):
        sha = hub.commit(NAME, SHARDS)
        metrics = run(tmp_path, source())
        assert metrics["records"] == 30
        rows = documents(tmp_path)
        assert [row["text"] for row in rows] == [row["text"] for row in stories(0, 30)]
        assert rows[11]["url"] == f"hf://datasets/{NAME}/data/train-00001-of-00003.parquet#2"
        assert rows[11]["title"] == "No. 11"
        stats = json.loads((tmp_path / "out" / "stats.json").read_text())
        assert (stats["dataset"], stats["revision"]) == (NAME, sha)
        first = log(tmp_path)[0]
        assert (first["outcome"], first["final_url"]) == (
            "ok", f"{hub.url}/datasets/{NAME}/resolve/{sha}/data/train-00000-of-00003.parquet",
        )  # fmt: skip
        assert not hub.requests["/robots.txt"]

    def test_a_split_a_branch_and_a_number_of_rows(self, hub, tmp_path):
        hub.commit(NAME, SHARDS, branch="v/2")
        run(tmp_path / "1", source(split="validation", revision="v/2"))
        assert documents(tmp_path / "1")[0]["url"].startswith(f"hf://datasets/{NAME}@v%2F2/data/validation-00000")
        hub.asked.clear()
        run(tmp_path / "2", source(revision="v/2", max_rows=13))
        assert len(documents(tmp_path / "2")) == 13
        assert len(hub.asked) == 2

    @pytest.mark.parametrize(
        "name", ["train.jsonl", "train.jsonl.gz", "train.json", "rows.json", "train.csv", "train.tsv"]
    )
    def test_formats(self, hub, tmp_path, name):
        rows = stories(0, 4)
        data = json.dumps(rows).encode() if name == "rows.json" else lines(rows)
        if name.endswith("sv"):
            comma = "\t" if name.endswith("tsv") else ","
            data = "".join(comma.join(row) + "\n" for row in [rows[0].keys(), *(r.values() for r in rows)]).encode()
        hub.commit(NAME, {name: gzip.compress(data) if name.endswith("gz") else data})
        run(tmp_path, source(max_rows=3))
        assert texts(tmp_path) == [row["text"] for row in rows[:3]]
        assert [row["title"] for row in documents(tmp_path)] == ["No. 0", "No. 1", "No. 2"]

    def test_shapes(self, hub, tmp_path):
        pairs = [
            {"translation": {"en": "The mill.", "hu": "A malom."}},
            {"translation": {"en": "River.", "hu": "Folyó."}},
        ]
        chats = [{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]}]
        squad = [{
            "id": "q1", "title": "Mill", "context": "Anna built it.", "question": "Who built it?",
            "answers": {"text": ["Anna"], "answer_start": [0]},
        }]  # fmt: skip
        wiki = [
            " \n",
            " = The Mill = \n",
            " \n",
            " It stands . \n",
            " = = Owners = = \n",
            " Anna . \n",
            " = River = \n",
            " Wet . \n",
        ]
        hub.commit(NAME, {
            "pair/train.parquet": parquet(pairs), "chat/train.parquet": parquet(chats),
            "qa/train.parquet": parquet(squad), "wiki/train.parquet": parquet([{"text": line} for line in wiki]),
        })  # fmt: skip
        run(tmp_path / "p", source(config="pair", shape="pair", source_lang="en", target_lang="hu"))
        assert {row["kind"] for row in documents(tmp_path / "p")} == {"pair"}
        assert [row["lang"] for row in documents(tmp_path / "p")] == ["hu", "en", "hu", "en"]
        assert documents(tmp_path / "p")[0]["turns"][1:] == [
            {"role": "user", "text": "The mill."}, {"role": "assistant", "text": "A malom."},
        ]  # fmt: skip
        run(tmp_path / "c", source(config="chat", shape="chat"))
        assert texts(tmp_path / "c") == ["User: Hello\nAssistant: Good day."]
        run(tmp_path / "q", source(config="qa", shape="qa"))
        assert texts(tmp_path / "q") == ["# Mill\n\nAnna built it.\n\nQ: Who built it?\nA: Anna"]
        run(tmp_path / "w", source(config="wiki", shape="wikitext"))
        assert [(row["title"], row["text"]) for row in documents(tmp_path / "w")] == [
            ("The Mill", "= The Mill =\nIt stands .\n= = Owners = =\nAnna ."), ("River", "= River =\nWet ."),
        ]  # fmt: skip

    def test_bad_rows_and_damaged_files(self, hub, tmp_path):
        rows = [{"text": "One."}, {"text": None}, {"text": "Two."}]
        hub.commit(
            NAME,
            {"train/a.parquet": parquet(rows), "train/b.parquet": b"PAR1 not", "train/c.jsonl": b'{"text": 3}\n[]\n'},
        )
        run(tmp_path, source())
        assert texts(tmp_path) == ["One.", "Two."]
        assert Counter(row["outcome"] for row in log(tmp_path)) == {"ok": 1, "bad_rows": 3, "damaged": 1, "no_text": 1}
        assert all(str(tmp_path) not in row["reason"] for row in log(tmp_path))

    def test_a_parquet_file_that_unpacks_to_more_than_allowed(self, hub, tmp_path):
        hub.commit(NAME, {"train/a.parquet": parquet([{"text": "x" * 100_000}]), "train/b.jsonl": lines(stories(0, 1))})
        run(tmp_path, source(max_bytes=50_000))
        assert sorted(row["outcome"] for row in log(tmp_path)) == ["ok", "too_large"]


class TestEditions:
    def test_the_same_commit_is_not_asked_for_again(self, hub, tmp_path):
        hub.commit(NAME, SHARDS)
        editions = Editions(tmp_path, source())
        editions.make()
        for _ in range(2):
            hub.requests.clear()
            editions.make()
            assert list(hub.requests) == [f"/api/datasets/{NAME}/revision/main?blobs=true"]
            assert (editions.metrics["records"], editions.metrics["new"]) == (30, 0)

    def test_another_commit_costs_only_the_files_that_are_new(self, hub, tmp_path):
        first = hub.commit(NAME, SHARDS)
        editions = Editions(tmp_path, source())
        editions.make()
        changed = parquet([*stories(10, 19), {"text": "Another.", "title": ""}])
        second = hub.commit(NAME, SHARDS | {"data/train-00001-of-00003.parquet": changed})
        assert first != second
        hub.asked.clear()
        work = editions.make()
        assert hub.asked == {"data/train-00001-of-00003.parquet": 1}
        assert (editions.metrics["records"], editions.metrics["new"]) == (30, 1)
        assert json.loads((work / "out" / "stats.json").read_text())["revision"] == second
        hub.commit(NAME, {name: data for name, data in SHARDS.items() if "00002-of" not in name})
        editions.make()
        assert editions.metrics["records"] == 20

    def test_a_number_of_rows_is_kept_as_a_whole_or_read_anew(self, hub, tmp_path):
        hub.commit(NAME, SHARDS)
        editions = Editions(tmp_path, source(max_rows=15))
        editions.make()
        hub.asked.clear()
        editions.make()
        assert not hub.asked
        assert (editions.metrics["records"], editions.metrics["new"]) == (15, 0)
        hub.commit(NAME, SHARDS | {"data/train-00000-of-00003.parquet": parquet(stories(0, 2))})
        editions.make()
        assert (editions.metrics["records"], editions.metrics["new"]) == (15, 8)
        assert len(hub.asked) == 3

    def test_the_commit_is_looked_up_once_an_edition(self, hub, tmp_path):
        """What is on the branch by the time the run goes on is for the next edition."""
        sha = hub.commit(NAME, SHARDS)
        third = f"/datasets/{NAME}/resolve/{sha}/data/train-00002-of-00003.parquet"
        hub.replies[third] = [Reply(503, headers={"Retry-After": "0"})]
        with pytest.raises(RunError, match=r"00002-of-00003.parquet of mills/stories could not be had .unavailable"):
            run(tmp_path, source())
        del hub.replies[third]
        hub.commit(NAME, {"train.jsonl": b'{"text": "All new."}'})
        hub.asked.clear()
        run(tmp_path, source())
        assert hub.asked == {"data/train-00002-of-00003.parquet": 1}
        assert len(documents(tmp_path)) == 30
        assert json.loads((tmp_path / "out" / "stats.json").read_text())["revision"] == sha

    def test_a_file_with_other_bytes_than_the_hub_lists_is_not_taken(self, hub, tmp_path):
        sha = hub.commit(NAME, SHARDS)
        path = f"/datasets/{NAME}/resolve/{sha}/data/train-00000-of-00003.parquet"
        hub.replies[path] = [Reply(body=SHARDS["data/train-00001-of-00003.parquet"])]
        with pytest.raises(RunError, match="not the bytes that the Hub lists"):
            run(tmp_path, source())
        del hub.replies[path]
        assert run(tmp_path, source())["records"] == 30


class TestMistakes:
    def test_no_such_data_set(self, hub, tmp_path):
        with pytest.raises(UserError, match=r"nobody/nothing is not there, or not for everyone") as told:
            run(tmp_path, source(dataset="nobody/nothing"))
        assert "HF_TOKEN" in told.value.mend

    def test_no_such_revision(self, hub, tmp_path):
        hub.commit(NAME, SHARDS)
        with pytest.raises(UserError, match="no data set mills/stories with a revision v9"):
            run(tmp_path, source(revision="v9"))

    def test_no_such_split(self, hub, tmp_path):
        hub.commit(NAME, SHARDS)
        with pytest.raises(UserError, match="no split 'test' that can be read: there are train, validation"):
            run(tmp_path, source(split="test"))
        hub.commit(NAME, SHARDS | {"data/test-00000-of-00001.parquet": parquet(stories(0, 1))})
        assert run(tmp_path, source(split="test"))["records"] == 1

    def test_no_such_config(self, hub, tmp_path):
        hub.commit(NAME, SHARDS)
        with pytest.raises(UserError, match="no configuration 'big'"):
            run(tmp_path, source(config="big"))

    def test_no_such_column(self, hub, tmp_path):
        hub.commit(NAME, SHARDS)
        with pytest.raises(RunError, match=r"3 no_text_field .*no column story; there are text, title") as told:
            run(tmp_path, source(text_field="story"))
        assert "text_field" in told.value.mend

    def test_a_script_is_not_run(self, hub, tmp_path):
        hub.commit(NAME, {"stories.py": b"raise SystemExit", "README.md": b""})
        with pytest.raises(UserError, match=r"no file with one of .parquet") as told:
            run(tmp_path, source())
        assert "refs/convert/parquet" in told.value.mend

    def test_the_hub_is_down(self, tmp_path, monkeypatch, hub):
        hub.replies[f"/api/datasets/{NAME}/revision/main?blobs=true"] = [Reply(body="<html>maintenance</html>")]
        with pytest.raises(RunError, match="the Hub says nothing of mills/stories"):
            run(tmp_path, source())
        del hub.replies[f"/api/datasets/{NAME}/revision/main?blobs=true"]
        hub.commit(NAME, SHARDS)
        assert run(tmp_path, source())["records"] == 30

    def test_the_public_hub_needs_a_contact(self, tmp_path, monkeypatch):
        monkeypatch.delenv("HF_ENDPOINT", raising=False)
        with pytest.raises(UserError, match="needs a contact"):
            run(tmp_path, source())


class TestFiles:
    NAMES = (
        "README.md", "dataset_infos.json", ".gitattributes", "script.py",
        "en-hu/train-00000-of-00002.parquet", "en-hu/train-00001-of-00002.parquet", "en-hu/test-00000-of-00001.parquet",
        "de-en/train-00000-of-00001.parquet", "data/deep/er/a.jsonl", "data/b.jsonl",
    )  # fmt: skip

    def files(self, card, config="", split="train", names=NAMES):
        return split_files("x/y", names, {"configs": card} if card else None, config, split)

    def test_by_the_card(self):
        card = [
            {
                "config_name": "en-hu",
                "data_files": [{"split": split, "path": f"en-hu/{split}-*"} for split in ("train", "test")],
            },
            {"config_name": "deep", "data_dir": "data", "data_files": "**/*.jsonl", "default": True},
            {"config_name": "listed", "data_files": ["data/b.jsonl", "de-en/*"]},
            {"config_name": "named", "data_files": {"train": "data/b.*", "dev": ["data/deep/**"]}},
            {"config_name": "folder", "data_dir": "de-en"},
        ]  # fmt: skip
        assert self.files(card, "en-hu") == list(self.NAMES[4:6])
        assert self.files(card, "en-hu", "test") == [self.NAMES[6]]
        assert self.files(card) == ["data/b.jsonl", "data/deep/er/a.jsonl"]
        assert self.files(card, "listed") == ["data/b.jsonl", self.NAMES[7]]
        assert self.files(card, "named", "dev") == ["data/deep/er/a.jsonl"]
        assert self.files(card, "folder") == [self.NAMES[7]]
        with pytest.raises(UserError, match="has no configuration 'x': there are deep, en-hu, folder, listed, named"):
            self.files(card, "x")
        with pytest.raises(UserError, match="has several configurations"):
            self.files(card[2:])

    def test_by_name(self):
        assert self.files(None, "en-hu") == list(self.NAMES[4:6])
        assert self.files(None, names=("a.csv", "b.txt")) == ["a.csv", "b.txt"]
        assert self.files(None, names=("my_train_set.csv", "valid/x.csv", "eval.csv")) == ["my_train_set.csv"]
        assert self.files(None, split="validation", names=("train.csv", "dev/x.csv")) == ["dev/x.csv"]

    def test_presets(self):
        wikipedia = HubSource(name="w", preset="wikipedia", lang="hu")
        assert (wikipedia.dataset, wikipedia.config) == ("wikimedia/wikipedia", "20231101.hu")
        opus = HubSource(name="o", preset="opus-100")
        assert (opus.config, opus.shape, opus.text_kind) == ("en-hu", "pair", "pair")
        assert HubSource(name="o", preset="opus-100", source_lang="en", target_lang="am").config == "am-en"
        assert HubSource(name="t", preset="tinystories").license == "CDLA-Sharing-1.0"
        assert HubSource.model_validate_json(opus.model_dump_json(), strict=True) == opus
        for wrong, told in [
            ({}, "give a `dataset`"),
            ({"preset": "wikipedia"}, "give `lang`"),
            ({"dataset": "../x"}, "dataset"),
        ]:
            with pytest.raises(ValueError, match=told):
                HubSource(name="x", **wrong)
        with pytest.raises(ValueError, match="source_lang"):
            HubSource(name="x", dataset="a/b", shape="pair")


def test_the_same_bytes_as_from_another_port(tmp_path, monkeypatch):
    for name in ("a", "b"):
        with HubSite() as hub:
            monkeypatch.setenv("HF_ENDPOINT", hub.url)
            hub.commit(NAME, SHARDS)
            run(tmp_path / name, source())
    assert digests(tmp_path / "a" / "out") == digests(tmp_path / "b" / "out")
