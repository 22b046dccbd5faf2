"""Messages to a prompt: between chat markers for a model tuned on them, as a plain script for any other.

What a message says is always encoded as text: nobody can forge a turn of a tuned model by typing a marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmcore.conversation import ROLES, label, pieces
from storage.errors import UserError

if TYPE_CHECKING:
    from lmcore.tokenizer.interface import Tokenizer

MARKED = "chat markers: <|user|> message <|end|> <|assistant|>, and the text ends at <|end|>"
PLAIN = "plain script, as the model was not tuned for chat: 'User: message', new line, 'Assistant:'"
PLAIN_STOP = tuple(f"\n{label(role)}" for role in ROLES)


def check_messages(messages: Sequence[Mapping[str, str]]) -> None:
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


def marked_ids(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer) -> list[int]:
    """Token ids of a conversation between chat markers, ready for the assistant's answer."""
    ids = [tokenizer.bos_id]
    for message in messages:
        ids += [tokenizer.specials[f"<|{message['role']}|>"], *tokenizer.encode(message["content"])]
        ids.append(tokenizer.specials["<|end|>"])
    return [*ids, tokenizer.specials["<|assistant|>"]]


def plain_script(messages: Sequence[Mapping[str, str]]) -> str:
    """The conversation as a script that a model of plain text can continue; the answer ends before `PLAIN_STOP`."""
    said = pieces([(message["role"], message["content"]) for message in messages], "script")
    return "".join(text for _, text in said) + f"\n{label('assistant')}"
