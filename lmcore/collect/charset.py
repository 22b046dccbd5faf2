"""Bytes to text: what was declared when it is true, what the bytes say when it is not."""

from __future__ import annotations

import codecs
import logging
import re
from typing import NamedTuple

import charset_normalizer
from w3lib.encoding import html_body_declared_encoding, http_content_type_encoding, read_bom, resolve_encoding

DETECT_BYTES = 64 * 1024  # enough for charset-normalizer; the whole of a 5 MB page takes it many seconds
NEARLY = 0.12  # of charset-normalizer's "chaos" (0 to 1): French taken for Baltic differs by .08 to .11
HIRAGANA = 0.2  # share of all letters that are not ASCII; Japanese novels have 0.5 to 0.7
_LATIN = re.compile(r"cp125[0247]|cp775|cp85\d|latin_1|iso8859_(?:[12349]|1[03456])|mac_(?:iceland|latin2|roman)")
_HIRAGANA = re.compile("[\u3041-\u3096]")
_SMALL_CYRILLIC = re.compile("[\u0430-\u045f]")
_JAPANESE = ("cp932", "euc_jp")
# What is usual in a language, the commonest first (HTML standard, 13.2.3.2, "suggested default encodings", and what
# was before it); asked only where the bytes are no UTF-8.
_CYRILLIC = ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic")
_EASTERN = ("cp1250", "iso8859_2", "cp852")
_USUAL: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("be", "bg", "kk", "ky", "mk", "ru", "sr", "tg", "uk"), _CYRILLIC),
    **dict.fromkeys(("bs", "cs", "hr", "hu", "pl", "ro", "sk", "sl", "sq"), _EASTERN),
    **dict.fromkeys(("da", "de", "en", "es", "fi", "fr", "it", "nb", "nl", "no", "pt", "sv"), ("cp1252",)),
    **dict.fromkeys(("et", "lt", "lv"), ("cp1257",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("cp1256", "iso8859_6")),
    "el": ("cp1253", "iso8859_7"),
    "he": ("cp1255", "iso8859_8"),
    "ja": _JAPANESE,
    "ko": ("cp949", "johab"),
    "th": ("cp874",),
    "tr": ("cp1254", "iso8859_9"),
    "vi": ("cp1258",),
    "zh": ("gb18030", "big5hkscs"),
}
_CENTRAL = re.compile(rb"lang=[\"']?(?:bs|cs|hr|hu|pl|sk|sl|sq)\b", re.IGNORECASE)
_LINE = re.compile(rb"[\r\n]+|(?<=[.>])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SINGLE_BYTE = ("cp125", "iso8859", "latin", "koi8", "mac", "ascii")

logging.getLogger("charset_normalizer").setLevel(logging.WARNING)


class Decoded(NamedTuple):
    """Text, the codec it was read with, and who named that codec.

    bom, header, meta, utf-8, detected, language (it is usual in the language that was given) or replaced.
    """

    text: str
    charset: str
    source: str


def decode(data: bytes, content_type: str | None = None, *, html: bool = False, lang: str = "und") -> Decoded:
    """Decode `data`; never raises.

    Order: byte order mark, the header's charset, the page's own <meta>, UTF-8, detection, which in a `lang` (BCP 47)
    whose charsets are known is held to these: on short texts it errs. A declaration that
    does not fit the bytes is passed over; so is a single-byte one when the bytes are valid UTF-8, because
    text of another charset is hardly ever valid UTF-8 by chance (RFC 3629 section 1). Last resort: UTF-8 with
    U+FFFD for what cannot be read, source "replaced".
    """
    charset, bom = read_bom(data)
    if charset and bom is not None:
        decoded = _strict(data[len(bom) :], charset)
        if decoded is not None:
            return Decoded(decoded, _name(charset), "bom")
    utf8 = _strict(data, "utf-8")
    declared = [("header", http_content_type_encoding(content_type))]
    if html:
        declared.append(("meta", html_body_declared_encoding(data[:4096])))
    for source, label in declared:
        codec = resolve_encoding(label) if label else None
        # A <meta> that can be read as ASCII is no UTF-16 (WHATWG encoding sniffing says UTF-8 then).
        if codec is None or (source == "meta" and _name(codec).startswith(("utf-16", "utf-32"))):
            continue
        if utf8 is not None and _name(codec).startswith(_SINGLE_BYTE):
            return Decoded(utf8, "utf-8", source if data.isascii() else "utf-8")
        decoded = _strict(data, codec)
        if decoded is not None:
            return Decoded(decoded, _name(codec), source)
    if utf8 is not None:
        return Decoded(utf8, "utf-8", "utf-8")
    guess = _detect(data)
    usual = _USUAL.get(lang.lower().partition("-")[0], ())
    if usual and guess not in usual:
        for codec in usual:
            decoded = _strict(data, codec)
            if decoded is not None:
                return Decoded(decoded, _name(codec), "language")
    decoded = _strict(data, guess) if guess else None
    if decoded is not None and guess:
        return Decoded(decoded, _name(guess), "detected")
    return Decoded(data.decode("utf-8", "replace"), "utf-8", "replaced")


def _detect(data: bytes) -> str | None:
    """charset-normalizer's guess from the lines that are not ASCII, the only ones that say anything.

    Among charsets of Latin letters it often cannot tell (French scores best as Baltic): there windows-1252
    wins when it is nearly as good, or windows-1250 on pages in a language of Central Europe, as in browsers. Short
    Japanese texts it takes for Korean; only they are full of hiragana. Of the Cyrillic charsets it knows no small
    letters; most are.
    """
    telling = b"\n".join(line for line in _LINE.split(data) if not line.isascii())[:DETECT_BYTES]
    for codec in _JAPANESE:
        text = _strict(data, codec)
        if text and len(_HIRAGANA.findall(text)) > HIRAGANA * sum(not character.isascii() for character in text):
            return codec
    matches = charset_normalizer.from_bytes(telling)
    best = matches.best()
    if best and best.encoding in _CYRILLIC:  # texts of one read as another are words written lIKE THIS
        texts = {codec: _strict(data, codec) or "" for codec in _CYRILLIC}
        return max(texts, key=lambda codec: len(_SMALL_CYRILLIC.findall(texts[codec])))
    if best is None or not _LATIN.fullmatch(best.encoding):
        return best.encoding if best else None
    usual = "cp1250" if _CENTRAL.search(data[:4096]) else "cp1252"
    for match in matches:
        near = match.chaos <= best.chaos + NEARLY and match.coherence >= best.coherence - NEARLY / 2
        if near and usual in match.could_be_from_charset:
            return usual
    return best.encoding


def clean(text: str) -> str:
    """Text that Arrow and lxml accept: newlines as \\n, no NUL, lone surrogates as U+FFFD."""
    return _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", ""))


def _strict(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeError, LookupError):
        return None


def _name(codec: str) -> str:
    return codecs.lookup(codec).name
