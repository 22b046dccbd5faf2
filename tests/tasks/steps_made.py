"""Tiny steps of three stages; run as a program, it builds one of them in a process of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pydantic import Field

from lmcore.config import Params, Runtime
from storage.errors import RunError, UserError
from storage.store import Store
from tasks.step import step

FAILURES = {
    "user": UserError("wrong", "write it right"),
    "run": RunError("dead server", "wait"),
    "bug": KeyError("bug"),
    "ctrl-c": KeyboardInterrupt(),
    "sigterm": SystemExit(143),
}


class Words(Params):
    """What a step writes."""

    text: str = Field(default="hello", description="Content of the file.")


class Orders(Runtime):
    """What happens while it is written; nothing of it is in the key."""

    log: str = Field(default="", description="File that gets one character a build.")
    wait_for: str = Field(default="", description="The build goes on when this file exists.")
    fail: str = Field(default="", description="Name of the failure to raise half-way.")


def write(work, words, runtime, report, more=""):
    """One build: half of it, the orders, the other half."""
    out = work / "out"
    out.mkdir(exist_ok=True)
    with open(runtime.log or work / "log", "a") as log:
        log.write("x")
    if not (out / "half.txt").exists():
        (out / "half.txt").write_text(words.text)
    report(1, 2, "half of it")
    while runtime.wait_for and not Path(runtime.wait_for).exists():
        time.sleep(0.01)
    if runtime.fail:
        raise FAILURES[runtime.fail]
    (out / "rest.txt").write_text(words.text[::-1] + more)
    return {"characters": len(words.text), "name": words.text}


@step("collect", version=1, pure=False)
def page(work, *, params: Words, runtime: Orders, report):
    """Impure: every build leaves other bytes."""
    return write(work, params, runtime, report, str(time.time_ns()))


@step("curate", version=1)
def chapter(work, pages, *, params: Words, runtime: Orders, report):
    """Pure, built from a list of artifacts."""
    return write(work, params, runtime, report, "".join(p.file("half.txt").read_text() for p in pages))


@step("train", version=1, pure=lambda params: params.text != "minutes")
def model(work, corpus, *, params: Words, runtime: Orders, report):
    """Pure or not, as the settings say."""
    return write(work, params, runtime, report, corpus.file("rest.txt").read_text())


if __name__ == "__main__":
    folder, log, wait_for = sys.argv[1:]
    artifact = chapter(Store(folder), [], params=Words(), runtime=Orders(log=log, wait_for=wait_for))
    print(artifact.digest, artifact.manifest.provenance.attempts)
