"""What a claim may be about: each metric has one function that looks it up in what a finished run has left.

The first line of a function says what is measured; the page docs/expectations.md has them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lmcore.expect.times import Kind, Time

if TYPE_CHECKING:
    from lmcore.expect.finished import Finished

Unit = Literal["number", "bytes", "share", "nats", "bits", "rate", "seconds", "plain"]
Find = Callable[["Finished", Time], float]

END: tuple[Kind, ...] = ("end",)
STEPS: tuple[Kind, ...] = ("end", "start", "epoch N", "step N", "after stage N")
TEXTS: tuple[Kind, ...] = ("after stage curate", "after stage collect")


class NotMeasured(Exception):
    """The run has not left what the metric is read from; the message says why."""


@dataclass(frozen=True)
class Metric:
    """One thing that is measured."""

    name: str
    unit: Unit
    times: tuple[Kind, ...]  # when it may be asked for; the first is meant where a claim does not say
    find: Find  # raises NotMeasured, or RunError for a damaged file

    @property
    def says(self) -> str:
        """What it is, in one line."""
        return (self.find.__doc__ or "").partition("\n")[0]


METRICS: dict[str, Metric] = {}


def metric(unit: Unit, times: tuple[Kind, ...] = END) -> Callable[[Find], Find]:
    """Make a function the metric of its name."""

    def add(find: Find) -> Find:
        METRICS[find.__name__] = Metric(find.__name__, unit, times, find)
        return find

    return add


@metric("number")
def parameters(run: Finished, _: Time) -> float:
    """Parameters of the model; a matrix that embedding and head share counts once."""
    return float(run.ledger["total"])


@metric("number")
def trained_parameters(run: Finished, at: Time) -> float:
    """Parameters that training changes: those of the adapters with `train.lora`, else all."""
    return float(run.adapters) or parameters(run, at)


@metric("share")
def trained_share(run: Finished, at: Time) -> float:
    """Trained parameters as a share of all, adapters among these, as peft counts."""
    return trained_parameters(run, at) / (parameters(run, at) + run.adapters)


@metric("bytes")
def file_bytes(run: Finished, _: Time) -> float:
    """Bytes of the model file, `model.safetensors`, in fp32."""
    return float(run.file("train", "model.safetensors").stat().st_size)


@metric("bytes")
def checkpoint_bytes(run: Finished, _: Time) -> float:
    """Bytes of a checkpoint's weights and optimizer state; with `runtime.train.keep_state`."""
    return float(run.checkpoint_bytes)


@metric("number")
def vocab_size(run: Finished, _: Time) -> float:
    """Tokens in the vocabulary."""
    return float(run.tokens["vocab_size"])


@metric("number")
def context(run: Finished, _: Time) -> float:
    """Tokens that the model sees at once."""
    return float(run.ledger["model"]["context"])


@metric("number")
def steps(run: Finished, _: Time) -> float:
    """Optimizer steps of the training."""
    return float(run.training["steps"])


@metric("number")
def steps_per_epoch(run: Finished, _: Time) -> float:
    """Optimizer steps in one pass over the training text."""
    return float(run.loader.steps_per_epoch)


@metric("number")
def sequences(run: Finished, _: Time) -> float:
    """Rows of `model.context` tokens in one pass over the training text."""
    return float(run.loader.n_rows)


@metric("plain")
def epochs(run: Finished, _: Time) -> float:
    """Passes over the training text."""
    return float(run.training["steps"]) / run.loader.steps_per_epoch


@metric("number")
def tokens_seen(run: Finished, _: Time) -> float:
    """Tokens that the training saw, repeated ones among them."""
    return float(run.training["tokens"])


@metric("rate", STEPS)
def lr(run: Finished, at: Time) -> float:
    """Learning rate of AdamW in the last step of the time that is meant."""
    return run.at_step("lr", run.span(at)[1])


@metric("rate")
def peak_lr(run: Finished, _: Time) -> float:
    """The highest learning rate of AdamW."""
    return max(run.numbers("lr", 1, run.last_step))


@metric("nats", ("start",))
def initial_loss(run: Finished, at: Time) -> float:
    """Loss of the first batch, before any weight has changed, in nats a token."""
    return train_loss(run, at)


@metric("nats", STEPS)
def train_loss(run: Finished, at: Time) -> float:
    """Training loss in nats a token: of a step, the mean of an epoch, or of the last 5 % of the run or of a stage."""
    from lmcore.train.output import TAIL

    first, last = run.span(at)
    if at.kind in ("end", "after stage N"):
        first = last - max(1, math.ceil((last - first + 1) * TAIL)) + 1
    found = run.numbers("loss", first, last)
    return sum(found) / len(found)


@metric("nats", STEPS)
def validation_loss(run: Finished, at: Time) -> float:
    """Loss on the validation split in nats a token, by the look nearest to the time."""
    return run.look("loss", at)


@metric("bits", STEPS)
def bits_per_byte(run: Finished, at: Time) -> float:
    """Bits per byte of held-out text: by the evaluation at the end, by looks at the validation split before it."""
    return run.evaluated("bits_per_byte") if at.kind == "end" else run.look("bits_per_byte", at)


@metric("plain", STEPS)
def perplexity(run: Finished, at: Time) -> float:
    """exp(nats a token) of held-out text, as bits per byte; compares under one vocabulary only."""
    return run.evaluated("perplexity") if at.kind == "end" else math.exp(min(700.0, run.look("loss", at)))


@metric("share", STEPS)
def accuracy(run: Finished, at: Time) -> float:
    """Share of the next tokens of held-out text that the model guesses, as bits per byte; of one vocabulary only."""
    return run.evaluated("accuracy") if at.kind == "end" else run.look("accuracy", at)


@metric("seconds")
def training_seconds(run: Finished, _: Time) -> float:
    """Seconds inside training steps, on the machine of the run."""
    return float(run.training["seconds"])


@metric("number")
def tokens_per_second(run: Finished, _: Time) -> float:
    """Tokens a second in training, on the machine of the run."""
    return float(run.training["tokens_per_second"])


@metric("bytes")
def peak_memory_bytes(run: Finished, _: Time) -> float:
    """The most memory that the training process held."""
    return float(run.training["peak_memory_mib"]) * 2**20


@metric("number", TEXTS)
def examples(run: Finished, at: Time) -> float:
    """Texts that were collected, or that curation kept, in all splits."""
    return float(run.texts(at, "records"))


@metric("bytes", TEXTS)
def text_bytes(run: Finished, at: Time) -> float:
    """Bytes of the texts that were collected, or that curation kept, in UTF-8."""
    return float(run.texts(at, "bytes"))


@metric("share", ("after stage collect",))
def unique_share(run: Finished, at: Time) -> float:
    """Share of the texts collected that are different ones; copies within a source count once."""
    return run.texts(at, "unique") / run.texts(at, "records")


@metric("share", ("after stage curate",))
def unique_line_share(run: Finished, _: Time) -> float:
    """Share of the lines of the training split, blank ones apart, that are different ones."""
    return run.unique_line_share


@metric("number")
def train_tokens(run: Finished, _: Time) -> float:
    """Tokens of the training split."""
    return float(run.tokens["splits"]["train"]["tokens"])


@metric("plain")
def bytes_per_token(run: Finished, _: Time) -> float:
    """Bytes of validation text that a token stands for."""
    return run.bytes_per_token


@metric("bits")
def bits_per_byte_before(run: Finished, _: Time) -> float:
    """Bits per byte of held-out text of the model that training started from; with `evaluate.before`."""
    return run.probed("", "bits_per_byte", before=True)


@metric("bits")
def context_gain(run: Finished, _: Time) -> float:
    """Bits a byte less that the last positions take with all before them than with few; with `evaluate.positions`."""
    return run.probed("positions", "gain")


@metric("bits")
def context_gain_low(run: Finished, _: Time) -> float:
    """Low end of the 95 % interval of `context_gain`: above a floor, so that the whole interval is."""
    return run.probed("positions", "gain_interval", place=0)


@metric("share")
def term_recall(run: Finished, _: Time) -> float:
    """Share of the occurrences of terms in held-out text that the model guesses whole; with `evaluate.terms`."""
    return run.probed("terms", "recall")


@metric("share")
def closed_quotes(run: Finished, _: Time) -> float:
    """Share of the quotation marks that the model opens and closes in a paragraph; with `evaluate.dialogue`."""
    return run.probed("dialogue", "model", "closed_quotes")


@metric("share")
def speaker_alternation(run: Finished, _: Time) -> float:
    """Share of neighbouring turns of what the model writes with different speakers; with `evaluate.dialogue`."""
    return run.probed("dialogue", "model", "alternation")


@metric("share")
def distinct_2(run: Finished, _: Time) -> float:
    """Different pairs of neighbouring words of what the model writes, of all pairs; with `evaluate.dialogue`."""
    return run.probed("dialogue", "model", "distinct_2")


@metric("share")
def repeated_3(run: Finished, _: Time) -> float:
    """Share of the word triples of what the model writes that stood in the text before; with `evaluate.dialogue`."""
    return run.probed("dialogue", "model", "repeated_3")


@metric("plain")
def chrf(run: Finished, _: Time) -> float:
    """chrF2 of translations of held-out pairs, 0 to 100, the mean over directions; with `evaluate.translation`."""
    return sum(float(row["chrf"]) for row in run.translations) / len(run.translations)


@metric("share")
def amharic_score(run: Finished, _: Time) -> float:
    """Text score of the sampled continuations, mended, 0 to 1; with `evaluate.text_scores: [amharic]`."""
    return run.probed("text_scores", "amharic", "sampled", "score")


@metric("share")
def amharic_score_before(run: Finished, _: Time) -> float:
    """The same of the model that training started from; with `evaluate.before`, too."""
    return run.probed("text_scores", "amharic", "sampled", "score", before=True)


@metric("share")
def amharic_score_original(run: Finished, _: Time) -> float:
    """Text score of the sampled continuations as the original computes it; with `text_scores: [amharic_original]`."""
    return run.probed("text_scores", "amharic_original", "sampled", "score")
