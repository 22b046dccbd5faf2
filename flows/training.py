"""How far a training is, from what it leaves in its work folder while it works, and in its artifact afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.runstate import StageState, work_folder
from lmcore.train.journal import FILE, is_step
from storage.store import Artifact, Store
from tasks.journal import Tail


@dataclass(frozen=True)
class Sample:
    """A prompt and how the model continued it."""

    prompt: str
    text: str


class TrainingView:
    """What can be seen of one training; call `update` to take in what is new."""

    def __init__(self, store: Store, stage: StageState) -> None:
        self.key = stage.key
        self.steps: list[int] = []
        self.bits: list[float] = []  # bits per byte of the training batches, at those steps
        self.newest: dict[str, Any] = {}  # step, loss, bits_per_byte, tokens_per_second, lr, eta_seconds
        self.validation: tuple[int, float] | None = None  # step and bits per byte
        self.samples: list[Sample] = []  # of the newest look
        self.sampled_at = 0
        self._store = store
        self._work = work_folder(store, stage)
        self._tail = Tail(self._work / FILE)
        self._whole = False

    def update(self) -> None:
        """Read what the trainer wrote since the last call, or the finished artifact."""
        for line in self._tail.events():
            self._take(line)
        if not self._whole and not self._work.exists():
            artifact = self._store.find("train", self.key)
            if artifact is not None:
                self._read(artifact)
                self._whole = True

    def _take(self, line: dict[str, Any]) -> None:
        event = line.get("event")
        if event == "validation":
            self.validation = (line["step"], line["bits_per_byte"])
        elif event == "sample":
            if line["step"] != self.sampled_at:
                self.samples = []
            self.sampled_at = line["step"]
            self.samples.append(Sample(line["prompt"], line["continuation"]))
        elif is_step(line):
            while self.steps and self.steps[-1] >= line["step"]:  # done again from a checkpoint
                self.steps.pop()
                self.bits.pop()
            self.newest = line
            if line["bits_per_byte"] is not None:  # null: it was not finite
                self.steps.append(line["step"])
                self.bits.append(line["bits_per_byte"])

    def _read(self, artifact: Artifact) -> None:
        import pyarrow.parquet as pq

        metrics = pq.read_table(artifact.file("metrics.parquet"))
        self.steps, self.bits = metrics["step"].to_pylist(), metrics["bits_per_byte"].to_pylist()
        if metrics.num_rows:
            self.newest = metrics.slice(metrics.num_rows - 1).to_pylist()[0]
            self.newest["tokens_per_second"] = artifact.metrics.get("tokens_per_second")
            self.newest["eta_seconds"] = 0.0
        looks = pq.read_table(artifact.file("provenance/validation.parquet")).to_pylist()
        if looks:
            self.validation = (looks[-1]["step"], looks[-1]["bits_per_byte"])
        samples = pq.read_table(artifact.file("provenance/samples.parquet")).to_pylist()
        if samples:
            self.sampled_at = samples[-1]["step"]
            newest = (row for row in samples if row["step"] == self.sampled_at)
            self.samples = [Sample(row["prompt"], row["text"]) for row in newest]
