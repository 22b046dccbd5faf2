"""`load`: from a folder or the name of a release to a model one can talk to.

from lmcore import load
model = load("quickstart")      # or quickstart@2, the folder of a train artifact, a file such as lai-tiny.bin
print(model.generate("The hero", max_tokens=100))
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lmcore.conversation import Template
from lmcore.generate.chat import (
    DESCRIBED,
    STOPS,
    Form,
    check_messages,
    left_out,
    likelier_form,
    prompt_ids,
    translation,
)
from lmcore.generate.engine import Generation, generate, stream
from lmcore.generate.joint import last_given_back, log_probability
from lmcore.generate.model_files import is_model_file, read_model_file
from lmcore.generate.model_folders import inside, layout_of, read_model_folder
from lmcore.generate.sampling import make_sampling
from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer
from storage.errors import RunError, UserError


@dataclass(frozen=True)
class TokenLogprob:
    """One token of a text and how likely the model thought it."""

    text: str  # the characters it covers; of a character divided between tokens, all of it
    id: int
    logprob: float  # natural logarithm of its probability after all that comes before


@dataclass(frozen=True)
class LanguageModel:
    """A model, its tokenizer and where they came from."""

    model: Network
    tokenizer: Tokenizer
    path: Path
    release: str | None  # NAME@NUMBER when it was loaded by name
    chat_tuned: bool
    file: Mapping[str, Any] | None = None  # what its file or folder holds: format, dtype and more of each kind
    template: Template | None = None  # how its texts write conversations; None: as `form` finds out

    @cached_property
    def form(self) -> Form:
        """How a conversation is put to it: markers if tuned on them, else `template`, its tokens, what it expects."""
        if self.chat_tuned:
            return "markers"
        if self.template:
            return self.template
        return "tags" if self.tokenizer.tags else likelier_form(self._logprob)  # it has them for texts in tags

    @cached_property
    def _spelt(self) -> list[bytes]:
        """The bytes of every token; none where tokens are words."""
        return [] if self.tokenizer.lossy else self.tokenizer.token_bytes()

    def generate(self, prompt: str, max_tokens: int = 100, **sampling: Any) -> str:
        """The continuation of `prompt`, without it. `sampling`: the fields of `Sampling`, such as temperature, seed."""
        return generate(self.model, self.tokenizer, prompt, make_sampling(max_tokens=max_tokens, **sampling)).text

    def stream(self, prompt: str, max_tokens: int = 100, **sampling: Any) -> Generator[str, None, Generation]:
        """The same text in pieces, as it comes."""
        return stream(self.model, self.tokenizer, prompt, make_sampling(max_tokens=max_tokens, **sampling))

    def chat(self, messages: Sequence[Mapping[str, str]], max_tokens: int = 200, **sampling: Any) -> str:
        """The assistant's answer to messages such as [{"role": "user", "content": "Hello"}].

        `info()["chat"]` says in which form they are put. UserError for messages of another shape.
        """
        pieces = list(self.stream_chat(messages, max_tokens, **sampling))
        return "".join(pieces).strip()

    def stream_chat(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int = 200, **sampling: Any
    ) -> Generator[str, None, Generation]:
        """The assistant's answer in pieces, as it comes; spaces around it are kept."""
        check_messages(messages)
        chosen = make_sampling(max_tokens=max_tokens, **sampling)
        chosen = chosen.model_copy(update={"stop": (*chosen.stop, *STOPS[self.form])})
        ids, joint = self.prompt_ids(messages), None
        tags_are_spelt = self.form == "tags" and not self.tokenizer.tags  # one that is a token is joined to nothing
        if tags_are_spelt and self._spelt:
            ids, joint = last_given_back(ids, self._spelt)
        return stream(self.model, self.tokenizer, ids, chosen, chat=self.chat_tuned, joint=joint)

    def stream_translation(
        self, text: str, to: str, max_tokens: int = 200, **sampling: Any
    ) -> Generator[str, None, Generation]:
        """A translation to "hu" or "en" from the other, in pieces. UserError for another language."""
        return self.stream_chat(translation(text, to), max_tokens, **sampling)

    def prompt_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens that `chat` gives the model for these messages."""
        return prompt_ids(messages, self.tokenizer, self.form)

    def left_out(self, messages: Sequence[Mapping[str, str]], max_tokens: int = 200) -> int:
        """How many of the first messages to leave out so that the others and an answer fit in the context.

        An answer gets `max_tokens` but at most half the context, as where the engine begins a window. System messages
        at the beginning are not counted: they stay.
        """
        context = self.model.config.context
        return left_out(messages, self.tokenizer, self.form, context - min(max_tokens, context // 2))

    @torch.no_grad()
    def logprobs(self, text: str) -> list[TokenLogprob]:
        """How likely each token of `text` is as the start of a document.

        A text longer than the context is scored in windows that overlap by half: every token but the first window's
        has at least half a context before it.
        """
        encoding = self.tokenizer.encode_batch([text])[0]
        ids = torch.tensor([self.tokenizer.bos_id, *encoding.ids.tolist()])  # (N + 1,)
        context = self.model.config.context
        scores: list[float] = []  # of ids[1:]
        begin = 0
        while len(scores) < len(ids) - 1:
            window = ids[begin : begin + context + 1].to(self.model.device)
            nats = torch.log_softmax(self.model(window[None, :-1])[0].float(), -1)  # (T, V)
            of_window = nats.gather(1, window[1:, None])[:, 0].tolist()
            scores += of_window[len(scores) - begin :]
            begin += context - context // 2
        return [
            TokenLogprob(text[start:stop], token, score)
            for (start, stop), token, score in zip(encoding.offsets, encoding.ids.tolist(), scores, strict=True)
        ]

    def _logprob(self, text: str) -> float:
        """How likely a document begins with this text; of words, in the tokens that it is encoded to."""
        if self._spelt:
            logits = lambda ids: self.model(ids.to(self.model.device))  # noqa: E731
            return log_probability(logits, self.tokenizer.bos_id, text.encode(), self._spelt)
        if self.tokenizer.unk_id in self.tokenizer.encode(text):
            return -math.inf
        return sum(token.logprob for token in self.logprobs(text))

    def info(self) -> dict[str, Any]:
        """What was loaded, as plain JSON: where from, shape, parameters by part, tokenizer, how it chats."""
        ledger = self.model.ledger()
        return {
            "path": str(self.path),
            "release": self.release,
            "family": self.model.config.family,
            "model": self.model.config.model_dump(mode="json"),
            "context": self.model.config.context,
            "parameters": ledger.total,
            "parameters_by_part": ledger.groups,
            "bytes": ledger.bytes(),
            "vocab_size": self.model.vocab_size,
            "tokenizer": {"vocab_size": self.tokenizer.vocab_size, "lossy": self.tokenizer.lossy},
            "chat": DESCRIBED[self.form],
            **({} if self.file is None else {"file": dict(self.file)}),
        }


def load(
    path_or_release: str | os.PathLike[str], store: str | os.PathLike[str] | None = None, device: str = "cpu"
) -> LanguageModel:
    """The model in a folder (`model_folders` lists their layouts), in a file, or of a release of `store`.

    A release is NAME, its champion, or NAME@NUMBER. The store is COLLECT_TRAIN_STORE or ./store unless given. Files
    are those of other programs that `model_files.READERS` lists. UserError when there is no such model or its file is
    not whole; RunError when a file of a folder is missing, damaged or of another model.
    """
    folder, release = find_model(os.fspath(path_or_release), store)
    found = read_model_file(folder) if folder.is_file() else read_model_folder(folder)
    return LanguageModel(found.model.to(device), found.tokenizer, folder, release, found.chat, found.facts)


def find_model(name: str, store: str | os.PathLike[str] | None) -> tuple[Path, str | None]:
    """Where the model is that a name means, a folder or a file, and its release as NAME@NUMBER. Raises as `load`."""
    folder = Path(name).expanduser()
    if folder.is_file() and (folder.name != name or folder.suffix or is_model_file(folder)):
        return folder, None
    if layout_of(folder):
        return folder, None
    if folder.name != name:
        problem = "has no config.json" if folder.is_dir() else "does not exist"
        within = inside(folder)
        raise UserError(
            f"{name} is not the folder of a model: it {problem}",
            f"there is one inside: name {within}"
            if within
            else "name the folder of a train artifact, a Hugging Face folder, a checkpoint (.../checkpoints/step-N), a "
            "model file, or a release (`collect-train releases` lists them)",
        )
    from storage.registry import Registry
    from storage.store import Artifact, Store

    root = (Store.default() if store is None else Store(store)).root
    found = Registry(root).resolve(name)
    if Artifact("train", found.model_key, str(root)).digest != found.model_digest:
        raise RunError(
            f"the model of {name} was rebuilt since it was released and is not the same one",
            "run its recipe again to release the new one, or restore the old one from a copy",
        )
    return found.model_path(root), f"{name.partition('@')[0]}@{found.number}"
