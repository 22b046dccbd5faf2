"""Mistakes, bad sites, full and read-only disks, damaged files, two runs at once: said in two lines, nothing lost."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import shutil
import subprocess
import time
from collections import Counter

import pytest
from frozen_site import FrozenSite, Reply, frozen_pages
from helpers_flows import (
    PATIENCE,
    collect,
    digests,
    finish,
    frozen_site,
    start,
    states,
    unfinished,
    web_source,
    write_recipe,
)

from lmcore.collect.editions import load_edition
from storage.atomic import FAULT_VARIABLE
from storage.catalog import Catalog
from storage.parquet import read_parquet
from storage.store import STAGES, Store

FRENCH = (
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité. De plus, il ne sera fait "
    "aucune distinction fondée sur le statut politique, juridique ou international du pays dont une personne est "
    "ressortissante, que ce pays soit indépendant, sous tutelle, non autonome ou soumis à une limitation quelconque."
)
FIRST = ("--edition", "first")  # so that two stores can be compared


@pytest.fixture(scope="module")
def site():
    with frozen_site() as site:
        yield site


@pytest.fixture(scope="module")
def recipe(site, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), web_source(site.url))


@pytest.fixture(scope="module")
def whole(recipe, shared_server, tmp_path_factory):
    """A finished store, which no test changes."""
    store = tmp_path_factory.mktemp("whole") / "store"
    collect("run", recipe, *FIRST, store=store, env=shared_server)
    return store


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store")


def one(store, stage):
    (artifact,) = Store(store).artifacts(stage)
    return artifact


def truncate(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


class TestMistakes:
    """Told before anything starts, and before anything is made."""

    @pytest.mark.parametrize(
        ("args", "what", "mend"),
        [
            (["quickstrat"], "there is no recipe 'quickstrat'", "did you mean quickstart?"),
            (["nowhere/at-all.yaml"], "there is no recipe 'nowhere/at-all.yaml'", "packaged recipes: amharic, "),
            (["quickstart", "--set", "train.stesp=3"], "unknown key train.stesp", "did you mean steps?"),
            (["quickstart", "--set", "vocab_size=99"], "unknown key vocab_size", "it belongs at tokenizer.vocab_size"),
            (["quickstart", "--set", "train.batch=many"], "train.batch: Input should be a valid integer", "Sequences"),
            (["quickstart", "--set", "model.n_heads=3"], "d_model 128 is not a multiple of n_heads 3", ""),
            (["quickstart", "--set", "train.steps"], "'train.steps' is not of the form a.b=value", "--set train."),
            (["quickstart", "--until", "trian"], "there is no stage 'trian'", "collect, measure, compare, curate"),
            (["quickstart", "--from", "train", "--until", "curate"], "--from train comes after", "the order is"),
            (["quickstart", "--store", "s3://bucket/store"], "s3://bucket/store is not a local folder", "--store"),
        ],
    )  # fmt: skip
    def test_of_a_command(self, tmp_path, args, what, mend):
        store = () if "--store" in args else ("--store", str(tmp_path / "store"))
        done = collect("run", *args, *store, code=2)
        assert what in done.error[0]
        assert mend in done.error[1]
        assert not (tmp_path / "store").exists()
        assert done.seconds < 30

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("name: [", "is not valid YAML"),
            ("- a\n- b\n", "does not hold a recipe"),
            ("name: twice\nname: twice\n", "stands twice"),
            ("name: x\ntrain: {steps: 1}\n", "sources is missing"),
            ("extends: bad.yaml\n", "extends itself"),
            ("name: x\nsources: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
            (b"\xff\xfe\x00", "cannot read the recipe"),
        ],
    )
    def test_in_a_recipe(self, tmp_path, text, what):
        path = tmp_path / "bad.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = collect("run", str(path), store=tmp_path / "store", code=2)
        assert what in done.error[0]
        assert "bad.yaml" in done.error[0]
        assert not (tmp_path / "store").exists()


@pytest.mark.slow
class TestBadSites:
    @pytest.mark.parametrize(
        ("pages", "robots", "what"),
        [
            ({"/": Reply(404)}, "", "no page of 1 gave a record: 1 http_error (first reason: status 404)"),
            ({"/": Reply(500)}, "", "no page of 1 gave a record: 1 unavailable (first reason: status 500)"),
            (frozen_pages(), "User-agent: *\nDisallow: /\n", "no page of 1 gave a record: 1 robots_denied"),
            (frozen_pages(), Reply(500), "no page of 1 gave a record: 1 robots_unavailable"),
            ({"/": Reply(body="<p>Soon.</p>")}, "", "no page of 1 gave a record: 1 short"),
        ],
        ids=["404", "500", "robots", "robots-500", "short"],
    )
    def test_an_empty_crawl(self, tmp_path, shared_server, pages, robots, what):
        with FrozenSite(pages=pages, robots=robots) as site:
            recipe, store = write_recipe(tmp_path, web_source(site.url)), tmp_path / "store"
            done = collect("run", recipe, store=store, env=shared_server, code=1)
            assert f"source frozen: {what}" in done.error[0]
            assert not (store / "collect").exists()
            # The site has been mended: the same command now works.
            site.replies = {path: [reply] for path, reply in frozen_pages().items()} | {"/robots.txt": [Reply(404)]}
            done = collect("run", recipe, "--until", "collect", store=store, env=shared_server)
            assert one(store, "collect").metrics["records"] > 20

    def test_a_site_that_is_down(self, tmp_path, shared_server):
        with FrozenSite(pages={}) as site:
            url = site.url
        recipe = write_recipe(tmp_path, web_source(url))
        done = collect("run", recipe, store=tmp_path / "store", env=shared_server, code=1)
        assert "1 robots_unavailable (first reason: robots.txt: Connection refused)" in done.error[0]
        assert "try again later" in done.error[1]

    def test_bad_pages_among_good_ones(self, tmp_path, shared_server):
        pages = frozen_pages()
        body = gzip.compress(b"<p>" + b"This page is cut short on its way. " * 500 + b"</p>", mtime=0)

        def slowly(handler):
            handler.send_response(200)
            handler.end_headers()
            for _ in range(60):
                handler.wfile.write(b"<p>Wait a little.</p>")
                handler.wfile.flush()
                time.sleep(0.25)

        def endlessly(handler):
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html")
            handler.end_headers()
            for _ in range(50):
                handler.wfile.write(b"<p>Fifty million bytes of it.</p> " * 30_000)

        bad = {
            "/bad/slow": Reply(act=slowly),
            "/bad/cut": Reply(body=body[: len(body) // 2], headers={"Content-Encoding": "gzip"}),
            "/bad/charset": Reply(
                body=f"<p>{FRENCH}</p>".encode("cp1252"),
                content_type="text/html; charset=klingon",
            ),
            "/bad/huge": Reply(act=endlessly),
            "/bad/bomb": Reply(body=gzip.compress(b"a" * 50_000_000, mtime=0), headers={"Content-Encoding": "gzip"}),
            "/bad/loop": Reply(302, headers={"Location": "/loop"}),
            "/bad/500": Reply(500),
            "/bad/picture": Reply(body=b"\x89PNG\r\n" + bytes(range(256)) * 40, content_type="image/png"),
            "/bad/empty": Reply(body=b""),
        }
        pages["/loop"] = Reply(302, headers={"Location": "/bad/loop"})
        links = "".join(f'<a href="{path}">x</a> ' for path in [*bad, "/bad/nothing"])
        pages["/"] = Reply(body=pages["/"].body.replace("</main>", links + "</main>"))
        with FrozenSite(pages=pages | bad) as site:
            source = web_source(site.url, max_pages=35, timeout=6, max_bytes=2_000_000)
            # Its port is any: which pages the splits get is a matter of chance here.
            gates = {"min_documents": 15, "min_train_bytes": 10_000, "min_val_documents": 0, "min_test_documents": 0}
            recipe, store = write_recipe(tmp_path, source, curate={"gates": gates}), tmp_path / "store"
            done = collect("run", recipe, "--until", "curate", store=store, env=shared_server)
        assert states(done) == dict.fromkeys(STAGES[:4], "Completed")
        rows = read_parquet(one(store, "collect").path / "provenance" / "fetch_log.parquet").to_pylist()
        log = {row["url"].removeprefix(site.url): row for row in rows}
        assert log.keys() > bad.keys()
        outcomes = {path.removeprefix("/bad/"): row["outcome"] for path, row in log.items() if path.startswith("/bad")}
        assert outcomes == {
            "slow": "too_slow", "cut": "truncated", "charset": "ok", "huge": "too_large", "bomb": "too_large",
            "loop": "redirect_loop", "500": "unavailable", "picture": "content_type", "empty": "no_text",
            "nothing": "http_error",
        }  # fmt: skip
        assert all(row["reason"] for row in rows if row["outcome"] != "ok"), "every failure has a reason"
        texts = {row["url"].removeprefix(site.url): row["text"] for row in documents(store)}
        assert FRENCH in texts["/bad/charset"]
        assert Counter(row["outcome"] for row in rows)["ok"] == len(texts) > 20
        assert one(store, "collect").metrics["failed"] == sum(
            row["outcome"] not in ("ok", "no_text", "short") for row in rows
        )

    def test_one_source_of_two(self, tmp_path, shared_server):
        """What the good source collected is kept while the bad one is mended."""
        (tmp_path / "texts").mkdir()
        for number, (_path, reply) in enumerate(frozen_pages().items()):
            if isinstance(reply.body, str):
                (tmp_path / "texts" / f"{number:02d}.html").write_text(reply.body)
        files = {"name": "disk", "kind": "files", "paths": ["texts"]}
        with FrozenSite(pages={"/": Reply(500)}) as site:
            recipe, store = write_recipe(tmp_path, web_source(site.url), files), tmp_path / "store"
            done = collect("run", recipe, "--until", "curate", store=store, env=shared_server, code=1)
            assert "source frozen: no page of 1 gave a record" in done.error[0]
            assert re.search(r"✓ collect disk +Completed", done.out)
            assert re.search(r"✗ collect frozen +Failed", done.out)
            site.replies = {path: [reply] for path, reply in frozen_pages().items()}
            done = collect("run", recipe, "--until", "curate", store=store, env=shared_server)
        assert re.search(r"= collect disk +Reused", done.out)
        assert re.search(r"✓ collect frozen +Completed", done.out)
        records = [artifact.metrics["records"] for artifact in Store(store).artifacts("collect")]
        assert len(records) == 2
        assert min(records) > 20
        assert one(store, "curate").metrics["input_documents"] == sum(records)


def documents(store):
    return load_edition(one(store, "collect").path, lambda digest: pytest.fail("no parent")).to_pylist()


@pytest.mark.slow
class TestUnfitText:
    def test_a_corpus_under_the_gates(self, recipe, copy, shared_server):
        gates = ("--set", "curate.gates.min_documents=5000", "--set", "curate.gates.max_dropped_share=0.01")
        done = collect("run", recipe, *FIRST, *gates, store=copy, env=shared_server, code=1)
        what, mend = done.error
        kept = one(copy, "curate").metrics["kept_documents"]
        assert f"fails 2 data gates: min_documents is {kept}, the limit is 5,000; max_dropped_share is" in what
        assert "curate.gates.min_documents" in mend
        told = mend.rpartition("why each text went: ")[2].strip("`")
        query = told.partition('"')[2].rstrip('"')
        assert Catalog(Store(copy)).query(query).num_rows == one(copy, "collect").metrics["records"]
        assert states(done) == dict.fromkeys(("collect", "measure", "compare"), "Reused") | {"curate": "Failed"}

    def test_a_vocabulary_that_the_text_cannot_fill(self, recipe, copy, shared_server):
        size = ("--set", "tokenizer.vocab_size=60000", "--set", "tokenizer.cap=false")
        what, mend = collect("run", recipe, *FIRST, *size, store=copy, env=shared_server, code=1).error
        found = re.search(r"fill a vocabulary of ([\d,]+) tokens, not 60,000", what).group(1).replace(",", "")
        assert f"set tokenizer.vocab_size to {found} or less" in mend
        size = ("--set", f"tokenizer.vocab_size={found}", "--set", "tokenizer.cap=false")
        done = collect("run", recipe, *FIRST, *size, "--until", "tokenizer", store=copy, env=shared_server)
        assert f"vocab size {int(found):,}," in done.out


@contextlib.contextmanager
def mounted(folder, size):
    """A small file system in memory; skips the test where mounting is refused."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        reason = f"mounting is refused here: {done.stderr.strip()}"
        print(reason)
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.mark.slow
class TestDisk:
    @pytest.mark.timeout(600)
    def test_a_full_one_is_named_and_costs_nothing(self, recipe, whole, shared_server, tmp_path):
        with mounted(tmp_path / "small", "100k") as small:
            store, failed = small / "store", []
            collected = whole / "collect" / one(whole, "collect").key
            for size in ("100k", "700k", "1500k", "1700k"):
                remount(small, f"size={size}")
                done = collect("run", recipe, *FIRST, store=store, env=shared_server, code=None)
                if done.code == 0:
                    break
                assert done.code == 1, done
                what, mend = done.error
                assert re.search(rf"disk full while writing {small}/\S+", what), done.err
                assert "run the same command again" in mend
                failed.append(what)
            assert len(failed) >= 2
            remount(small, "size=64m")
            collect("run", recipe, *FIRST, store=store, env=shared_server)
            assert digests(store) == digests(whole), failed
            assert unfinished(store) == []
            assert one(store, "collect").key == collected.name

    @pytest.mark.timeout(600)
    def test_one_too_small_for_the_training_is_told_before_it(self, recipe, whole, shared_server, tmp_path):
        with mounted(tmp_path / "small", "64m") as small:
            store = small / "store"
            for stage in ("collect", "measure", "compare", "curate", "tokenizer", "tokens", "editions"):
                shutil.copytree(whole / stage, store / stage)
            left = subprocess.run(["du", "-sk", str(small)], capture_output=True, text=True, check=True).stdout.split()[
                0
            ]
            remount(small, f"size={int(left) + 400}k")
            done = collect("run", recipe, *FIRST, store=store, env=shared_server, code=1)
            assert states(done)["tokens"] == "Reused"
            assert states(done)["train"] == "Failed"
            assert re.search(rf"{small}/\S+ needs [\d.]+ MiB more for \d+ checkpoints", done.error[0]), done.err
            assert "runtime.train.keep_checkpoints" in done.error[1]
            remount(small, "size=64m")
            collect("run", recipe, *FIRST, store=store, env=shared_server)
            assert digests(store) == digests(whole)

    @pytest.mark.timeout(600)
    def test_a_full_one_in_the_midst_of_training(self, recipe, whole, copy, shared_server):
        shutil.rmtree(copy / "train")
        env = {**shared_server, FAULT_VARIABLE: "train.checkpoint.before-rename=enospc"}
        done = collect("run", recipe, *FIRST, store=copy, env=env, code=1)
        assert states(done)["train"] == "Failed"
        assert re.search(rf"disk full while writing {copy}/\.work/train-\S+", done.error[0]), done.err
        done = collect("run", recipe, *FIRST, store=copy, env=shared_server)
        assert digests(copy) == digests(whole)

    @pytest.mark.timeout(600)
    def test_without_room_for_the_embedded_server(self, recipe, tmp_path):
        with mounted(tmp_path / "small", "4m") as small:
            what, mend = collect("run", recipe, store=small / "store", code=1).error
            assert re.search(rf"disk full.* {small}/store/.prefect", what)
            assert "free space" in mend

    def test_a_refusal_while_a_table_is_written(self, recipe, whole, copy, shared_server):
        shutil.rmtree(copy / "curate")
        env = {**shared_server, FAULT_VARIABLE: "parquet.write:2=enospc"}
        done = collect("run", recipe, *FIRST, store=copy, env=env, code=1)
        assert re.search(rf"disk full while writing {copy}/\.work/curate-\S+", done.error[0])
        done = collect("run", recipe, *FIRST, store=copy, env=shared_server)
        assert "continues after an interruption (attempt 2)" in done.out
        assert digests(copy) == digests(whole)

    def test_a_read_only_one_is_named_and_can_be_looked_at(self, recipe, whole, shared_server, tmp_path):
        with mounted(tmp_path / "mount", "64m") as mount:
            store = shutil.copytree(whole, mount / "store")
            remount(mount, "ro")
            for env in (shared_server, {}):
                what, mend = collect("run", recipe, *FIRST, store=store, env=env, code=1).error
                assert re.search(rf"{store}/\S+ is on a read-only file system", what)
                assert "--store" in mend
            assert "champion tiny@1" in collect("status", store=store).out
            assert "10 rows" in collect("sql", "select * from artifacts", store=store).out
            assert collect("generate", "tiny", "The", "--max-tokens", "3", store=store).out.startswith("The")
            assert "0 damaged" in collect("verify", store=store).out


@pytest.mark.slow
class TestDamage:
    def test_a_truncated_table_is_set_aside_and_built_again(self, recipe, whole, copy, shared_server):
        curate = one(copy, "curate")
        truncate(curate.path / "train" / "000-00000.parquet")
        done = collect("run", recipe, *FIRST, "--from", "train", store=copy, env=shared_server, code=1)
        assert f"{curate.path} is damaged: train/000-00000.parquet has" in done.error[0]
        done = collect("run", recipe, *FIRST, store=copy, env=shared_server)
        aside = copy / ".aside" / f"curate-{curate.key}-1"
        assert re.search(rf"damaged \(train/000-00000\.parquet has .* bytes.*\), set aside in {aside}", done.out)
        assert states(done) == dict.fromkeys(STAGES, "Reused") | {"curate": "Completed"}
        assert "stale" not in done.out, "it is a function of its inputs, and what was built from it stays right"
        assert "train/000-00000.parquet has" in (aside / "reason.txt").read_text()
        assert digests(copy) == digests(whole)

    def test_verify_finds_what_a_run_does_not_look_for(self, recipe, whole, copy, shared_server):
        model = one(copy, "train").path / "model.safetensors"
        data = bytearray(model.read_bytes())
        data[-100] ^= 1
        model.write_bytes(data)
        one(copy, "tokens").file("meta.json").unlink()
        manifest = one(copy, "export").path / "manifest.json"
        truncate(manifest)
        done = collect("verify", store=copy, code=1)
        assert "model.safetensors has other bytes than its manifest says" in done.out
        assert "meta.json is missing" in done.out
        assert "manifest.json is damaged" in done.out
        assert re.search(r"built from it: evaluate/\w{12}", done.out)
        assert "10 artifacts verified, 3 damaged" in done.out
        # The champion's model is gone: it is said, and a run makes it again.
        assert collect("generate", "tiny", "The", store=copy, code=1).error
        done = collect("run", recipe, *FIRST, store=copy, env=shared_server)
        assert [stage for stage, state in states(done).items() if state == "Completed"] == ["tokens", "train", "export"]
        assert digests(copy) == digests(whole)

    def test_a_damaged_collection_makes_what_was_built_from_it_stale(self, site, recipe, whole, copy, shared_server):
        old = one(copy, "collect")
        (old.path / "manifest.json").write_text("{")
        article = next(path for path in site.replies if path.startswith("/article/"))
        before = site.replies[article]
        body = before[-1].body
        site.replies[article] = [Reply(body=body.replace("</h1>", "</h1><p>" + "The site has changed. " * 20 + "</p>"))]
        try:
            done = collect("run", recipe, *FIRST, store=copy, env=shared_server)
        finally:
            site.replies[article] = before
        assert "manifest.json is damaged" in done.out
        stale = re.search(r"built from the damaged one and stale now: (.*)", done.out).group(1)
        assert [name.split("/")[0] for name in stale.split(", ")] == list(STAGES[1:])
        assert states(done)["collect"] == "Completed"
        assert one(copy, "collect").key == old.key
        assert digests(copy)["collect"] != digests(whole)["collect"]
        assert states(done)["curate"] == "Completed", "it is not built on what was not looked at"

    def test_a_truncated_checkpoint(self, recipe, whole, copy, shared_server):
        shutil.rmtree(copy / "train")
        env = {**shared_server, FAULT_VARIABLE: "train.before-out"}
        collect("run", recipe, *FIRST, store=copy, env=env, code=1)
        checkpoints = sorted(copy.glob(".work/train-*/checkpoints/step-*"))
        assert len(checkpoints) == 2
        truncate(checkpoints[-1] / "optimizer.safetensors")
        done = collect("run", recipe, *FIRST, store=copy, env=shared_server)
        assert re.search(rf"train +.*{checkpoints[-1].name}.*optimizer\.safetensors", done.out), done.out
        assert "resuming at step 20" in done.out
        assert digests(copy) == digests(whole)


@pytest.mark.slow
class TestTwoAtOnce:
    def test_one_builds_and_the_other_waits_and_reuses(self, site, recipe, whole, shared_server, tmp_path):
        store, asked = tmp_path / "store", Counter(site.hits)
        runs = [start("run", recipe, *FIRST, store=store, env=shared_server) for _ in range(2)]
        ended = [finish(run, patience=2 * PATIENCE) for run in runs]
        assert [done.code for done in ended] == [0, 0], ended
        for stage in STAGES:
            assert sorted(states(done)[stage] for done in ended) == ["Completed", "Reused"], f"{stage}: {ended}"
        assert any("builds it; waiting" in done.out for done in ended)
        assert digests(store) == digests(whole)
        assert max((site.hits - asked).values()) == 1, "no page was asked for twice"
        registry = json.loads((store / "registry" / "tiny.json").read_text())
        assert (len(registry["releases"]), registry["champion"]) == (1, 1)

    def test_on_a_damaged_artifact(self, recipe, whole, copy, shared_server):
        truncate(one(copy, "tokens").path / "train" / "00000.bin")
        runs = [start("run", recipe, *FIRST, store=copy, env=shared_server) for _ in range(2)]
        ended = [finish(run, patience=2 * PATIENCE) for run in runs]
        assert [done.code for done in ended] == [0, 0], ended
        assert sorted(states(done)["tokens"] for done in ended) == ["Completed", "Reused"]
        assert len(list((copy / ".aside").iterdir())) == 1
        assert digests(copy) == digests(whole)

    def test_the_one_that_waits_when_the_builder_is_killed(self, recipe, whole, copy, shared_server):
        """Killed between publishing and tidying up: the other finds the artifact and the work folder."""
        for stage in ("evaluate", "export", "release"):
            shutil.rmtree(copy / stage)
        env = {**shared_server, FAULT_VARIABLE: "store.publish.after-rename"}
        doomed = start("run", recipe, *FIRST, store=copy, env=env)
        end = time.monotonic() + PATIENCE
        while not list(copy.glob(".work/evaluate-*")):
            assert time.monotonic() < end
            time.sleep(0.02)
        other = start("run", recipe, *FIRST, store=copy, env=shared_server)
        assert finish(doomed).code == -9
        assert finish(other).code == 0
        assert unfinished(copy) == []
        assert digests(copy) == digests(whole)

    def test_with_their_own_servers(self, recipe, whole, copy):
        shutil.rmtree(copy / "release")
        runs = [start("run", recipe, *FIRST, store=copy) for _ in range(2)]
        ended = [finish(run, patience=2 * PATIENCE) for run in runs]
        assert [done.code for done in ended] == [0, 0], ended
        assert digests(copy) == digests(whole)
