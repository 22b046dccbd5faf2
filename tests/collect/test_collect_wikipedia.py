"""A wiki by its API: which pages, what becomes of them, and that a later edition asks only for what has changed."""

import json
import random
from collections import Counter

import pytest
from helpers_collect import digests, documents, log, run
from pydantic import ValidationError
from test_collect_unchanged import Editions
from wiki_server import WikiServer

from lmcore.collect.wikipedia import WikipediaSource
from storage.errors import RunError, UserError

LONG = (
    "The '''{0}''' is a [[thing|kind of thing]] that has been written about at length.<ref>See there.</ref> {0} again. "
)
FAST = {"delay": 0, "retries": 2, "timeout": 10, "min_chars": 40}


def text(name):
    return LONG.format(name)


def source(wiki, **params):
    return WikipediaSource(**{"name": "wiki", "site": wiki.api, **FAST, **params})


def titles(work):
    return {row["title"] for row in documents(work)}


def outcomes(work):
    return {
        row["url"].rsplit("/", 1)[1]: (row["outcome"], row["reason"]) for row in log(work) if "/wiki/" in row["url"]
    }


@pytest.fixture
def wiki():
    with WikiServer() as wiki:
        yield wiki


@pytest.fixture
def small(wiki):
    """Six articles, and one of each kind that is none."""
    for name in ("Alma", "Körte", "Szilva", "Dió", "Meggy", "Barack"):
        wiki.put(name, text(name), categories=["Gyümölcs", f"{name} fajták", "Hidden things"])
    wiki.put("Narancs (egyértelműsítő lap)", text("Narancs"), disambiguation=True)
    wiki.put("Apple", "#REDIRECT [[Alma]]", redirect="Alma")
    wiki.put("Rövid", "Too short.")
    wiki.put("Vita:Alma", text("Talk"))
    return wiki


class TestRecords:
    @pytest.mark.parametrize("extractor", ["extracts", "wikitext"])
    def test_what_a_record_is(self, tmp_path, small, extractor):
        run(tmp_path, source(small, titles=("Alma",), extractor=extractor))
        (row,) = documents(tmp_path)
        assert row["text"] == ("The Alma is a kind of thing that has been written about at length. Alma again.")
        assert row["url"] == row["page_of_origin"] == small.page_url("Alma")
        assert (row["title"], row["lang"], row["license"]) == ("Alma", "hu", "CC-BY-SA-4.0")
        assert row["license_source"] == "file"
        assert dict(row["tags"]) == {"categories": "Gyümölcs|Alma fajták"}
        assert json.loads(row["meta"]) == {
            "extractor": "extracts" if extractor == "extracts" else "mwparserfromhell",
            "pageid": 1,
            "revid": 1000,
            "timestamp": "2026-11-01T00:00:01Z",
        }

    def test_the_recipe_may_say_licence_and_language(self, tmp_path, small):
        run(tmp_path, source(small, titles=("Alma",), license="CC0-1.0", lang="en"))
        (row,) = documents(tmp_path)
        assert (row["license"], row["license_source"], row["lang"]) == ("CC0-1.0", "recipe", "en")

    def test_a_wiki_without_known_rights_is_of_unknown_licence(self, tmp_path, small):
        small.rights = "https://example.org/ours"
        run(tmp_path, source(small, titles=("Alma",)))
        assert documents(tmp_path)[0]["license"] == "unknown"

    def test_titles_that_lead_somewhere_or_nowhere(self, tmp_path, small):
        small.put("Kör A", "#REDIRECT [[Kör B]]", redirect="Kör B")
        small.put("Kör B", "#REDIRECT [[Kör A]]", redirect="Kör A")
        wanted = ("alma", "Apple", "körte ", "Nincs ilyen", "Kör A", "en:Apple", "a<b", "Rövid", "Vita:Alma")
        run(tmp_path, source(small, titles=(*wanted, "Narancs (egyértelműsítő lap)")))
        assert titles(tmp_path) == {"Alma", "Körte"}
        found = {key: value[0] for key, value in outcomes(tmp_path).items()}
        assert found == {
            "Alma": "ok", "K%C3%B6rte": "ok", "Nincs_ilyen": "missing", "K%C3%B6r_A": "missing",
            "en:Apple": "bad_title",
            "a%3Cb": "bad_title", "R%C3%B6vid": "short", "Vita:Alma": "namespace",
            "Narancs_(egy%C3%A9rtelm%C5%B1s%C3%ADt%C5%91_lap)": "disambiguation",
        }  # fmt: skip
        assert outcomes(tmp_path)["a%3Cb"][1] == "The requested page title contains invalid characters."
        assert outcomes(tmp_path)["Nincs_ilyen"][1] == "there is no page Nincs ilyen"

    def test_pages_that_point_to_others_may_be_kept(self, tmp_path, small):
        run(tmp_path, source(small, all_pages=True, disambiguation="keep"))
        marked = [row["title"] for row in documents(tmp_path) if dict(row["tags"]).get("disambiguation")]
        assert marked == ["Narancs (egyértelműsítő lap)"]

    def test_categories_with_their_subcategories_to_a_depth(self, tmp_path, wiki):
        wiki.put("Kategória:Anime", "", categories=["Top"])
        wiki.put("Kategória:Shonen", "", categories=["Anime"])
        wiki.put("Kategória:Deep", "", categories=["Shonen"])
        wiki.put("Kategória:Loop", "", categories=["Deep"])
        wiki.pages[wiki._of("Kategória:Anime").number].categories.append("Loop")
        for name, category in (("A", "Anime"), ("B", "Shonen"), ("C", "Deep"), ("D", "Loop"), ("E", "Other")):
            wiki.put(name, text(name * 9), categories=[category])
        wiki.put("Vita:A", text("talk"), categories=["Anime"])
        for depth, found in ((0, "A"), (1, "AB"), (2, "ABC"), (9, "ABCD")):
            given = source(wiki, categories=("Kategória:Anime",), depth=depth)
            run(tmp_path / f"{depth}", given)
            assert titles(tmp_path / f"{depth}") == set(found)
        run(tmp_path / "two", source(wiki, categories=("Anime", "Category:Other", "Nothing")))
        assert titles(tmp_path / "two") == {"A", "E"}
        assert outcomes(tmp_path / "two")["Category:Nothing"] == ("missing", "no page is in this category")

    def test_max_pages_and_what_is_beyond(self, tmp_path, small):
        metrics = run(tmp_path, source(small, titles=("Dió",), all_pages=True, max_pages=3))
        assert metrics["records"] == 3
        assert "Dió" in titles(tmp_path)
        stats = json.loads((tmp_path / "out" / "stats.json").read_text())
        assert (stats["pages"], stats["cut_by_max_pages"]) == (3, True)

    def test_intro_only_in_answers_of_twenty(self, tmp_path, wiki):
        for number in range(45):
            wiki.put(f"P{number:02d}", text(f"P{number}") + "\n\n== Later ==\nMore of it, and more.")
        run(tmp_path / "e", source(wiki, all_pages=True, intro=True))
        assert len(wiki.asked(exintro="1")) == 3
        run(tmp_path / "w", source(wiki, all_pages=True, intro=True, extractor="wikitext"))
        for work in ("e", "w"):
            rows = documents(tmp_path / work)
            assert len(rows) == 45
            assert not any("Later" in row["text"] for row in rows)

    def test_answers_in_parts_are_put_together(self, tmp_path, wiki):
        for number in range(70):
            wiki.put(f"P{number:02d}", text(f"P{number}"), categories=[f"c{number}-{part}" for part in range(5)])
        wiki.categories_per_answer, wiki.chars_per_answer, wiki.rows_per_answer = 7, 700, 11
        run(tmp_path, source(wiki, all_pages=True, extractor="wikitext"))
        rows = documents(tmp_path)
        assert len(rows) == 70
        assert all(len(dict(row["tags"])["categories"].split("|")) == 5 for row in rows)
        assert any("rvcontinue" in asked for asked in wiki.requests)
        assert any("clcontinue" in asked for asked in wiki.requests)
        assert len(wiki.asked(list="allpages")) == 7
        assert max(wiki.texts.values()) == 1

    def test_long_titles_make_shorter_questions(self, tmp_path, wiki):
        names = [f"{number:02d} " + "አማርኛ" * 20 for number in range(50)]
        for name in names:
            wiki.put(name, text(name))
        run(tmp_path, source(wiki, titles=tuple(names)))
        assert len(documents(tmp_path)) == 50
        assert len([asked for asked in wiki.requests if "titles" in asked]) > 5

    def test_pages_that_are_no_wikitext(self, tmp_path, small):
        small.put("Data", '{"a": 1}', model="json")
        run(tmp_path, source(small, all_pages=True, extractor="wikitext"))
        assert outcomes(tmp_path)["Data"] == ("no_text", "no wikitext but json")

    def test_concurrency_does_not_show(self, tmp_path, small):
        given = source(small, all_pages=True)
        run(tmp_path / "one", given, concurrency=1)
        run(tmp_path / "many", given, concurrency=16)
        assert digests(tmp_path / "one" / "out") == digests(tmp_path / "many" / "out")


class TestRandom:
    def test_drawn_once(self, tmp_path, wiki):
        for number in range(60):
            wiki.put(f"P{number:02d}", text(f"P{number}"))
        editions = Editions(tmp_path, source(wiki, random=20))
        work = editions.make()
        assert len(documents(work)) == 20
        drawn = set(editions.texts())
        wiki.delete(next(row["title"] for row in documents(work)))
        editions.make()
        assert len(editions.texts()) == 19
        editions.make()
        assert len(editions.texts()) == 20
        assert len(drawn & set(editions.texts())) == 19

    def test_more_are_wanted_than_there_are(self, tmp_path, small):
        run(tmp_path, source(small, random=50))
        assert titles(tmp_path) == {"Alma", "Körte", "Szilva", "Dió", "Meggy", "Barack"}

    def test_more_than_one_answer_holds(self, tmp_path, wiki):
        for number in range(60):
            wiki.put(f"P{number:02d}", text(f"P{number}"))
        wiki.rows_per_answer = 7
        run(tmp_path, source(wiki, random=40))
        assert len(documents(tmp_path)) == 40


class TestEditions:
    @pytest.mark.parametrize("recent", [False, True])
    @pytest.mark.parametrize("extractor", ["extracts", "wikitext"])
    def test_only_what_has_changed_is_sent(self, tmp_path, small, extractor, recent):
        editions = Editions(tmp_path, source(small, all_pages=True, recent_changes=recent, extractor=extractor))
        editions.make()
        assert editions.metrics["records"] == 6
        small.wait(3600)
        editions.make()
        assert (editions.metrics["records"], editions.metrics["new"]) == (6, 0)
        small.wait(3600)
        small.texts.clear()
        small.requests.clear()
        small.put("Alma", text("Alma") + "And something that is new.")
        small.put("Eper", text("Eper"))
        small.delete("Dió")
        small.move("Meggy", "Cseresznye")
        work = editions.make()
        assert set(small.texts) == {small._of(name).number for name in ("Alma", "Eper", "Cseresznye")}
        assert (editions.metrics["records"], editions.metrics["new"]) == (6, 3)
        found = {url.rsplit("/", 1)[1]: edition for url, (_, edition) in editions.texts().items()}
        assert found == {"Alma": "e2", "Eper": "e2", "Cseresznye": "e2", "K%C3%B6rte": "e0", "Szilva": "e0",
                         "Barack": "e0"}  # fmt: skip
        said = outcomes(work)
        assert said["Di%C3%B3"][0] == said["Meggy"][0] == "removed"
        assert said["Barack"][0] == "unchanged"
        assert said["R%C3%B6vid"][0] == "short"
        if recent:
            asked = [asked["pageids"].split("|") for asked in small.requests if "pageids" in asked]
            assert str(small._of("Barack").number) not in {page for pages in asked for page in pages}

    def test_an_edition_is_as_one_that_was_fetched_whole(self, tmp_path, small):
        editions = Editions(tmp_path / "kept", source(small, all_pages=True))
        editions.make()
        small.put("Alma", text("Alma") + "And something that is new.")
        small.delete("Dió")
        work = editions.make()
        texts = editions.texts()
        run(tmp_path / "whole", source(small, all_pages=True))
        assert {row["url"]: row["text"] for row in documents(tmp_path / "whole")} == {
            url: text for url, (text, _) in texts.items()
        }
        assert json.loads((work / "out" / "stats.json").read_text())["unchanged"] == 4

    def test_other_settings_ask_for_everything(self, tmp_path, small):
        editions = Editions(tmp_path, source(small, all_pages=True))
        editions.make()
        small.texts.clear()
        editions.make(source(small, all_pages=True, extractor="wikitext"))
        assert len(small.texts) == 7
        assert editions.metrics["records"] == 6

    def test_what_is_no_longer_chosen_is_removed(self, tmp_path, small):
        editions = Editions(tmp_path, source(small, categories=("Gyümölcs",)))
        editions.make()
        page = small._of("Alma")
        small.put("Alma", page.text, categories=[])
        work = editions.make()
        assert outcomes(work)["Alma"] == ("removed", "no longer among the pages that the source chooses")
        assert len(editions.texts()) == 5

    def test_where_the_list_of_changes_does_not_reach_all_are_asked_for(self, tmp_path, small):
        editions = Editions(tmp_path, source(small, recent_changes=True))
        editions.make()
        small.wait(90 * 24 * 3600)
        small.pages[small._of("Alma").number].revision += 500  # its change is in no list any more
        small.changes.clear()
        small.put("Eper", text("Eper"))
        small.texts.clear()
        editions.make()
        assert set(small.texts) == {small._of("Alma").number, small._of("Eper").number}

    def test_recent_changes_alone_begin_with_what_the_wiki_lists(self, tmp_path, small):
        run(tmp_path, source(small, recent_changes=True, max_pages=4))
        assert small.asked(list="recentchanges")
        assert len(documents(tmp_path)) >= 1
        assert json.loads((tmp_path / "out" / "stats.json").read_text())["pages"] == 4

    def test_raw_answers_lie_with_their_pages(self, tmp_path, small):
        from storage.parquet import read_parquet

        run(tmp_path, source(small, all_pages=True, extractor="wikitext"))
        (file,) = (tmp_path / "out" / "provenance" / "responses").glob("*.parquet")
        rows = {row["url"]: row["body"] for row in read_parquet(file).to_pylist()}
        sent = json.loads(rows[small.page_url("Alma")])
        assert sent["revisions"][0]["slots"]["main"]["content"] == text("Alma")
        assert small.page_url("Rövid") not in rows


class TestErrors:
    def test_a_wiki_that_lags_is_asked_again(self, tmp_path, small):
        small.lagging = 2
        run(tmp_path, source(small, titles=("Alma",)))
        assert len(documents(tmp_path)) == 1
        assert all(asked["maxlag"] == "5" for asked in small.requests)

    def test_a_wiki_that_lags_for_long_stops_the_run_and_the_next_goes_on(self, tmp_path, small):
        given = source(small, all_pages=True, retries=1)
        run(tmp_path / "whole", given)
        small.texts.clear()
        small.lagging = 0

        def lag(done, total, note=""):
            small.lagging = 100 if "looked up" in note else small.lagging

        with pytest.raises(RunError, match="busy: maxlag: Waiting for") as caught:
            run(tmp_path / "work", given, report=lag)
        assert "later" in caught.value.mend
        small.lagging = 0
        run(tmp_path / "work", given)
        assert digests(tmp_path / "work" / "out") == digests(tmp_path / "whole" / "out")
        assert max(small.texts.values()) == 1

    @pytest.mark.parametrize(
        ("sent", "told"),
        [
            (b"<html>we are down</html>", "no JSON"),
            (b'{"query": {"pages": [', "no JSON"),
            (b"[1, 2]", "no JSON object"),
            (b'{"error": {"code": "readapidenied", "info": "You need read permission"}}', "readapidenied"),
            (b'{"error": "what"}', "api_error"),
            (b"[" * 100_000, "no JSON"),
            ((403, b"forbidden"), "status 403"),
            ((503, b"down"), "status 503"),
        ],
    )
    def test_an_answer_that_is_none(self, tmp_path, small, sent, told):
        small.broken = [sent] * 2
        with pytest.raises(RunError, match=told):
            run(tmp_path, source(small, titles=("Alma",), retries=1))
        small.broken = []
        run(tmp_path, source(small, titles=("Alma",)))
        assert len(documents(tmp_path)) == 1

    @pytest.mark.parametrize(
        "sent", [b"{}", b'{"query": {}}', b'{"query": [{"general": 3}]}', b'{"query": {"general": []}}']
    )
    def test_something_that_is_no_wiki(self, tmp_path, small, sent):
        small.broken = [sent]
        with pytest.raises(UserError, match="does not answer as a MediaWiki"):
            run(tmp_path, source(small, titles=("Alma",)))

    def test_a_wiki_without_extracts(self, tmp_path, small):
        small.extracts = False
        with pytest.raises(UserError, match="no TextExtracts"):
            run(tmp_path, source(small, titles=("Alma",)))
        run(tmp_path / "w", source(small, titles=("Alma",), extractor="wikitext"))

    def test_an_answer_that_continues_in_a_circle(self, tmp_path, small):
        site = json.dumps({"query": small._siteinfo()}).encode()
        circle = b'{"continue": {"continue": "||", "a": "1"}, "query": {"pages": []}}'
        small.broken = [site, circle, circle, circle]
        with pytest.raises(RunError, match="circle"):
            run(tmp_path, source(small, titles=("Alma",)))

    def test_nothing_at_all(self, tmp_path, small):
        with pytest.raises(RunError, match=r"no page of .* gave a record: 1 missing") as caught:
            run(tmp_path, source(small, titles=("Nincs",)))
        assert "titles" in caught.value.mend

    def test_a_public_wiki_needs_a_contact(self, tmp_path):
        with pytest.raises(UserError, match="needs a contact"):
            run(tmp_path, WikipediaSource(name="w", site="am", random=3))


JUNK = (None, 0, -1, 2**70, "", "junk\n\u0000", [], {}, [[]], {"a": 1}, ["x"], True, 0.5, "||", "\ud800")


def mangled(answer, draw):
    """An answer with one value in it replaced by junk."""
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                walk(value[key])

    answer = json.loads(json.dumps(answer))
    walk(answer)
    value, key = draw.choice(places)
    value[key] = draw.choice(JUNK)
    return answer


@pytest.mark.parametrize("extractor", ["extracts", "wikitext"])
def test_answers_with_junk_in_them_give_records_or_one_error(tmp_path, small, extractor, seed):
    draw = random.Random(seed)
    small.mangle = lambda answer: mangled(answer, draw) if draw.random() < 0.5 else answer
    ended = Counter()
    for number in range(30):
        given = source(
            small, titles=("Apple", "nincs"), categories=("Gyümölcs",), recent_changes=True, random=3,
            extractor=extractor, retries=0,
        )  # fmt: skip
        try:
            run(tmp_path / f"{number}", given)
            ended["records"] += 1
        except (RunError, UserError):
            ended["error"] += 1
    assert ended["records"]


class TestSettings:
    @pytest.mark.parametrize(
        ("site", "api"),
        [
            ("am", "https://am.wikipedia.org/w/api.php"),
            ("zh-min-nan", "https://zh-min-nan.wikipedia.org/w/api.php"),
            ("hu.wikibooks.org", "https://hu.wikibooks.org/w/api.php"),
            ("http://127.0.0.1:8080/api.php", "http://127.0.0.1:8080/api.php"),
        ],
    )
    def test_sites(self, site, api):
        assert WikipediaSource(name="w", site=site, random=1).api == api

    @pytest.mark.parametrize(
        ("params", "told"),
        [
            ({}, "either `site`"),
            ({"site": "hu", "paths": ("a.xml",)}, "either `site`"),
            ({"site": "hu"}, "say which pages"),
            ({"site": "https://hu.wikipedia.org/", "random": 1}, "URL of its api.php"),
            ({"site": "ftp://x/api.php", "random": 1}, "is no wiki"),
            ({"site": "hu", "random": 1, "depth": 2}, "`depth` is that of `categories`"),
            ({"site": "hu", "titles": ("a|b",)}, "no title of a page"),
            ({"site": "hu", "titles": (" ",)}, "no title of a page"),
            ({"paths": ("a.xml",), "random": 5}, "`random` chooses pages of a `site`"),
            ({"paths": ("a.xml",), "extractor": "extracts"}, "extractor: wikitext"),
            ({"paths": ("ftp://x/a.xml\n", "http://u:p@x/a.xml")}, "not an http or https URL"),
        ],
    )
    def test_what_is_refused_names_the_fix(self, params, told):
        with pytest.raises(ValidationError, match=told):
            WikipediaSource(name="w", **params)
