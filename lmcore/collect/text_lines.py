"""Text files line by line, so that a large one takes no more memory than its longest line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from w3lib.encoding import read_bom

from lmcore.collect.charset import DETECT_BYTES, clean, decode
from lmcore.collect.unpack import PIECE, Member, Unreadable

_HEAD = 4096  # bytes that are looked at for a byte order mark and a language


def text_lines(member: Member) -> Iterator[str]:
    """The lines, each with its \\n but for a last one that has none; as `charset.decode` and `clean` give them.

    The charset is found out in a first reading. Raises Unreadable.
    """
    try:
        charset, begin = _charset(member)
        with open(member.path, "rb") as file:
            file.seek(begin)
            # \r and \r\n become \n in reading.
            for line in io.TextIOWrapper(file, charset, errors="replace", newline=None):
                yield clean(line)
    except OSError as error:
        raise Unreadable.of(error) from error


def _charset(member: Member) -> tuple[str, int]:
    """The charset and where the text begins, in `charset.decode`'s order."""
    with open(member.path, "rb") as file:
        named, mark = read_bom(file.read(_HEAD))
    if named and mark and _fits(member, named, len(mark)):
        return named, len(mark)
    if _fits(member, "utf-8", 0):
        return "utf-8", 0
    guess = decode(_telling(member)).charset
    return (guess if _fits(member, guess, 0) else "utf-8"), 0


def _fits(member: Member, charset: str, begin: int) -> bool:
    """Whether all of the file can be read as this."""
    decoder = codecs.getincrementaldecoder(charset)()
    with open(member.path, "rb") as file:
        file.seek(begin)
        try:
            while piece := file.read(PIECE):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeError:
            return False
    return True


def _telling(member: Member) -> bytes:
    """The beginning, and the lines that are not ASCII: all that detection looks at."""
    with open(member.path, "rb") as file:
        found = [file.read(_HEAD)]
        left = DETECT_BYTES
        while left > 0 and (line := file.readline(PIECE)):
            if not line.isascii():
                found.append(line)
                left -= len(line)
    return b"".join(found)
