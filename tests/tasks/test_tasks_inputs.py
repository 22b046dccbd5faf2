"""Inputs that a stage got later, and artifacts that a flow takes as they are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prefect import flow
from steps_made import Orders, Words, chapter, model, write

from storage.store import Artifact, Store
from tasks.step import keep, step

pytestmark = pytest.mark.usefixtures("prefect_server")


@step("train", version=1, pure=lambda params: params.text != "minutes")
def later(work, corpus: Artifact, start: Sequence[Artifact] = (), *, params: Words, runtime: Orders, report):
    """The step `model` a year later: it may start from something."""
    return write(work, params, runtime, report, "".join(artifact.digest for artifact in start))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def settings(**orders):
    return {"params": Words(), "runtime": Orders(**orders)}


def test_an_input_added_later_renames_nothing_while_it_is_empty(store):
    corpus = chapter(store, [], **settings())
    before = model(store, corpus, **settings())
    assert later(store, corpus, [], **settings(fail="bug")) == before, "what was built before is found"
    warm = later(store, corpus, [before], **settings())
    assert warm.key != before.key
    assert warm.key == Store.key("train", 1, {"text": "hello"}, {"corpus": corpus.digest, "start": [before.digest]})
    entries = warm.manifest.provenance.inputs
    assert [(entry.name, entry.key) for entry in entries] == [("corpus", corpus.key), ("start", before.key)]
    assert later(store, corpus, [before], **settings(fail="bug")) == warm


def test_the_key_is_known_before_anything_is_built(store):
    corpus = chapter(store, [], **settings())
    asked = {"corpus": corpus, "start": []}
    assert later.key(asked, Words()) == model.key({"corpus": corpus}, Words()) == later.key({"corpus": corpus}, Words())
    warm = later.key({"corpus": corpus, "start": [corpus]}, Words())
    assert later(store, corpus, [corpus], **settings()).key == warm


def test_an_artifact_that_is_kept_is_shown_as_its_stage(store, told, task_states):
    built = chapter(store, [], **settings())

    @flow(persist_result=False)
    def night():
        return keep(built, "the vocabulary of tiny@1")

    state = night(return_state=True)
    assert state.result() == built
    assert task_states(state.state_details.flow_run_id, 1) == [("curate", "Reused", "COMPLETED")]
    assert told().splitlines()[-1].split() == [
        "=",
        "curate",
        "Reused",
        built.key[:12],
        *["the", "vocabulary", "of", "tiny@1"],
    ]
