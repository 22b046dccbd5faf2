"""Which language codes there are, and which one was meant by a code that there is not.

Known are the codes of Unicode CLDR and those that the packaged models and limits use. ISO 639-3 has thousands more, of
languages that nothing here knows: such a code is known where a recipe declares it itself.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Sequence

from lmcore.curate.language_models import known
from lmcore.curate.rule_sets import SETS, language_keys, packaged_rules
from lmcore.curate.stop_words import stop_word_languages

_PRIVATE = re.compile(r"q[a-t][a-z]")  # ISO 639-2 leaves these to whoever needs a code of their own
_SHORTEST_NEAR = 0.5  # difflib ratio from which a misspelt code is worth a suggestion


def is_known(code: str, declared: Collection[str] = ()) -> bool:
    """Whether limits for `code` (hu, sr-Latn) can be for any text; `declared` are tags that a recipe gives texts."""
    lang, _, script = code.partition("-")
    if script and script not in _scripts():
        return False
    if lang in _names() or _PRIVATE.fullmatch(lang) or lang in _of_limits():
        return True
    # the models last: they are loaded for it
    return lang in {language_keys(tag)[-1] for tag in declared} or lang in known()


def nearest(code: str, declared: Collection[str] = ()) -> str | None:
    """The code that was probably meant, None where nothing is near: hun and Hungarian are hu, jp is ja."""
    lang, *rest = re.split("[-_]", code.strip())
    lang = lang.lower()
    by_name = {name.lower(): known for known, name in _names().items()}
    ours = {language_keys(tag)[-1] for tag in declared}
    meant = by_name.get(lang) or _aliases().get(lang, lang)
    if not is_known(meant, declared):
        likely = _of_country().get(lang) or _resembling(lang, [sorted(ours), stop_word_languages(), sorted(_names())])
        if likely is None:
            return None
        meant = likely
    given = next((part.title() for part in rest if len(part) == 4), None)
    if given is None:
        return meant
    script = next(iter(difflib.get_close_matches(given, sorted(_scripts()), 1, _SHORTEST_NEAR)), None)
    return f"{meant}-{script}" if script else meant


def _resembling(code: str, choices: Sequence[Sequence[str]]) -> str | None:
    """The code nearest in spelling, of the first of the choices that has one."""
    for choice in choices:
        if near := difflib.get_close_matches(code, choice, 1, _SHORTEST_NEAR):
            return near[0]
    return None


@functools.cache
def _names() -> dict[str, str]:
    """Every language code of CLDR with its English name."""
    import babel

    return {code: name for code, name in babel.Locale("en").languages.items() if re.fullmatch("[a-z]{2,3}", code)}


@functools.cache
def _scripts() -> frozenset[str]:
    import babel

    return frozenset(babel.Locale("en").scripts)


@functools.cache
def _aliases() -> dict[str, str]:
    """Codes that were replaced, and long ones that have a short one, with what to write."""
    from babel.core import get_global

    return {code: meant for code, meant in get_global("language_aliases").items() if meant in _names()}


@functools.cache
def _of_country() -> dict[str, str]:
    """What a country mostly speaks, by its code: jp is no language, ja is."""
    from babel.core import get_global

    return {
        key.removeprefix("und_").lower(): tag.partition("_")[0]
        for key, tag in get_global("likely_subtags").items()
        if re.fullmatch("und_[A-Z]{2}", key)
    }


@functools.cache
def _of_limits() -> frozenset[str]:
    """Languages that a packaged rule has a limit for."""
    return frozenset(key.partition("-")[0] for rule in packaged_rules(tuple(SETS)) for key in rule.per_language)
