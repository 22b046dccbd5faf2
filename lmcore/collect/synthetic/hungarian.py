"""Hungarian word forms: vowel harmony, linking vowels, lengthening, assimilation; what is irregular is data.

Rules as in Kenesei, Vago and Fenyvesi, Hungarian (Descriptive Grammars, 1998), chapters 2.1 (inflection) and 3.4
(harmony). A word's harmony is that of its last vowel that is neither i nor é; words with no other vowels are front
unless their entry says `h=b` (híd, hidak).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

BACK, FRONT = "aáoóuú", "eéiíöőüű"
VOWELS = BACK + FRONT
_TRANSPARENT = "iíé"
_ROUNDED = "öőüű"
_LETTERS = ("dzs", "cs", "dz", "gy", "ly", "ny", "sz", "ty", "zs")  # of more than one sign
_BARE_T = frozenset({"l", "ly", "n", "ny", "r", "s", "sz", "z", "zs", "j"})  # take the accusative without a vowel
_LONG = {"a": "á", "e": "é"}
# case: back, front, front after a rounded vowel
_SUFFIXES = {
    "ine": ("ban", "ben", "ben"),
    "ill": ("ba", "be", "be"),
    "ela": ("ból", "ből", "ből"),
    "sub": ("ra", "re", "re"),
    "del": ("ról", "ről", "ről"),
    "ade": ("nál", "nél", "nél"),
    "all": ("hoz", "hez", "höz"),
    "abl": ("tól", "től", "től"),
    "dat": ("nak", "nek", "nek"),
    "cau": ("ért", "ért", "ért"),
    "ter": ("ig", "ig", "ig"),
}
CASES = ("nom", "acc", "sup", "ins", *_SUFFIXES)
PLACES = {"ban": ("ine", "ill", "ela"), "on": ("sup", "sub", "del"), "nál": ("ade", "all", "abl")}  # at, to, from
NUMERALS = ("", "egy", "két", "három", "négy", "öt", "hat", "hét", "nyolc", "kilenc", "tíz", "tizenegy", "tizenkét")
Marks = Mapping[str, str]  # of a word's entry: h, stem, low, acc, pl, ...


def letters(word: str) -> list[str]:
    """The letters of a word; sz is one."""
    found, at, low = [], 0, word.lower()
    while at < len(word):
        size = next((len(letter) for letter in _LETTERS if low.startswith(letter, at)), 1)
        found.append(word[at : at + size])
        at += size
    return found


def harmony(word: str, marks: Marks | None = None) -> int:
    """0 back, 1 front, 2 front after a rounded vowel: the column of a suffix."""
    vowels = [sign for sign in word.lower() if sign in VOWELS]
    last = vowels[-1] if vowels else "e"
    told = (marks or {}).get("h")
    deciding = next((sign for sign in reversed(vowels) if sign not in _TRANSPARENT), "e")
    back = told == "b" if told else deciding in BACK
    return 0 if back else 2 if last in _ROUNDED else 1


def article(following: str) -> str:
    """a or az, by the first sound of the word that follows."""
    return "az" if following[:1].lower() in VOWELS else "a"


def lengthened(word: str) -> str:
    """The word as it stands before a suffix: alma, almá-."""
    return word[:-1] + _LONG[word[-1]] if word[-1] in _LONG else word


def doubled(word: str) -> str:
    """With a long last consonant: ház, házz; lány, lánny; toll as it is."""
    signs = letters(word)
    last = signs[-1]
    if len(signs) > 1 and signs[-2].lower()[0] == last[0] and len(last) == 1:
        return word
    return word[: len(word) - len(last)] + last[0] + last


@lru_cache(maxsize=65536)
def _plural(lemma: str, marks: tuple[tuple[str, str], ...]) -> str:
    given = dict(marks)
    return given.get("pl") or f"{_linked(lemma, given)}k"


def plural(lemma: str, marks: Marks) -> str:
    """Nominative plural: almák, házak, kertek, tükrök."""
    return _plural(lemma, tuple(sorted(marks.items())))


def _linked(lemma: str, marks: Marks) -> str:
    """The stem with the vowel that links -k, -m and -d to it."""
    if "stem" not in marks and lemma[-1] in VOWELS:
        return lengthened(lemma)
    stem = marks.get("stem", lemma)
    place = harmony(stem, marks)
    return stem + (("a", "e", "e") if "low" in marks else ("o", "e", "ö"))[place]


def mine(lemma: str, marks: Marks) -> str:
    """My ...: kutyám, házam, tükröm."""
    return f"{_linked(lemma, marks)}m"


def form(lemma: str, case: str, marks: Marks | None = None) -> str:
    """The singular in a case."""
    marks = marks or {}
    if case == "nom":
        return lemma
    if case == "acc":
        return marks.get("acc") or _accusative(lemma, marks)
    if case == "sup":
        return _superessive(lemma, marks)
    return _suffixed(lemma, case, harmony(lemma, marks))


def plural_form(lemma: str, case: str, marks: Marks) -> str:
    """The plural in a case: almákat, házakban, tükrökkel."""
    whole = plural(lemma, marks)
    place = harmony(whole, marks)
    if case == "nom":
        return whole
    if case == "acc":
        return whole + ("at" if place == 0 else "et")
    if case == "sup":
        return whole + ("on", "en", "ön")[place]
    return _suffixed(whole, case, place)


def owned_form(owned: str, case: str) -> str:
    """A form of his or her ..., which is `owned`: kutyája, kutyáját, kutyájával."""
    if case == "nom":
        return owned
    place = 0 if owned[-1] == "a" else 1
    if case in ("acc", "sup"):
        return lengthened(owned) + ("t" if case == "acc" else "n")
    return _suffixed(owned, case, place)


def _accusative(lemma: str, marks: Marks) -> str:
    if "stem" in marks or "low" in marks:
        return f"{_linked(lemma, marks)}t"
    signs = letters(lemma.lower())
    if signs[-1] in VOWELS:
        return f"{lengthened(lemma)}t"
    if signs[-1] in _BARE_T and signs[-2] in VOWELS:
        return f"{lemma}t"
    return f"{_linked(lemma, marks)}t"


def _superessive(lemma: str, marks: Marks) -> str:
    stem = marks.get("stem", lemma)
    if lemma[-1] in VOWELS and stem == lemma:
        return f"{lengthened(lemma)}n"
    # ló, lovon; bokor, bokron; but madár, madáron: a stem that is merely shorter in sound is not used here
    fleeting = lemma[-1] in VOWELS or _syllables(stem) < _syllables(lemma)
    base = stem if fleeting else lemma
    return base + ("on", "en", "ön")[harmony(base, marks)]


def _suffixed(word: str, case: str, place: int) -> str:
    if case == "ins":
        ending = ("al", "el", "el")[place]
        return f"{lengthened(word)}v{ending}" if word[-1].lower() in VOWELS else doubled(word) + ending
    return lengthened(word) + _SUFFIXES[case][place]


def _syllables(word: str) -> int:
    return sum(sign in VOWELS for sign in word.lower())


def conjugated(lemma: str, past3: str, past_stem: str, marks: Marks, person: str, past: bool, definite: bool) -> str:
    """A verb without its preverb: `person` is s1 (I), s3 (he) or p3 (they); `past3` and `past_stem` are its entry's."""
    base = lemma.removesuffix("ik")
    place = harmony(base, marks)
    if past:
        if person == "s1":
            return past_stem + ("am", "em", "em")[place]
        if person == "s3":
            return past_stem + ("a", "e", "e")[place] if definite else past3
        if definite:
            return past_stem + ("ák", "ék", "ék")[place]
        return past_stem + ("ak", "ek", "ek")[place]
    if person == "s1":
        if definite or base != lemma:
            return marks.get("s1def" if definite else "s1") or base + ("om", "em", "öm")[place]
        return marks.get("s1") or base + ("ok", "ek", "ök")[place]
    if person == "s3":
        return (marks.get("def") or _present_definite(base, place, "a", "i")) if definite else lemma
    if definite:
        return marks.get("defpl") or _present_definite(base, place, "ák", "ik")
    return marks.get("pl") or base + _link_nak(base, place) + ("nak", "nek", "nek")[place]


def _present_definite(base: str, place: int, back: str, front: str) -> str:
    """olvassa, húzza, látja; nézi. After s, sz and z the j of the suffix becomes their like."""
    if place:
        return base + front
    last = letters(base)[-1]
    return (doubled(base) if last in ("s", "sz", "z", "dz") else f"{base}j") + back


def _link_nak(base: str, place: int) -> str:
    signs = letters(base)
    crowded = signs[-1] not in VOWELS and signs[-2] not in VOWELS
    return ("a", "e", "e")[place] if crowded or base.endswith("ít") else ""
