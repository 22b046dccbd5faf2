"""`collect-train forget`: take a text out of the store, after saying exactly what that means."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.look import human_bytes
from lmcore.forget.takedown import Takedown, carry_out, plan_takedown
from storage.errors import RunError, UserError
from storage.locks import Locked, holder
from storage.store import Store
from storage.text import printable


def forget(store: Store, what: str, console: Console, *, yes: bool) -> None:
    """Say what forgetting `what` (a URL, or a record id of at least 8 digits) would do; with `yes`, do it.

    Raises UserError when nothing is known of it, RunError when the store is in use or damaged.
    """
    if not store.root.is_dir():
        raise UserError(f"there is no store at {store.root}", "name it with --store DIR")
    say = _Speaker(console, store.root)
    if not yes:
        takedown = plan_takedown(store, what)
        _describe(takedown, say)
        if _is_settled(takedown):
            return
        say("nothing has been changed; to do it, add --yes (an exact copy of the store is the only way back)", "bold")
        return
    try:
        with store.alone():
            takedown = plan_takedown(store, what)
            _describe(takedown, say)
            if _is_settled(takedown):
                return
            carry_out(store, takedown, lambda line: say(f"  {line}", "dim"))
    except Locked as error:
        raise RunError(
            f"the store {store.root} is in use{_by_whom(store.root)}",
            "wait for it or stop it (it goes on later where it stopped), then run the same command again",
        ) from error
    say("forgotten: the store was searched again and nothing of it is left", "bold green")
    say("the next run builds anew what was built on it; `collect-train verify` checks every file")


class _Speaker:
    def __init__(self, console: Console, root: Path) -> None:
        self._console = console
        self._root = f"{root}{os.sep}"

    def __call__(self, line: str, style: str = "") -> None:
        self._console.print(Text(printable(line.replace(self._root, "")), style=style), soft_wrap=True)

    def several(self, heading: str, lines: list[str], style: str = "") -> None:
        """A heading and what is under it; nothing when there is nothing."""
        if lines:
            self(heading, "bold")
            for line in lines:
                self(f"  {line}", style)


def _is_settled(takedown: Takedown) -> bool:
    return takedown.nothing_left and takedown.known is not None and takedown.known.finished is not None


def _describe(takedown: Takedown, say: _Speaker) -> None:
    found = takedown.found
    say(found.what, "bold")
    if _is_settled(takedown):
        assert takedown.known is not None
        say(f"forgotten since {takedown.known.finished}; nothing of it is in the store")
    texts = [
        f"{row['record_id'][:12] or 'not yet a record'}  {row['source'] or 'a crawl'}  "
        f"{human_bytes(len(row['text'].encode()))}  {row['url']}  {row['title'][:60]!r}"
        for _, row in sorted(found.rows.items())
    ]
    say.several("texts that are meant by it", texts)
    say.several("will never be collected again from", sorted(found.lasting_urls))
    say.several(
        "taken out of these artifacts; they keep their keys and get other content digests",
        [f"{a.stage}/{a.key}" for a in takedown.rewrites],
    )
    say.several(
        "quoted in these files; the letters of the quotes become x",
        [str(path) for path, _ in takedown.quoting],
    )
    say.several("removed", [f"{path} ({why})" for path, why in takedown.leftovers], "yellow")
    say.several("taken out of unfinished crawls", [str(path) for path in takedown.crawls])
    tombstone = takedown.tombstone
    say.several("models that learnt from it; NOT changed, weights cannot forget a text", _models(takedown), "yellow")
    say.several(
        "vocabularies learnt from texts that it was among; NOT changed",
        [f"tokenizer/{key}" for key in tombstone.tokenizers],
        "yellow",
    )
    if tombstone.models:
        say("a recipe with train.init_from: champion goes on from such weights: --set train.init_from=scratch does not")
    say(f"{takedown.searched:,} other files were searched for quotes", "dim")


def _models(takedown: Takedown) -> list[str]:
    lines = [f"release {name}" for name in takedown.releases]
    lines += [f"train/{key}" for key in takedown.tombstone.models]
    return lines + [f"export/{artifact.key}" for artifact in takedown.exports]


def _by_whom(root: Path) -> str:
    """Which stages are being built there, as far as the locks tell."""
    held = {path.name.partition("-")[0]: pid for path in sorted((root / ".locks").glob("*-*")) if (pid := holder(path))}
    told = ", ".join(f"process {pid} builds {stage}" for stage, pid in held.items())
    return f" ({told})" if told else ""
