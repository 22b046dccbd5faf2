"""Is what the model writes built like the corpus's dialogue? Each figure beside the corpus's own.

Every text gives its beginning as the prompt; what the model makes of it is held beside as many tokens of the text's own
continuation, so that both were given the same and are as long: where the model ends its text early, the text's own is
cut there, for what is different and what is repeated depend on the length.

    closed_quotes   share of the quotation marks opened in a paragraph that are closed in it, over all texts
    alternation     share of neighbouring turns of a text that have different speakers; a turn is a line that begins
                    with a name and a colon ("Anna: ..."), or a tag (<user>)
    distinct_2      different pairs of neighbouring words / pairs, over all texts (Li et al. 2016, arXiv:1510.03055)
    repeated_3      share of the three-word sequences of a text that stood in it before, over all texts

A figure that nothing was counted for (no quotation mark, no two turns) is null. Words are runs of letters and digits
without regard to case; a Chinese or Japanese character is a word by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from lmcore.conversation import TAG
from lmcore.evaluate.probes import UNDIVIDED
from lmcore.evaluate.probes.settings import Dialogue
from lmcore.generate.engine import Generation
from lmcore.generate.many import generate_many
from lmcore.generate.sampling import Sampling
from lmcore.models.network import Network
from lmcore.progress import Report
from lmcore.tokenizer import Tokenizer

FIGURES = ("closed_quotes", "alternation", "distinct_2", "repeated_3")

_CLOSES = {"“": "”", "„": "”“", "«": "»", "‹": "›", "「": "」", "『": "』", "〝": "〟"}
_LABEL = re.compile(r"[ \t]*([^\W\d_][^:<>\n]{0,30}?)[ \t]*[:：](?=\s)")
_WORD = re.compile(rf"[{UNDIVIDED}]|[^\W_{UNDIVIDED}]+")
_PARAGRAPH = re.compile(r"\n\s*\n|\n")


def compare_dialogue(
    model: Network, tokenizer: Tokenizer, texts: Sequence[str], settings: Dialogue, sampling: Sampling, report: Report
) -> dict[str, Any]:
    """The figures of the model's continuations (`model`) and of the texts' own (`corpus`).

    `texts` of the kinds asked for, in order; those that are too short are passed over, and `texts` in the answer says
    how many were long enough. Each is sampled as `sampling` says, from a seed of its own, without its `stop`. `tokens`
    in the answer is how many the model wrote, and the corpus's continuations have, in all; `sampling` is what was set.
    """
    whole = settings.prompt_tokens + settings.tokens
    chosen: list[list[int]] = []
    for text in texts:
        if len(chosen) == settings.texts:
            break
        ids = tokenizer.encode(text)
        if len(ids) >= whole:
            chosen.append(ids[:whole])
    how = sampling.model_copy(update={"max_tokens": settings.tokens, "stop": ()})
    told_how = {"temperature": how.temperature, **how.model_dump(exclude_defaults=True, exclude={"max_tokens", "stop"})}
    if not chosen:
        nothing = {"model": dict.fromkeys(FIGURES), "corpus": dict.fromkeys(FIGURES)}
        return {"texts": 0, "tokens": 0, "sampling": told_how, **nothing}
    done = 0

    def told(_number: int, _result: Generation) -> None:
        nonlocal done
        done += 1
        report(done, len(chosen), f"{done:,} of {len(chosen):,} dialogues written")

    written = generate_many(
        model,
        tokenizer,
        [[tokenizer.bos_id, *ids[: settings.prompt_tokens]] for ids in chosen],
        [how.model_copy(update={"seed": how.seed + number}) for number in range(len(chosen))],
        on_done=told,
    )
    first = settings.prompt_tokens
    own = [ids[first : first + len(result.ids)] for ids, result in zip(chosen, written, strict=True)]
    return {
        "texts": len(chosen),
        "tokens": sum(map(len, own)),
        "sampling": told_how,
        "model": dialogue_figures(result.text for result in written),
        "corpus": dialogue_figures(map(tokenizer.decode, own)),
    }


def dialogue_figures(texts: Iterable[str]) -> dict[str, float | None]:
    """Each figure over all texts together; null where nothing was counted for it."""
    opened = closed = turns = changes = triples = repeats = pairs = 0
    different: set[tuple[str, str]] = set()
    for text in texts:
        for paragraph in _PARAGRAPH.split(text):
            one, other = quotes(paragraph)
            opened, closed = opened + one, closed + other
        said = [speaker for line in text.splitlines() for speaker in _speakers(line)]
        turns += max(0, len(said) - 1)
        changes += sum(one != two for one, two in pairwise(said))
        words = [word.casefold() for word in _WORD.findall(text)]
        pairs += max(0, len(words) - 1)
        different.update(pairwise(words))
        threes = list(zip(words, words[1:], words[2:], strict=False))
        triples += len(threes)
        repeats += len(threes) - len(set(threes))
    return {
        "closed_quotes": _share(closed, opened),
        "alternation": _share(changes, turns),
        "distinct_2": _share(len(different), pairs),
        "repeated_3": _share(repeats, triples),
    }


def quotes(paragraph: str) -> tuple[int, int]:
    """How many quotation marks a paragraph opens, and how many of these it closes.

    A straight one opens where none is open, and closes where one is; a closing mark without an opening one counts for
    nothing. Apostrophes are no quotation marks.
    """
    opened = closed = 0
    waiting: list[str] = []  # what would close each that is open
    for letter in paragraph:
        ends = next((depth for depth in range(len(waiting) - 1, -1, -1) if letter in waiting[depth]), None)
        if ends is not None:
            del waiting[ends:]
            closed += 1
        elif letter in _CLOSES or letter == '"':
            waiting.append(_CLOSES.get(letter, '"'))
            opened += 1
    return opened, closed


def _speakers(line: str) -> list[str]:
    """Who begins to speak in a line: those of its tags, else of its label."""
    tags = [role for closing, role in TAG.findall(line) if not closing]
    label = _LABEL.match(line)
    return tags or ([label[1]] if label else [])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
