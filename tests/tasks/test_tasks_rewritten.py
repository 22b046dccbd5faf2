"""Steps whose inputs a text was taken out of: what is built anew, what is not, and who waits for whom."""

from __future__ import annotations

import threading
import time

import pytest
from steps_made import Orders, Words, chapter, model, page, write

from storage.errors import RunError
from storage.rewrite import rewrite
from storage.store import Store
from tasks.step import step

pytestmark = pytest.mark.usefixtures("prefect_server")


@step("collect", version=1, pure=False)
def edition(work, parent, *, params: Words, runtime: Orders, report):
    """A later edition of `page`."""
    return write(work, params, runtime, report)


@step("evaluate", version=1)
def verdict(work, trained, *, params: Words, runtime: Orders, report):
    """Built on a model."""
    return write(work, params, runtime, report)


@step("export", version=1)
def copy(work, judged, *, params: Words, runtime: Orders, report):
    """Built on an evaluation."""
    return write(work, params, runtime, report)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def settings(**orders):
    return {"params": Words(), "runtime": Orders(**orders)}


def change(artifact):
    rewrite(artifact.path, lambda _, target: (target / "half.txt").write_text("less") and None)


def test_what_is_built_on_texts_is_built_anew_and_an_edition_keeps_its_parent(store):
    first = page(store, **settings())
    second = edition(store, [first], **settings())
    built = chapter(store, [first, second], **settings())
    change(first)
    assert edition(store, [first], **settings(fail="bug")) == second, "it is still the edition after the first"
    again = chapter(store, [first, second], **settings())
    assert again.key == Store.key("curate", 1, {"text": "hello"}, {"pages": [first.digest, second.digest]})
    assert again.key != built.key
    third = edition(store, [first], params=Words(text="third"), runtime=Orders())
    assert third.manifest.provenance.inputs[0].digest == first.digest, "provenance tells what it really saw"


def test_what_is_built_on_a_model_or_its_samples_is_not(store):
    trained = model(store, chapter(store, [], **settings()), **settings())
    judged = verdict(store, trained, **settings())
    exported = copy(store, judged, **settings())
    change(judged)
    change(trained)
    assert verdict(store, trained, **settings(fail="bug")) == judged
    assert copy(store, judged, **settings(fail="bug")) == exported


def test_a_step_waits_while_a_text_is_taken_out_and_then_says_that_its_input_changed(store, told):
    first = page(store, **settings())
    ended = []

    def build():
        try:
            ended.append(chapter(store, [first], **settings()))
        except RunError as error:
            ended.append(error)

    builder = threading.Thread(target=build)
    with store.alone():
        builder.start()
        until = time.monotonic() + 200
        while "takes a text out of the store; waiting" not in told():
            assert time.monotonic() < until
            time.sleep(0.05)
        change(first)
    builder.join(200)
    (error,) = ended
    assert "a text was taken out of the store while curate was about to use it" in error.what
    assert chapter(store, [first], **settings()).manifest.provenance.inputs[0].digest == first.digest


def test_an_untouched_input_is_built_on_after_the_wait(store, told):
    first = page(store, **settings())
    ended = []
    builder = threading.Thread(target=lambda: ended.append(chapter(store, [first], **settings())))
    with store.alone():
        builder.start()
        time.sleep(0.5)
        assert ended == []
    builder.join(200)
    assert ended[0].stage == "curate"
