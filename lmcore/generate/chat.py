"""Messages to a prompt: between chat markers for a model tuned on them, else in the form that its texts had.

What a message says is encoded as text: nobody can forge a turn of a tuned model by typing a marker. Tags are text
themselves, so a message may not hold one where turns are written in tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from lmcore.conversation import ROLES, TAG, Template, closing_tag, label, opening_tag, pieces, translation_task
from storage.errors import UserError

if TYPE_CHECKING:
    from lmcore.tokenizer.interface import Tokenizer

Form = Literal["markers", "tags", "script"]
Messages = Sequence[Mapping[str, str]]  # each {"role": ..., "content": ...}
MARKED = "chat markers: <|user|> message <|end|> <|assistant|>, and the text ends at <|end|>"
TAGGED = "tags, as in its texts: <user>message</user><assistant>, and the text ends at </assistant>"
PLAIN = "plain script, as the model was not tuned for chat: 'User: message', new line, 'Assistant:'"
DESCRIBED: dict[Form, str] = {"markers": MARKED, "tags": TAGGED, "script": PLAIN}
STOPS: dict[Form, tuple[str, ...]] = {
    "markers": (),
    "tags": (*map(closing_tag, ROLES), *map(opening_tag, ROLES)),
    "script": tuple(f"\n{label(role)}" for role in ROLES),
}
OTHER_SIDE = {"hu": "en", "en": "hu"}  # what is translated from, by what is translated to
# Texts that begin so show the form that a model was trained on.
_BEGINNINGS: dict[Template, tuple[str, ...]] = {"tags": ("<user>", "<system>"), "script": ("User:", "System:")}
_OFTEN = -6.9  # natural logarithm of 1/1000: at least so many of its texts are conversations


def check_messages(messages: Messages) -> None:
    """UserError unless every message has a known role and text, and the last is the user's."""
    mend = 'pass messages as [{"role": "user", "content": "Hello"}]; the last is the user\'s'
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise UserError(f"message {number} does not have just a role and a content", mend)
        if message["role"] not in ROLES:
            raise UserError(f"message {number} has the role {message['role']!r}; roles are {', '.join(ROLES)}", mend)
        if not isinstance(message["content"], str):
            raise UserError(f"the content of message {number} is not text", mend)
    if not messages or messages[-1]["role"] != "user":
        raise UserError("there is no message of the user's to answer", mend)


def translation(text: str, to: str) -> list[dict[str, str]]:
    """Messages that ask for a translation to "hu" or "en", from the other. UserError for another language."""
    if to not in OTHER_SIDE:
        raise UserError(f"there is no translation to {to!r}", f"name one of {', '.join(OTHER_SIDE)}")
    task = translation_task(OTHER_SIDE[to], to)
    return [{"role": "system", "content": task}, {"role": "user", "content": text}]


def prompt_ids(messages: Messages, tokenizer: Tokenizer, form: Form) -> list[int]:
    """Token ids of a conversation, ready for the assistant's answer. UserError for a tag in a message in tags."""
    if form == "markers":
        return marked_ids(messages, tokenizer)
    text = plain_script(messages) if form == "script" else tagged(messages)
    return [tokenizer.bos_id, *tokenizer.encode(text)]


def left_out(messages: Messages, tokenizer: Tokenizer, form: Form, room: int) -> int:
    """How many messages at the beginning to leave out, so that the prompt has at most `room` tokens.

    System messages at the very beginning stay and are not counted; the rest begins with the user's words again, and
    always has the last message.
    """
    begin = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    starts = [n for n in range(begin + 1, len(messages)) if messages[n]["role"] == "user"]
    for start in [begin, *starts]:
        if len(prompt_ids([*messages[:begin], *messages[start:]], tokenizer, form)) <= room:
            return start - begin
    return (starts[-1] if starts else begin) - begin


def marked_ids(messages: Messages, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a conversation between chat markers, ready for the assistant's answer."""
    ids = [tokenizer.bos_id]
    for message in messages:
        ids += [tokenizer.specials[f"<|{message['role']}|>"], *tokenizer.encode(message["content"])]
        ids.append(tokenizer.specials["<|end|>"])
    return [*ids, tokenizer.specials["<|assistant|>"]]


def plain_script(messages: Messages) -> str:
    """The conversation as a script that a model of plain text can continue; the answer ends before `STOPS`."""
    return f"{_written(messages, 'script')}\n{label('assistant')}"


def tagged(messages: Messages) -> str:
    """The conversation in tags, up to the assistant's. UserError for a message that holds a tag."""
    for message in messages:
        if found := TAG.search(message["content"]):
            raise UserError(f"the message holds the tag {found[0]}", "write it otherwise: tags divide the turns here")
    return f"{_written(messages, 'tags')}<assistant>"


def likelier_form(logprob: Callable[[str], float]) -> Template:
    """The form that the model's conversations had, by what it expects at the beginning of a document.

    `logprob` gives the natural logarithm of the probability that a document begins with a text. "script" for a model
    that expects neither.
    """
    tags, script = (max(map(logprob, _BEGINNINGS[form])) for form in ("tags", "script"))
    return "tags" if tags > _OFTEN and tags > script else "script"


def _written(messages: Messages, template: Template) -> str:
    said = pieces([(message["role"], message["content"]) for message in messages], template)
    return "".join(text for _, text in said)
