"""What a person can set about training.

`TrainParams` can change the weights and is part of the artifact's key. `TrainRuntime` is not: cadence of saving,
logging, validation and samples changes no byte of the model. Device, threads and compilation are resolved once per
run into `plan.json`; for an equal plan, torch version and processor type the weights are equal bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lmcore.config import Params, Runtime, Settings, added_later
from lmcore.models.config import DecoderConfig
from lmcore.models.families import ModelSection
from lmcore.models.lora import Lora
from lmcore.tokens.params import BatchSettings
from lmcore.train.schedule import Schedule
from storage.errors import UserError
from storage.store import STAGES

LOSSY_KINDS = ("word_bpe", "words")  # of vocabularies, whose tokens are not made of bytes
HORIZONS = ("steps", "tokens", "epochs", "minutes")
Share = Annotated[float, Field(ge=0, le=1)]


class EarlyStop(Params):
    """When training ends before its budget is used. These looks take the place of `runtime.train`'s."""

    patience: int = Field(
        0, ge=0, description="Looks in a row without a gain after which training ends; 0 uses the whole budget."
    )
    min_delta: float = Field(0.0, ge=0, description="Fewer bits per byte than this are no gain.")
    every: Annotated[float, Field(gt=0, le=1)] = Field(0.05, description="Share of the budget between two looks.")
    tokens: int = Field(16_384, ge=1, description="Tokens of the validation split in a look.")


class TrainSettings(BatchSettings):
    """Settings of training that can change the model."""

    seed: int = Field(1, ge=0, lt=2**63, description="Seed of the initial weights and of the order of the data.")
    batch: int = Field(16, ge=1, description="Sequences of model.context tokens in one optimizer step.")

    steps: int | None = Field(None, ge=1, description="Budget in optimizer steps.")
    tokens: int | None = Field(None, ge=1, description="Budget in tokens seen, rounded up to whole steps.")
    epochs: float | None = Field(None, gt=0, description="Budget in passes over the training text.")
    minutes: float | None = Field(
        None, gt=0, description="Budget in minutes of training time; the schedule follows the share that is used."
    )

    optimizer: Literal["adamw", "muon", "schedule_free"] = Field(
        "muon",
        description="muon: Muon for the hidden matrices and AdamW for the rest; adamw: AdamW for all; schedule_free: "
        "AdamW that averages its weights in place of a decay, with schedule: constant.",
    )
    lr: float = Field(4e-3, gt=0, description="Peak learning rate of AdamW.")
    muon_lr: float = Field(1e-2, gt=0, description="Peak learning rate of Muon.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), description="AdamW's decay rates of the first and second moment."
    )
    eps: float = added_later(1e-10, gt=0, description="What AdamW adds to the root of its second moment.")
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon's momentum.")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="Decoupled weight decay, times the learning rate; of matrices, unless `decays` says else.",
    )
    decays: Literal["matrices", "hidden", "all"] = added_later(
        "matrices",
        description="What weight_decay acts on. matrices: all that are not norms or biases; hidden: these without "
        "embeddings and head; all: every parameter.",
    )
    grad_clip: float | None = Field(
        1.0, gt=0, description="The gradient is scaled down to this norm when it is longer; null never does."
    )

    schedule: Schedule = Field(
        "trapezoid", description="Course of the learning rate after the warm-up: flat then linear, or one of the rest."
    )
    warmup: Share = Field(0.02, description="Share of the budget over which the learning rate rises from 0.")
    warmup_steps: int | None = added_later(
        None, ge=1, description="The warm-up in optimizer steps, in place of `warmup`; not with a budget in minutes."
    )
    decay_share: Share = Field(0.6, description="Share of the budget, at its end, over which a trapezoid falls.")
    final_lr_share: Share = Field(0.0, description="Share of the peak learning rate that is left at the end.")

    continues: bool = added_later(
        False,
        description="Go on from the last checkpoint of the run that init_from names, under this budget and schedule, "
        "and not from its weights alone. It must have been trained with runtime.train.keep_state.",
    )
    on_nan: Literal["skip", "lower"] = added_later(
        "skip", description="A step without finite numbers is skipped; lower: and all learning rates are halved."
    )
    on_spike: Literal["off", "skip", "rewind"] = added_later(
        "off",
        description="A loss above spike_factor times the median of the last 50 steps. skip: leave the step out; "
        "rewind: go back to the last checkpoint of rewind_every and leave out the data since.",
    )
    spike_factor: float = added_later(1.5, gt=1, description="How much above the median a loss is a spike.")
    rewind_every: int = added_later(100, ge=1, description="Steps between two checkpoints that a rewind goes back to.")
    milestone_every: int | None = added_later(
        None,
        ge=1,
        description="Steps between two models that are left in checkpoints/step_N beside the last one; the first is "
        "that of step 0. null: the last alone.",
    )
    on_oom: Literal["fail", "halve"] = added_later(
        "fail",
        description="A step that does not fit into memory ends the run; halve: it is done again in micro-batches of "
        "half the size, as are those after it.",
    )
    early_stop: EarlyStop = added_later(EarlyStop(), description="End when the validation split no longer gains.")

    lora: Lora | None = added_later(
        None, description="Adapters are trained, by AdamW, and the weights of the start stay as they are; null: all."
    )
    grow: bool = added_later(
        False,
        description="The model that training starts from may be smaller than `model`: it is grown, and computes "
        "the same at first. Any widths of whole heads, any number of blocks, any context.",
    )
    grow_vocabulary: bool = added_later(
        False,
        description="The vocabulary is the recipe's own, not that of the model that training starts from: a new token "
        "begins as the mean of the old ones that spell it.",
    )

    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Number format of the activations; auto times a product in fp32 and bf16, or fp16 on CUDA without "
        "bf16; fp16 is for CUDA alone. Weights are always fp32.",
    )
    attention: Literal["auto", "plain", "sdpa"] = Field(
        "auto", description="plain: two products and a softmax; sdpa: torch's fused kernel; auto: the faster by rule."
    )
    micro_batch: int | None = Field(
        None, ge=1, description="Sequences in one forward pass; null times several and takes the fastest that fits."
    )
    prompts: tuple[str, ...] = Field(
        ("The", "This is"), description="Beginnings that the model continues while it trains, to watch it learn."
    )

    def milestones(self, steps: int) -> int:
        """How many models are left beside the last one by a run of so many steps; with steps = 0, of unknown length."""
        return 0 if self.milestone_every is None else 1 + steps // self.milestone_every

    @model_validator(mode="after")
    def _one_horizon(self) -> Self:
        given = [name for name in HORIZONS if getattr(self, name) is not None]
        if not given:
            raise ValueError(f"no budget: set one of {', '.join(HORIZONS)}, for example minutes: 2")
        if len(given) > 1:
            raise ValueError(f"{len(given)} budgets, {' and '.join(given)}: keep one and set the others to null")
        if self.tokens is not None and self.packing == "texts":
            raise ValueError("a budget in tokens with packing texts, whose rows are as wide as they need: set epochs")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_steps is None:
            check_warmup(self, self.warmup, f"warmup {self.warmup}")
        elif self.minutes is not None:
            raise ValueError("warmup_steps with a budget in minutes, whose steps nobody knows: set warmup, a share")
        if self.optimizer == "schedule_free" and self.schedule != "constant":
            raise ValueError(
                f"optimizer schedule_free has no use for a {self.schedule} schedule: set schedule: constant"
            )
        if self.micro_batch is not None and self.micro_batch > self.batch:
            raise ValueError(f"micro_batch {self.micro_batch} is larger than batch {self.batch}")
        return self

    @model_validator(mode="after")
    def _grows_alone(self) -> Self:
        if self.lora and (self.grow or self.grow_vocabulary):
            raise ValueError(
                f"lora with {'grow' if self.grow else 'grow_vocabulary'}: the adapters would fit a grown model that is "
                "kept nowhere. Grow it in a recipe without lora, and adapt what that leaves"
            )
        if self.continues and self.grow_vocabulary:
            raise ValueError("continues takes a run up as it was, and grow_vocabulary changes it: leave one out")
        return self


class TrainSection(TrainSettings):
    """A recipe's `train:` section: the settings, and the name of the model that training starts from.

    The name moves, so it is no setting of the stage: the flow resolves it to a model, whose digest is in the key.
    """

    init_from: str = Field(
        "scratch",
        min_length=1,
        max_length=4096,
        description="scratch: random weights; champion: those of the model that was champion when the edition was "
        "begun, and its vocabulary; or a release (NAME, NAME@NUMBER), an artifact (train/KEY or digits of its digest), "
        "or a folder of Hugging Face's, written with a slash (./FOLDER).",
    )

    @model_validator(mode="after")
    def _adapts_something(self) -> Self:
        if self.init_from == "scratch" and (self.lora or self.grow or self.grow_vocabulary):
            name = "lora adapts" if self.lora else "grow takes over" if self.grow else "grow_vocabulary takes over"
            raise ValueError(f"{name} a trained model: set init_from to say which")
        if self.continues and self.init_from == "scratch":
            raise ValueError("continues goes on with a finished run: set init_from to say which")
        if self.continues and self.lora:
            raise ValueError(
                "continues with lora: the adapters of a finished run are merged into its weights; set continues: false "
                "to begin new adapters on them"
            )
        return self

    @property
    def init_folder(self) -> str | None:
        """The Hugging Face folder that training starts from; None when it starts from something else."""
        return self.init_from if is_folder(self.init_from) else None


class TrainParams(TrainSettings):
    """All that can change the model: how it is trained, and the shape of the network (a recipe's `model:`)."""

    model: ModelSection = Field(default_factory=DecoderConfig, description="The shape of the network.")


class TrainRuntime(Runtime):
    """Settings of training that do not enter the key."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, else mps, else cpu.")
    processes: int = Field(
        0,
        ge=0,
        le=64,
        description="Processes on this machine that share every step; 0 takes the worker's job variable `processes`, "
        "else 1.",
    )
    threads: int = Field(
        0, ge=0, description="CPU threads of a process; 0 shares out every core that may be used among the processes."
    )
    compile: Literal["off", "auto"] = Field(
        "auto", description="auto: torch.compile when the run is long enough to win back its start."
    )
    activation_checkpointing: Literal["off", "auto", "on"] = Field(
        "auto",
        description="The backward pass makes each block's activations anew instead of keeping them: less memory, a "
        "third more arithmetic; auto: when one sequence would not fit otherwise.",
    )
    log_every_seconds: float = Field(5.0, ge=0, description="Seconds between two printed lines.")
    save_every_seconds: float = Field(60.0, gt=0, description="Seconds between two checkpoints.")
    save_every_steps: int | None = Field(None, ge=1, description="Also save after every so many steps.")
    save_async: bool = Field(False, description="Write checkpoints in a thread, from a copy, while training goes on.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints that are kept.")
    keep_best: bool = Field(
        False,
        description="Also save and keep the checkpoint with the fewest validation bits per byte, and leave it beside "
        "the model.",
    )
    keep_state: bool = Field(
        False, description="Leave the last checkpoint beside the model, so that `train.continues` can go on from it."
    )
    keep_every_steps: int | None = Field(None, ge=1, description="Also save and keep every so many steps.")
    tensorboard: bool = Field(
        False, description="Also write TensorBoard's event files, with the package tensorboard (an extra)."
    )
    sample_at: tuple[Share, ...] = Field(
        (0.0, 0.1, 0.25, 0.5, 0.75, 1.0), description="Shares of the budget at which the prompts are continued."
    )
    sample_tokens: int = Field(64, ge=1, description="Tokens in a continued prompt.")
    sample_temperature: float = Field(0.8, ge=0, le=100, description="As --temperature of `generate`, for the prompts.")
    sample_top_k: int = Field(0, ge=0, description="As --top-k; 0: off.")
    sample_top_p: float = Field(0.95, gt=0, le=1, description="As --top-p; 1: off.")
    sample_repetition_penalty: float = Field(1.0, gt=0, le=100, description="As --repetition-penalty; 1: off.")
    each_epoch: bool = Field(
        False,
        description="Also at the end of every epoch: a look at the validation split and at as much of the training "
        "text, told side by side, and the prompts.",
    )
    validate_every: Share = Field(
        0.1, description="Share of the budget between two quick looks at the validation split; 0 never looks."
    )
    validate_every_steps: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps between two quick looks, in place of validate_every; also at the end. "
        "With early_stop the looks are that one's.",
    )
    min_tokens: int = Field(0, ge=0, description="Fewer training tokens than this are refused.")
    min_batches: int = Field(1, ge=0, description="Fewer whole batches of training text than this are refused.")
    validation_tokens: int = Field(16_384, ge=1, description="Tokens of the validation split in a quick look.")


class Job(Settings):
    """One training run as the trainer process reads it from JOB.json. Folders must exist, but `work` is made."""

    work: Path = Field(description="Folder that survives a kill: checkpoints, progress, and the finished out/.")
    tokens: Path = Field(description="Folder of the tokens artifact.")
    tokenizer: Path = Field(description="Folder of the tokenizer artifact.")
    start_from: Path | None = Field(None, description="Folder of a trained model whose weights are the first ones.")
    params: TrainParams
    runtime: TrainRuntime = Field(default_factory=TrainRuntime)


def is_folder(init_from: str) -> bool:
    """Whether `train.init_from` is a path: it has a slash and is not STAGE/KEY."""
    return "/" in init_from and init_from.partition("/")[0] not in STAGES


def check_vocabulary(params: TrainSettings, kind: str) -> None:
    """Raise UserError when `grow_vocabulary` asks for a kind of vocabulary whose tokens are not made of bytes."""
    if params.grow_vocabulary and kind in LOSSY_KINDS:
        raise UserError(
            f"train.grow_vocabulary needs tokens that are made of bytes, and tokenizer.kind is {kind}",
            "set tokenizer.kind to byte_bpe, bytes or char_bpe",
        )


def check_warmup(params: TrainSettings, share: float, name: str) -> None:
    """Raise ValueError, with `name` in it, when a warm-up over `share` of the budget leaves too little for the rest."""
    if params.schedule == "trapezoid" and share + params.decay_share > 1:
        raise ValueError(f"{name} and decay_share {params.decay_share} together exceed 1")
    if params.schedule != "constant" and share >= 1:
        raise ValueError(f"{name} leaves nothing for the {params.schedule} schedule to fall over")


def check_processes(params: TrainSettings, processes: int) -> None:
    """Raise UserError when a step has too few sequences for every process to get one."""
    if processes > params.batch:
        raise UserError(
            f"{processes} training processes share train.batch={params.batch} sequences: some would have none",
            f"set train.batch to {processes} or more, or processes (runtime.train.processes, or the job variable) "
            f"to {params.batch} or less",
        )
