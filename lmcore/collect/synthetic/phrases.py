"""What a phrase and a clause mean, and how that is said in Hungarian and in English.

A translation is true because both sides are said from one meaning: who (a `Phrase`) does what (a `Verb`), to whom,
where, when, whether at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmcore.collect.synthetic import english, hungarian
from lmcore.collect.synthetic.words import Adjective, Noun, Verb

Determiner = Literal["the", "a", "my", "owner", "none"]
Tense = Literal["present", "past", "future"]


@dataclass(frozen=True)
class Phrase:
    """A noun with what stands before it. `count` is 1, a number from 2 to 12, or 0 for a plural of no number."""

    noun: Noun
    determiner: Determiner = "the"
    adjectives: tuple[Adjective, ...] = ()
    count: int = 1
    owner: Noun | None = None

    @property
    def definite(self) -> bool:
        """Whether a Hungarian verb has it as its definite object."""
        return self.noun.is_name or self.determiner in ("the", "my", "owner")

    def hu(self, case: str = "nom") -> str:
        """Hungarian, in a case: a piros almát, három kutyával, Anna kertjében."""
        noun, words = self.noun, [adjective.hu for adjective in self.adjectives]
        if self.count > 1:
            words.insert(0, hungarian.NUMERALS[self.count])
        if self.determiner == "owner":
            head = hungarian.owned_form(noun.his, case)
        elif self.determiner == "my":
            head = hungarian.form(hungarian.mine(noun.hu, noun.marks), case, _after_m(noun))
        elif self.count == 0:
            head = hungarian.plural_form(noun.hu, case, noun.marks)
        else:
            head = hungarian.form(noun.hu, case, noun.marks)
        words.append(head)
        if noun.is_name:
            return head
        if self.determiner in ("the", "my"):
            words.insert(0, hungarian.article(words[0]))
        elif self.determiner == "a" and self.count == 1 and not noun.mass:
            words.insert(0, "egy")
        elif self.determiner == "owner" and self.owner:
            words.insert(0, self.owner.hu)
        return " ".join(words)

    def en(self) -> str:
        """English: the red apple, three dogs, Anna's garden."""
        noun, words = self.noun, [adjective.en for adjective in self.adjectives]
        if noun.is_name:
            return noun.en
        words.append(noun.en if self.count == 1 else noun.en_plural)
        if self.count > 1:
            words.insert(0, english.NUMERALS[self.count])
        if self.determiner in ("the", "my"):
            words.insert(0, self.determiner)
        elif self.determiner == "a" and self.count == 1 and not noun.mass:
            words.insert(0, english.article(words[0]))
        elif self.determiner == "owner" and self.owner:
            words.insert(0, english.possessive(self.owner.en))
        return " ".join(words)

    @property
    def hu_person(self) -> str:
        """Person of a Hungarian verb: after a number it is singular."""
        return "p3" if self.count == 0 else "s3"

    @property
    def en_plural(self) -> bool:
        """Whether an English verb is in the plural."""
        return self.count != 1


@dataclass(frozen=True)
class Place:
    """A place and whether one is there, goes there or comes from there."""

    phrase: Phrase
    way: Literal["at", "to", "from"] = "at"

    def hu(self) -> str:
        """a kertben, a kertbe, a kertből"""
        cases = hungarian.PLACES[self.phrase.noun.loc]
        return self.phrase.hu(cases[("at", "to", "from").index(self.way)])

    def en(self) -> str:
        """in the garden, to the garden, from the garden"""
        return f"{self.phrase.noun.prep if self.way == 'at' else self.way} {self.phrase.en()}"


@dataclass(frozen=True)
class Time:
    """A word for when something happens, in both languages; `tense` is the one it goes with."""

    hu: str
    en: str
    tense: Tense


@dataclass(frozen=True)
class Clause:
    """Somebody does something. `subject` None is the speaker; `other` is with whom, or to whom (`gives`, `helps`)."""

    verb: Verb
    subject: Phrase | None
    tense: Tense = "present"
    object: Phrase | None = None
    other: Phrase | None = None
    role: Literal["", "with", "gives", "helps"] = ""
    place: Place | None = None
    time: Time | None = None
    negative: bool = False
    place_first: bool = False  # Hungarian: what the sentence is about

    def hu(self) -> str:
        """The clause without a capital and a full stop."""
        words: list[str] = []
        if self.time:
            words.append(self.time.hu)
        if self.place and self.place_first:
            words.append(self.place.hu())
        if self.subject:
            words.append(self.subject.hu())
        # Where one goes stands before the verb, unless something else must: Anna a boltba megy, Anna nem megy a boltba
        moves = self.place is not None and self.place.way != "at" and not self.negative and not self.verb.preverb
        if self.place and moves and not self.place_first:
            words.append(self.place.hu())
        words += self._hu_verb()
        if self.other:
            words.append(self.other.hu("ins" if self.role == "with" else "dat"))
        if self.object:
            words.append(self.object.hu("acc"))
        if self.place and not moves and not self.place_first:
            words.append(self.place.hu())
        return " ".join(words)

    def hu_question(self) -> str:
        """Does ...? The verb comes first."""
        words = self._hu_verb()
        if self.subject:
            words.append(self.subject.hu())
        if self.other:
            words.append(self.other.hu("ins" if self.role == "with" else "dat"))
        if self.object:
            words.append(self.object.hu("acc"))
        if self.place:
            words.append(self.place.hu())
        if self.time:
            words.append(self.time.hu)
        return f"{' '.join(words)}?"

    def en(self) -> str:
        """The clause; the time comes last."""
        who = self.subject.en() if self.subject else "I"
        plural = self.subject.en_plural if self.subject else True
        verb = self.verb.en
        if self.tense == "future":
            said = f"will not {verb}" if self.negative else f"will {verb}"
        elif self.tense == "past":
            said = f"did not {verb}" if self.negative else self.verb.en_past
        elif self.negative:
            said = f"{'do' if plural else 'does'} not {verb}"
        else:
            said = verb if plural else english.third(verb)
        return " ".join([who, said, *self._en_rest()])

    def en_question(self) -> str:
        """Does ...?"""
        who = self.subject.en() if self.subject else "I"
        plural = self.subject.en_plural if self.subject else True
        helper = {"future": "will", "past": "did", "present": "do" if plural else "does"}[self.tense]
        return f"{' '.join([helper, who, self.verb.en, *self._en_rest()])}?"

    def _hu_verb(self) -> list[str]:
        verb, person = self.verb, self.subject.hu_person if self.subject else "s1"
        definite = self.object is not None and self.object.definite
        past = self.tense == "past"
        base = hungarian.conjugated(verb.hu, verb.past3, verb.past_stem, verb.marks, person, past, definite)
        if self.negative:
            return ["nem", base, verb.preverb] if verb.preverb else ["nem", base]
        return [verb.preverb + base]

    def _en_rest(self) -> list[str]:
        words = []
        if self.other and self.role == "helps":
            words.append(self.other.en())
        if self.object:
            words.append(self.object.en())
        if self.other and self.role in ("with", "gives"):
            to = "for" if "for" in self.verb.marks else "to"
            words.append(f"{'with' if self.role == 'with' else to} {self.other.en()}")
        if self.place:
            words.append(self.place.en())
        if self.time:
            words.append(self.time.en)
        return words


def sentence(clause: str, end: str = ".") -> str:
    """With a capital and a full stop."""
    return clause[:1].upper() + clause[1:] + ("" if clause.endswith("?") else end)


def _after_m(noun: Noun) -> dict[str, str]:
    """Marks of a noun with -m: kutyám, kutyámat; könyvem, könyvemet. Its harmony is the noun's."""
    back = hungarian.harmony(noun.hu, noun.marks) == 0
    return {"h": "b" if back else "f", "low": ""}
