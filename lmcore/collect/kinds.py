"""Every kind of source there is: its settings, and what reads its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from lmcore.collect import books, chat, code, parallel, qa, stackexchange, subtitles
from lmcore.collect.books import BooksSource
from lmcore.collect.chat import ChatSource
from lmcore.collect.code import CodeSource
from lmcore.collect.feed_params import FeedSource
from lmcore.collect.hub_params import HubSource
from lmcore.collect.items import Read
from lmcore.collect.pairs import ParallelSource
from lmcore.collect.params import FilesSource, PathsSource, WebSource
from lmcore.collect.qa import QaSource
from lmcore.collect.stackexchange import StackexchangeSource
from lmcore.collect.subtitles import SubtitlesSource
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.collect.unpack import is_archive, plain_name
from lmcore.collect.wikipedia import WikipediaSource, is_dump

KINDS = (
    WebSource, WikipediaSource, FeedSource, HubSource, FilesSource, CodeSource, QaSource, StackexchangeSource,
    ChatSource, SubtitlesSource, ParallelSource, BooksSource, SyntheticSource,
)  # fmt: skip
SourceParams = Annotated[
    WebSource
    | WikipediaSource
    | FeedSource
    | HubSource
    | FilesSource
    | CodeSource
    | QaSource
    | StackexchangeSource
    | ChatSource
    | SubtitlesSource
    | ParallelSource
    | BooksSource
    | SyntheticSource,
    Field(discriminator="kind"),
]
NAMES = {kind.model_fields["kind"].default: kind for kind in KINDS}  # as a recipe names them
NUMBERS = frozenset(  # settings of a source that say how much is read and how politely, never what: so they are named
    name
    for kind in KINDS
    for name, field in kind.model_fields.items()
    if field.annotation in (int, float)
    and (name.startswith(("max_", "min_")) or name in ("delay", "timeout", "retries"))
)
_FORMATS: dict[type[PathsSource], Mapping[str, Read]] = {
    QaSource: qa.FORMATS,
    ChatSource: chat.FORMATS,
    SubtitlesSource: subtitles.FORMATS,
    BooksSource: books.FORMATS,
    StackexchangeSource: stackexchange.FORMATS,
}


def formats(params: PathsSource) -> Mapping[str, Read]:
    """The reader of each suffix (lower case, with its dot) that this source reads."""
    if isinstance(params, FilesSource):
        from lmcore.collect.file_formats import FORMATS

        return FORMATS
    if isinstance(params, CodeSource):
        return code.formats()
    if isinstance(params, ParallelSource):
        return parallel.formats(params)
    return _FORMATS[type(params)]


def reader(params: PathsSource, name: str) -> Read | None:
    """What reads a plain or packed file of this name; None when its suffix is not known."""
    name = plain_name(name.lower())
    found = [suffix for suffix in formats(params) if name.endswith(suffix)]
    return formats(params)[max(found, key=len)] if found else None


def is_read(params: PathsSource, name: str) -> bool:
    """Whether a file of this name is one of those that the source reads."""
    if isinstance(params, WikipediaSource):
        return is_dump(name)
    return is_archive(name) or reader(params, name) is not None
