"""The commands of `collect-train chat`: their names, what stands behind them, and how a line is read."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from lmcore.generate.sampling import Sampling, make_sampling
from storage.errors import UserError


class Command(NamedTuple):
    """One command, as /help shows it."""

    takes: str  # what may stand behind it; "" for nothing
    does: str


COMMANDS = {
    "/chat": Command("[MESSAGE]", "talk: the model sees the whole conversation, as far as its context goes"),
    "/translate": Command("[TEXT]", "translate every line, in the direction chosen last (to Hungarian at first)"),
    "/code": Command("[QUESTION]", 'ask for code: every line alone, behind the system message "Answer with code."'),
    "/text": Command("[TEXT]", "continue every line as a plain text"),
    "/hu": Command("[TEXT]", "translate to Hungarian: this text alone, or every line from now on"),
    "/en": Command("[TEXT]", "translate to English: this text alone, or every line from now on"),
    "/temp": Command("[NUMBER]", "temperature: 0 always the likeliest token; without a number, what it is"),
    "/length": Command("[NUMBER]", "the same as /tokens"),
    "/tokens": Command("[NUMBER]", "the most tokens of one answer; without a number, what it is"),
    "/reset": Command("", "forget the conversation, and draw as from the start"),
    "/stats": Command("", "tokens, seconds, tokens a second, how much of the context is used"),
    "/info": Command("", "what the loaded model is"),
    "/help": Command("", "this list"),
    "/quit": Command("", "end; so does Ctrl-D"),
}
MODES = ("chat", "translate", "code", "text")
NUMBERS = {"/temp": "temperature", "/length": "max_tokens", "/tokens": "max_tokens"}  # settings of `Sampling`
_OTHER_NAMES = {"/exit": "/quit", "/q": "/quit", "/?": "/help", "/": "/help"}
# Without a slash only where nobody could mean it as a message.
_BARE = re.compile(r"(?:(?:temp|length|tokens)\s+[-+.]?\d\S*|quit|exit)", re.IGNORECASE)


def read_line(line: str) -> tuple[str, str]:
    """(command, what stands behind it) of a line; the command is "" for a line that is text.

    A line that begins with a space is always text. UserError for an unknown command, naming the nearest.
    """
    line = line.rstrip()
    if _BARE.fullmatch(line):
        line = f"/{line}"
    if not line.startswith("/"):
        return "", line
    name, _, rest = line.partition(" ")
    command = _OTHER_NAMES.get(name.lower(), name.lower())
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1, cutoff=0.4)
        mend = f"did you mean {near[0]}?" if near else "/help lists the commands"
        raise UserError(f"there is no command {name}", f"{mend} (a line of text may begin with a space)")
    if rest.strip() and not COMMANDS[command].takes:
        raise UserError(f"{command} takes nothing behind it", f"type {command}")
    return command, rest.strip()


def with_number(sampling: Sampling, command: str, word: str) -> Sampling:
    """`sampling` with what /temp, /length or /tokens sets. UserError for what is no number in its range."""
    name = NUMBERS[command]
    whole = name == "max_tokens"
    try:
        return make_sampling(**(sampling.model_dump() | {name: int(word) if whole else float(word)}))
    except ValueError as error:
        limits = Sampling.model_fields[name].metadata
        low = next(limit.ge for limit in limits if hasattr(limit, "ge"))
        high = next(limit.le for limit in limits if hasattr(limit, "le"))
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{command} takes {kind} from {low:,} to {high:,}, not {word!r}", "") from error
