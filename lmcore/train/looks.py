"""Looks at a model while it trains: a quick validation and continued prompts.

Both draw on generators of their own and leave the model in training mode, so their cadence changes no weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmcore.generate.engine import generate
from lmcore.generate.sampling import Sampling
from lmcore.tokenizer import Tokenizer
from lmcore.tokenizer.lossy import BITS_PER_MISSING_BYTE
from lmcore.tokens import TokenBatch, sequential
from lmcore.tokens.meta import MISSING, read_meta
from lmcore.train.board import Board
from lmcore.train.loss import bits_per_byte, look_sums
from lmcore.train.run import Run
from storage.errors import RunError
from storage.parquet import read_parquet
from storage.text import printable

UNKNOWN = ""  # the source of tokens that were made before sources were noted


def can_validate(run: Run) -> bool:
    """True when the validation split has a token to predict; otherwise says that the looks are left out."""
    split = read_meta(run.job.tokens).splits.get("val")
    if split is not None and split.tokens > 1:
        return True
    params = run.job.params
    for name, patience in (("early_stop", params.early_stop.patience), ("promote", params.promote.patience)):
        if patience:
            raise RunError(
                f"{run.job.tokens} has no validation text, and train.{name} needs some",
                f"give the curation a share for validation, or set train.{name}.patience to 0",
            )
    run.journal.event("no-validation", f"{run.job.tokens} has no validation text: quick looks are left out")
    return False


@dataclass(frozen=True)
class Figures:
    """What a look found, in all or for one source."""

    tokens: int  # that count in the loss
    loss: float  # nats per token
    accuracy: float  # share of the tokens that the model would have guessed
    bits_per_byte: float

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is no float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True)
class Look:
    """One look at the validation split."""

    whole: Figures
    by_source: dict[str, Figures]  # those that gave a token to it; empty where sources were not noted


def validate(run: Run, token_bytes: npt.NDArray[np.integer]) -> Look:
    """A look at the first tokens of the validation split, shared by all ranks.

    They are as many as early_stop says, else `runtime.validation_tokens`.

    Every window starts without what came before it, so this is a little above what `evaluate` measures. What a lossy
    vocabulary cannot give back is charged as there.
    """
    names, source_of = _sources(run)
    total = sums_by(run, token_bytes, source_of, len(names), _limit(run))
    by_source = {name: figures(column) for name, column in zip(names, total.T.tolist(), strict=True) if column[2]}
    return Look(figures(total.sum(1).tolist()), by_source if names != [UNKNOWN] else {})


def sums_by(run: Run, token_bytes: npt.NDArray[np.integer], group_of: Tensor, count: int, limit: int) -> Tensor:
    """Sums over the first `limit` tokens of the validation split, for each of `count` groups: see `loss.look_sums`.

    `group_of` (D,) is the group of each document. All ranks share the work and get the same sums (5, count).
    """
    with run.optimizer.averaged(), torch.no_grad():
        return _sums_by(run, token_bytes, group_of, count, limit)


def _sums_by(run: Run, token_bytes: npt.NDArray[np.integer], group_of: Tensor, count: int, limit: int) -> Tensor:
    params, plan = run.job.params, run.plan
    charges = Charges.of(run)
    sums = torch.zeros(5, count, dtype=torch.float64)
    run.model.eval()
    seen = 0
    for batch in sequential(run.job.tokens, "val", params.batch, params.model.context, tokenizer_bytes=token_bytes):
        run.journal.doing("validation")
        share = run.team.share(batch)
        for micro in share.split(plan.micro_batch) if len(share.ids) else ():
            groups = group_of[micro.doc_ids.long()]  # -1, which fills up, is the last document and counts nothing
            charged = charges.to(micro, plan.device) if charges else None
            sums += look_sums(run.model, micro.to(plan.device), groups, count, charged)
        seen += batch.ids.numel()
        if seen >= limit:
            break
    run.model.train()
    return torch.tensor(run.team.total(*sums.flatten().tolist()), dtype=torch.float64).view_as(sums)


@torch.no_grad()
def fit(run: Run, token_bytes: npt.NDArray[np.integer]) -> Figures:
    """A look at the first tokens of the training split, as many as of the validation split, by all ranks.

    It reads as `validate` does, without dropout, so the two can be held side by side. Bits per byte are NaN: a lossy
    vocabulary is charged for what it loses in validation text alone.
    """
    params, sums, seen = run.job.params, torch.zeros(5, 1, dtype=torch.float64), 0
    with run.optimizer.averaged():
        run.model.eval()
        for batch in sequential(
            run.job.tokens, "train", params.batch, params.model.context, tokenizer_bytes=token_bytes
        ):
            run.journal.doing("validation")
            share = run.team.share(batch)
            for micro in share.split(run.plan.micro_batch) if len(share.ids) else ():
                sums += look_sums(run.model, micro.to(run.plan.device), torch.zeros_like(micro.doc_ids), 1)
            seen += batch.ids.numel()
            if seen >= _limit(run):
                break
        run.model.train()
    nats, _, tokens, guessed, _ = run.team.total(*sums.flatten().tolist())
    return figures([nats, math.nan, tokens, guessed, 0.0])


def _limit(run: Run) -> int:
    """Tokens in a look."""
    early = run.job.params.early_stop
    return early.tokens if early.patience else run.job.runtime.validation_tokens


def figures(column: Sequence[float]) -> Figures:
    """The figures that five sums of `sums_by` say."""
    nats, nats_of_bytes, tokens, guessed, n_bytes = column
    least = max(tokens, 1.0)
    return Figures(int(tokens), nats / least, guessed / least, bits_per_byte(nats_of_bytes, round(n_bytes)))


@dataclass(frozen=True)
class Charges:
    """What the tokens of a lossy vocabulary stand for in the original texts of the validation split, by document (N,).

    A token has its document's mean, so a whole document costs what `evaluate` charges for it.
    """

    n_bytes: Tensor  # float64: original bytes that a token stands for
    nats: Tensor  # float64: for the bytes that are lost, for each token
    bos_id: int

    @classmethod
    def of(cls, run: Run) -> Charges | None:
        """None for a vocabulary that loses nothing, and for tokens made before the losses were noted."""
        table = read_parquet(run.job.tokens / "val" / "documents.parquet")
        if MISSING not in table.column_names:
            return None
        names = ("n_tokens", "n_bytes", MISSING)
        tokens, n_bytes, missing = (torch.from_numpy(table[name].to_numpy().astype(np.float64)) for name in names)
        predicted = (tokens - 1).clamp(min=1)  # all but the begin mark
        nats = missing * BITS_PER_MISSING_BYTE * math.log(2)
        return cls(n_bytes / predicted, nats / predicted, read_meta(run.job.tokens).bos_id)

    def to(self, batch: TokenBatch, device: str) -> tuple[Tensor, Tensor]:
        """Original bytes and nats for what is lost, of each target of a batch, (B, T) float32."""
        documents, text = batch.doc_ids.long(), batch.targets != self.bos_id
        return tuple((each[documents] * text).float().to(device) for each in (self.n_bytes, self.nats))  # type: ignore[return-value]


def _sources(run: Run) -> tuple[list[str], Tensor]:
    """The names of the sources, and for each document of the validation split the index of its own."""
    meta = read_meta(run.job.tokens)
    path = run.job.tokens / "val" / "documents.parquet"
    if not meta.sources:
        return [UNKNOWN], torch.zeros(meta.splits["val"].documents, dtype=torch.int64)
    return meta.sources, torch.from_numpy(read_parquet(path, ["source"])["source"].to_numpy().astype(np.int64))


def continue_prompts(run: Run, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """(prompt, continuation) for each of the recipe's prompts."""
    params, runtime = run.job.params, run.job.runtime
    sampling = Sampling(
        max_tokens=runtime.sample_tokens,
        temperature=runtime.sample_temperature,
        top_k=runtime.sample_top_k,
        top_p=runtime.sample_top_p,
        repetition_penalty=runtime.sample_repetition_penalty,
        seed=params.seed,
    )
    continued = []
    with run.optimizer.averaged():
        for prompt in params.prompts:
            run.journal.doing("samples")
            continued.append((prompt, generate(run.model, tokenizer, prompt, sampling).text))
    return continued


def tell(run: Run, board: Board, look: Look) -> None:
    """Record and tell a look at the validation split."""
    at, whole = run.at, look.whole
    figures = {"bits_per_byte": whole.bits_per_byte, "loss": whole.loss, "accuracy": whole.accuracy}
    if run.team.leads:
        run.history.add("validation", step=at.step, progress=at.progress, **figures)
    told = f"validation: {whole.bits_per_byte:.4f} bits/byte, "
    told += f"perplexity {whole.perplexity:.4g}, {whole.accuracy:.1%} right"
    by_source = {}
    for source, found in look.by_source.items():
        values = {"bits_per_byte": found.bits_per_byte, "loss": found.loss, "accuracy": found.accuracy}
        if run.team.leads:
            run.history.add("sources", step=at.step, progress=at.progress, source=source, tokens=found.tokens, **values)
        if math.isfinite(found.bits_per_byte):  # its tokens in this look may stand for no bytes
            by_source[source] = found.bits_per_byte
        board.scalars(f"validation/{source}", at.step, values)
    if len(by_source) > 1:
        told += " (" + ", ".join(f"{source} {bits:.4f}" for source, bits in by_source.items()) + ")"
    more = {"perplexity": whole.perplexity, "by_source": by_source}
    # No line but one of a step has a `loss`: whoever reads them tells them apart by it.
    more |= {"bits_per_byte": whole.bits_per_byte, "accuracy": whole.accuracy}
    run.journal.event("validation", told, step=at.step, **more)
    board.scalars("validation", at.step, figures | {"perplexity": whole.perplexity})


def tell_epoch(run: Run, board: Board, epoch: int, train: Figures, validation: Figures | None) -> None:
    """Record and tell how well an epoch's end knows what it learnt from beside what it did not."""
    at, found = run.at, {"train": train} | ({"validation": validation} if validation else {})
    if run.team.leads:
        run.history.add("fits", step=at.step, progress=at.progress, loss=train.loss, accuracy=train.accuracy)
    told = "; ".join(
        f"{name} loss {of.loss:.4f}, {of.accuracy:.2%} right, perplexity {of.perplexity:,.2f}"
        for name, of in found.items()
    )
    more = {
        name: {"loss": of.loss, "accuracy": of.accuracy, "perplexity": of.perplexity, "tokens": of.tokens}
        for name, of in found.items()
    }
    run.journal.event("epoch-looks", f"epoch {epoch:,}: {told}", epoch=epoch, step=at.step, **more)
    figures = {"loss": train.loss, "accuracy": train.accuracy, "perplexity": train.perplexity}
    board.scalars("fit", at.step, figures)


def tell_samples(run: Run, board: Board, samples: list[tuple[str, str]]) -> None:
    """Record and tell (prompt, continuation) pairs."""
    at = run.at
    for prompt, text in samples:
        run.history.add("samples", step=at.step, progress=at.progress, prompt=prompt, text=text)
        told = printable(f"sample: {prompt}{text}").replace("\n", " ")
        run.journal.event("sample", told, step=at.step, progress=at.progress, prompt=prompt, continuation=text)
        board.text("sample", at.step, f"{prompt}{text}")
