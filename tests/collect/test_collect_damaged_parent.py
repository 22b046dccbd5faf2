"""A damaged file of an earlier edition costs its own records at most, and never in silence."""

import pytest
from frozen_site import FrozenSite, Reply
from test_collect_feed import article, feed_reply, item
from test_collect_feed import source as feed
from test_collect_unchanged import Editions
from test_collect_wiki_dumps import NAME, pages, write_dump
from wiki_server import WikiServer

from lmcore.collect.wikipedia import WikipediaSource
from storage.errors import RunError

TEXT = "The {0} is a thing that has been written about at length. {0} again, and {0} once more."
FAST = {"delay": 0, "retries": 2, "timeout": 10, "min_chars": 40}


def damage_first(editions):
    """Editions are named by the order in which they were made, so the first is the first that is read."""
    (path,) = (editions.folders[0] / "documents").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:100])


def test_a_wiki_is_asked_for_what_was_in_the_damaged_file_alone(tmp_path):
    told = []
    with WikiServer() as wiki:
        for name in ("Alma", "Korte", "Szilva"):
            wiki.put(name, TEXT.format(name))
        source = WikipediaSource(name="wiki", site=wiki.api, all_pages=True, **FAST)
        editions = Editions(tmp_path, source)
        editions.make()
        wiki.wait(10 * 24 * 3600)
        wiki.put("Dió", TEXT.format("Dió"))
        editions.make()
        wiki.texts.clear()
        damage_first(editions)
        editions.make(report=lambda done, total, note="": told.append(note))
        assert set(wiki.texts) == {1, 2, 3}, "the fourth lies in a healthy file"
    assert {text for text, _ in editions.texts().values()} == {
        TEXT.format(name) for name in ("Alma", "Korte", "Szilva", "Dió")
    }
    assert any("fetched anew" in note for note in told)


def test_entries_that_left_their_feed_are_not_lost_in_silence(tmp_path):
    found = {f"/story/{number}": article(number) for number in range(4)}
    with FrozenSite(pages={**found, "/feed": feed_reply(item(0), item(1))}) as site:
        editions = Editions(tmp_path, feed(site))
        editions.make()
        site.replies["/feed"] = [feed_reply(item(2), item(3))]
        editions.make()
        damage_first(editions)
        with pytest.raises(RunError, match="2 records of the edition before") as error:
            editions.make()
        assert "backup" in error.value.mend


def test_records_of_a_dump_that_is_not_sent_again_are_not_lost_in_silence(tmp_path):
    packed = write_dump(tmp_path / NAME, pages(5)).read_bytes()
    dump = Reply(body=packed, content_type="application/x-bzip2")
    with FrozenSite(pages={f"/{NAME}": dump}) as site:
        editions = Editions(tmp_path, WikipediaSource(name="dump", paths=(f"{site.url}/{NAME}",), min_chars=20))
        editions.make()
        editions.make()
        assert len(editions.texts()) == 5
        damage_first(editions)
        with pytest.raises(RunError, match="5 records of the edition before"):
            editions.make()
