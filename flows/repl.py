"""`collect-train chat`: lines in, answers out, and commands that change how it goes on.

A person's lines are read with the line editor of the terminal; from a pipe the same lines give the same answers.
Answers and what a command tells go to standard output, errors and notes to standard error. The n-th answer since the
start or the last /reset is drawn from seed + n, n from 0: a session repeats itself, an answer asked for again differs.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.repl_commands import COMMANDS, MODES, NUMBERS, read_line, with_number
from flows.talk import print_as_it_comes, print_info, tell
from lmcore.conversation import CODE_TASK
from lmcore.generate.chat import OTHER_SIDE, translation
from lmcore.generate.engine import Generation
from lmcore.generate.load import LanguageModel
from lmcore.generate.sampling import Sampling
from storage.errors import CollectTrainError, UserError
from storage.text import printable


@dataclass
class Spent:
    """What answers cost."""

    answers: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """Tokens, seconds and tokens a second."""
        rate = f"{self.tokens / self.seconds:.1f}" if self.seconds > 0 else "0.0"
        return f"{self.tokens:,} tokens in {self.seconds:.2f} s, {rate} tokens a second"


class Repl:
    """One conversation with a loaded model."""

    def __init__(
        self, model: LanguageModel, console: Console, sampling: Sampling, *, mode: str = "chat", to: str = "hu"
    ) -> None:
        """`mode` is one of `MODES`, `to` the language that is translated to. Raises UserError for others."""
        if mode not in MODES:
            raise UserError(f"there is no mode {mode!r}", f"name one of {', '.join(MODES)}")
        translation("", to)
        self._model, self._console, self._sampling = model, console, sampling
        self._mode, self._to = mode, to
        self._typed = sys.stdin.isatty()
        self._messages: list[dict[str, str]] = []
        self._drawn = 0  # answers since the start or the last /reset
        self._used = 0  # tokens of the context that the last prompt and answer took
        self._last, self._all = Spent(), Spent()

    def run(self) -> None:
        """Read and answer lines until /quit or the end of input. Empty lines are passed over."""
        self._greet()
        if self._typed:
            _edit_lines()
        while True:
            try:
                line = input(self._prompt() if self._typed else "")
            except EOFError:
                if self._typed:
                    sys.stdout.write("\n")
                return
            except KeyboardInterrupt:
                if not self._typed:
                    raise
                sys.stdout.write("\n")
                tell("Ctrl-D or /quit ends")
                continue
            try:
                if line.strip() and not self._take(line):
                    return
            except KeyboardInterrupt:  # before the answer began
                if not self._typed:
                    raise
                sys.stdout.write("\n")
                tell("stopped")
            except CollectTrainError as error:
                tell("; ".join(part for part in (error.what, error.mend) if part))

    def _take(self, line: str) -> bool:
        """Do what a line says; False when it says to end."""
        command, rest = read_line(line)
        if command == "/quit":
            return False
        if not command:
            self._answer(rest)
        elif command in NUMBERS:
            if rest:
                self._sampling = with_number(self._sampling, command, rest)
            self._say(f"{NUMBERS[command]}: {getattr(self._sampling, NUMBERS[command])}")
        elif command in ("/hu", "/en"):
            if rest:
                self._translate(rest, command[1:])
            else:
                self._to = command[1:]
                self._switch("translate")
        elif command[1:] in MODES:
            self._switch(command[1:])
            if rest:
                self._answer(rest)
        else:
            {"/reset": self._reset, "/stats": self._stats, "/info": self._info, "/help": self._help}[command]()
        return True

    def _answer(self, line: str) -> None:
        if self._mode == "translate":
            self._translate(line, self._to)
        elif self._mode == "code":
            self._ask([{"role": "system", "content": CODE_TASK}, {"role": "user", "content": line.strip()}])
        elif self._mode == "text":
            prompt = [self._model.tokenizer.bos_id, *self._model.tokenizer.encode(line)]
            pieces = self._model.stream(line, **self._settings())
            sys.stdout.write(printable(line))
            self._show(pieces, len(prompt))
        else:
            self._talk(line.strip())

    def _talk(self, said: str) -> None:
        messages = [*self._messages, {"role": "user", "content": said}]
        gone = self._model.left_out(messages, self._sampling.max_tokens)
        if gone:
            first = "first message" if gone == 1 else f"first {gone} messages"
            tell(f"the model does not see the {first} any more: its context is {self._context:,} tokens")
        answer = self._ask(messages[gone:]).strip()
        if answer:
            self._messages = [*messages, {"role": "assistant", "content": answer}]

    def _translate(self, text: str, to: str) -> None:
        self._ask(translation(text.strip(), to))

    def _ask(self, messages: list[dict[str, str]]) -> str:
        prompt = self._model.prompt_ids(messages)
        pieces = self._model.stream_chat(messages, **self._settings())
        sys.stdout.write("model> ")
        return self._show(pieces, len(prompt))

    def _settings(self) -> dict[str, Any]:
        return self._sampling.model_dump() | {"seed": (self._sampling.seed + self._drawn) % (1 << 63)}

    def _show(self, pieces: Generator[str, None, Generation], prompt_tokens: int) -> str:
        """Print an answer and count what it cost; Ctrl-C ends it and keeps what came."""
        sys.stdout.flush()
        began = time.perf_counter()
        text, result = print_as_it_comes(pieces, stoppable=self._typed)
        # Of a stopped answer only the text is known: its tokens are those that the text is encoded to.
        tokens = len(result.ids if result else self._model.tokenizer.encode(text))
        self._drawn += 1
        self._used = min(self._context, prompt_tokens + tokens)
        self._last = Spent(1, tokens, result.seconds if result else time.perf_counter() - began)
        self._all.answers += 1
        self._all.tokens += tokens
        self._all.seconds += self._last.seconds
        return text

    def _switch(self, mode: str) -> None:
        self._mode = mode
        self._say(f"mode: {self._mode_name()}")

    def _reset(self) -> None:
        self._messages.clear()
        self._drawn = self._used = 0
        self._say("the conversation is forgotten")

    def _stats(self) -> None:
        if self._last.answers:
            self._say(f"last answer: {self._last.line()}")
            number = "1 answer" if self._all.answers == 1 else f"{self._all.answers:,} answers"
            self._say(f"since the start: {number}, {self._all.line()}")
        else:
            self._say("no answer yet")
        self._say(f"context: {self._used:,} of {self._context:,} tokens used")

    def _info(self) -> None:
        print_info(self._model, self._console)

    def _help(self) -> None:
        table = Table.grid(padding=(0, 2))
        for name, command in COMMANDS.items():
            table.add_row(Text(f"{name} {command.takes}".rstrip()), Text(command.does))
        self._console.print(table)
        self._say("temp 0.5, length 100, quit and exit work without a slash; Ctrl-C stops an answer")
        self._say(f"mode: {self._mode_name()}")

    def _greet(self) -> None:
        info = self._model.info()
        self._say(f"{info['release'] or info['path']}: {info['parameters']:,} parameters; {info['chat']}")
        self._say("/help lists the commands; Ctrl-D or /quit ends")

    def _prompt(self) -> str:
        return "you> " if self._mode == "chat" else f"{self._mode_name()}> "

    def _mode_name(self) -> str:
        return f"translate {OTHER_SIDE[self._to]} to {self._to}" if self._mode == "translate" else self._mode

    def _say(self, line: str) -> None:
        self._console.print(Text(line, style="dim"), soft_wrap=True)

    @property
    def _context(self) -> int:
        return self._model.model.config.context


def _edit_lines() -> None:
    """Line editing, lines of this session by the arrow keys, and commands by Tab, where Python has a line editor."""
    with contextlib.suppress(ImportError):
        import readline

        readline.set_completer_delims(" ")
        readline.set_completer(lambda begin, n: [*(c for c in COMMANDS if begin and c.startswith(begin)), None][n])
        readline.parse_and_bind("tab: complete")
