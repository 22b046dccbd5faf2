"""Word forms of the generated texts: tables written by hand, and what holds for all of them."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.collect.synthetic import english, hungarian
from lmcore.collect.synthetic.phrases import Phrase
from lmcore.collect.synthetic.sentences import Draw, draw_sentence
from lmcore.collect.synthetic.words import adjectives, names, nouns, verbs

NOUNS = {noun.hu: noun for noun in (*nouns(), *names())}
VERBS = {verb.preverb + verb.hu: verb for verb in verbs()}

# word: case or pl, pl.CASE, my, his.CASE: form
FORMS = """
ház: acc házat, pl házak, ine házban, ins házzal, sup házon, all házhoz, my házam, pl.acc házakat
ház: pl.ins házakkal, his.acc házát
kert: acc kertet, pl kertek, ine kertben, ins kerttel, sup kerten, all kerthez, my kertem, abl kerttől
könyv: acc könyvet, pl könyvek, ins könyvvel, sup könyvön, all könyvhöz, my könyvem, dat könyvnek, pl.sup könyveken
tükör: acc tükröt, pl tükrök, ins tükörrel, sup tükrön, all tükörhöz, my tükröm, pl.ins tükrökkel, pl.all tükrökhöz
bokor: acc bokrot, pl bokrok, ine bokorban, sup bokron, ins bokorral
eper: acc epret, pl eprek, ins eperrel, sup epren
majom: acc majmot, pl majmok, ins majommal, dat majomnak, his.acc majmát
bagoly: acc baglyot, pl baglyok, ins bagollyal
torony: acc tornyot, pl tornyok, ine toronyban, ins toronnyal, ill toronyba
étterem: acc éttermet, pl éttermek, ine étteremben, ela étteremből
madár: acc madarat, pl madarak, sup madáron, ins madárral
egér: acc egeret, pl egerek, ins egérrel
nyúl: acc nyulat, pl nyulak, ins nyúllal
kenyér: acc kenyeret, ins kenyérrel
levél: acc levelet, pl levelek, ins levéllel, my levelem
pohár: acc poharat, pl poharak, ine pohárban
ló: acc lovat, pl lovak, sup lovon, ins lóval, my lovam, all lóhoz
kő: acc követ, pl kövek, sup kövön, ins kővel, all kőhöz
tó: acc tavat, pl tavak, sup tavon, ade tónál, all tóhoz
híd: acc hidat, pl hidak, sup hídon, sub hídra, ins híddal, all hídhoz
út: acc utat, pl utak, sup úton, del útról
víz: acc vizet, sup vízen, ins vízzel
tér: acc teret, pl terek, sup téren, sub térre
fa: acc fát, pl fák, sup fán, ins fával, ine fában, my fám, his.acc fáját, pl.acc fákat
alma: acc almát, pl almák, ins almával, my almám, his.ins almájával
körte: acc körtét, pl körték, ins körtével, all körtéhez
kutya: acc kutyát, pl kutyák, dat kutyának, his.dat kutyájának, pl.dat kutyáknak
autó: acc autót, pl autók, ins autóval, sup autón, my autóm, pl.ine autókban
cipő: acc cipőt, pl cipők, ins cipővel, all cipőhöz, his.acc cipőjét
bicikli: acc biciklit, pl biciklik, ins biciklivel
kávé: acc kávét, ins kávéval
krumpli: acc krumplit, pl krumplik, ins krumplival
szomszéd: acc szomszédot, pl szomszédok, ins szomszéddal
tányér: acc tányért, pl tányérok, sup tányéron
virág: acc virágot, pl virágok, ins virággal
lány: acc lányt, pl lányok, ins lánnyal, dat lánynak
király: acc királyt, pl királyok, ins királlyal
kulcs: acc kulcsot, pl kulcsok, ins kulccsal
narancs: acc narancsot, ins naranccsal
kés: acc kést, pl kések, ins késsel
busz: acc buszt, pl buszok, ins busszal
toll: acc tollat, pl tollak, ins tollal
ágy: acc ágyat, pl ágyak, ins ággyal, sup ágyon
méz: acc mézet, ins mézzel
tej: acc tejet, ins tejjel
vers: acc verset, pl versek, ins verssel
szőnyeg: acc szőnyeget, pl szőnyegek, sup szőnyegen, all szőnyeghez
elefánt: acc elefántot, pl elefántok, ins elefánttal
állatkert: acc állatkertet, ine állatkertben, ill állatkertbe
könyvtár: acc könyvtárat, ine könyvtárban, ela könyvtárból
pulóver: acc pulóvert, pl pulóverek
teknős: acc teknőst, pl teknősök, ins teknőssel
falu: acc falut, pl falvak, ine faluban
hal: acc halat, pl halak
papagáj: acc papagájt, ins papagájjal
barack: acc barackot, ins barackkal
sál: acc sálat, pl sálak
Anna: acc Annát, dat Annának, ins Annával, all Annához
Péter: acc Pétert, dat Péternek, ins Péterrel
Balázs: acc Balázst, ins Balázzsal
Tamás: acc Tamást, ins Tamással, dat Tamásnak
Ferenc: acc Ferencet, ins Ferenccel
Gergő: acc Gergőt, ins Gergővel, all Gergőhöz
Judit: acc Juditot, ins Judittal, dat Juditnak
Ágnes: acc Ágnest, ins Ágnessel, dat Ágnesnek
Bence: acc Bencét, ins Bencével
Dávid: acc Dávidot, dat Dávidnak
Máté: acc Mátét, ins Mátéval, dat Máténak
"""

# verb: person tense definiteness: form
CONJUGATED = """
olvas: s1 olvasok, s1d olvasom, s3d olvassa, p3 olvasnak, p3d olvassák
olvas: s3p olvasott, s3pd olvasta, p3p olvastak, p3pd olvasták
néz: s3d nézi, p3 néznek, p3d nézik, s3p nézett, s3pd nézte
húz: s3d húzza, p3d húzzák, s3p húzott, s3pd húzta
lát: s3d látja, p3d látják, s3p látott, s3pd látta, p3p láttak
szeret: s1d szeretem, s3d szereti, p3 szeretnek, p3pd szerették
eszik: s1 eszem, s3 eszik, s3d eszi, p3 esznek, s3p evett, s3pd ette
iszik: s1 iszom, s3d issza, p3 isznak, p3d isszák, s3p ivott, s3pd itta
vesz: s3d veszi, p3 vesznek, s3p vett, s3pd vette
ír: s1 írok, s3d írja, s3p írt, s3pd írta
küld: p3 küldenek, s3d küldi, s3p küldött, s3pd küldte
épít: p3 építenek, s3p épített, s3pd építette
tanít: s1 tanítok, p3 tanítanak, s3d tanítja
főz: s1 főzök, s1d főzöm, s3d főzi, s3pd főzte
alszik: s1 alszom, p3 alszanak, s3p aludt, p3p aludtak
játszik: s1 játszom, p3 játszanak, s3p játszott
megy: s1 megyek, p3 mennek, s3p ment, p3p mentek
jön: s1 jövök, p3 jönnek, s3p jött
dolgozik: s1 dolgozom, p3 dolgoznak, p3p dolgoztak
hoz: s3d hozza, s3pd hozta
mos: s3d mossa, p3d mossák, s3pd mosta
ad: s3d adja, p3pd adták
süt: s3d süti, s3pd sütötte
"""

ENGLISH = """
child children, woman women, mouse mice, goose geese, wolf wolves, fish fish, knife knives, shelf shelves, scarf scarves
fisherman fishermen, cherry cherries, city cities, library libraries, bakery bakeries, strawberry strawberries
box boxes, bus buses, glass glasses, brush brushes, church churches, peach peaches, dress dresses, sandwich sandwiches
monkey monkeys, key keys, donkey donkeys, boy boys, potato potatoes, tomato tomatoes, piano pianos, zoo zoos
house houses, horse horses, apple apples, postcard postcards, swimming_pool swimming_pools, diary diaries
"""
THIRD = {
    "go": "goes", "have breakfast": "has breakfast", "look for": "looks for", "cry": "cries", "play": "plays",
    "wash": "washes", "teach": "teaches", "watch": "watches", "carry": "carries", "buy": "buys", "fish": "fishes",
    "push": "pushes", "run": "runs", "catch": "catches", "put on": "puts on", "study": "studies",
}  # fmt: skip
PAST = {
    "go": "went", "eat": "ate", "drink": "drank", "write": "wrote", "buy": "bought", "bring": "brought",
    "catch": "caught", "think": "thought", "teach": "taught", "swim": "swam", "sleep": "slept", "see": "saw",
    "find": "found", "sell": "sold", "hide": "hid", "break": "broke", "choose": "chose", "hold": "held",
    "throw": "threw", "feed": "fed", "drive": "drove", "build": "built", "carry": "carried", "study": "studied",
}  # fmt: skip
ARTICLES = {
    "apple": "an", "hour": "an", "honest": "an", "university": "a", "uniform": "a", "unimportant": "an",
    "unknown": "an", "uninteresting": "an", "European": "a", "umbrella": "an", "house": "a", "one-eyed": "a",
    "useful": "a", "ugly": "an", "yard": "a", "English": "an",
}  # fmt: skip


def table(text):
    for line in text.strip().splitlines():
        word, _, forms = line.partition(": ")
        for pair in forms.split(", "):
            way, form = pair.split(" ")
            yield word.split()[-1], way, form


def made(word, way):
    noun = NOUNS[word]
    if way == "my":
        return hungarian.mine(word, noun.marks)
    group, _, case = way.rpartition(".")
    if way == "pl":
        return hungarian.plural(word, noun.marks)
    if group == "pl":
        return hungarian.plural_form(word, case, noun.marks)
    return hungarian.owned_form(noun.his, case) if group == "his" else hungarian.form(word, way, noun.marks)


def test_nouns_by_hand():
    wrong = [(word, way, made(word, way), form) for word, way, form in table(FORMS) if made(word, way) != form]
    assert not wrong


def test_verbs_by_hand():
    wrong = []
    for word, way, form in table(CONJUGATED):
        verb = VERBS[word]
        given = hungarian.conjugated(
            verb.hu, verb.past3, verb.past_stem, verb.marks, way[:2], "p" in way[2:], "d" in way[2:]
        )
        wrong += [(word, way, given, form)] if given != form else []
    assert not wrong


def test_there_are_enough_of_them():
    assert len([*table(FORMS), *table(CONJUGATED)]) >= 150
    assert len(THIRD) + len(PAST) + len(ARTICLES) + len(english_plurals()) >= 60
    assert len(nouns()) >= 150
    assert len(verbs()) >= 80
    assert len(adjectives()) >= 80


def english_plurals():
    pairs = [pair.split()[-2:] for line in ENGLISH.strip().splitlines() for pair in line.split(", ")]
    return [(one.replace("_", " "), many.replace("_", " ")) for one, many in pairs]


def test_english_by_hand():
    known = {noun.en: noun.en_plural for noun in nouns()}
    assert [(one, known[one]) for one, _ in english_plurals()] == english_plurals()
    assert {verb: english.third(verb) for verb in THIRD} == THIRD
    pasts = {verb.en: verb.en_past for verb in verbs()}
    assert {verb: pasts[verb] for verb in PAST} == PAST
    assert {word: english.article(word) for word in ARTICLES} == ARTICLES
    assert english.possessive("Tamás") == "Tamás's"
    assert [english.pronoun(g, f) for g in ("m", "f", "") for f in ("He", "him", "his")] == [
        "He", "him", "his", "She", "her", "her", "It", "it", "its"
    ]  # fmt: skip


def test_the_word_banks_agree_with_themselves():
    english_of = {}
    for noun in nouns():
        assert noun.classes
        assert noun.en
        assert english_of.setdefault(noun.en, noun.hu) == noun.hu, "two words of one translation"
        assert ("place" in noun.classes) == bool(noun.prep)
        assert set(noun.marks) <= {"stem", "low", "acc", "pl", "h", "loc"}
        if noun.his:
            assert noun.his[-1] in "ae"
    assert len({noun.hu for noun in nouns()}) == len(nouns())
    known = {adjective.hu: adjective for adjective in adjectives()}
    assert len(known) == len(adjectives())
    for adjective in adjectives():
        assert adjective.opposite in known or not adjective.opposite
        assert bool(adjective.hu_more) == bool(adjective.en_more)
    classes = {name for noun in nouns() for name in noun.classes}
    for verb in verbs():
        assert verb.objects <= classes
        assert verb.subjects <= {"person", "animal"}
        assert bool(verb.objects) == bool(verb.frames & set("tdn"))


@given(noun=st.sampled_from(nouns()), case=st.sampled_from(hungarian.CASES), many=st.booleans())
def test_vowel_harmony_holds(noun, case, many):
    """A suffix never brings vowels of both kinds, and never those that the word's own harmony forbids."""
    said = hungarian.plural_form(noun.hu, case, noun.marks) if many else hungarian.form(noun.hu, case, noun.marks)
    stem = hungarian.plural(noun.hu, noun.marks) if many else noun.hu
    common = next((i for i, (a, b) in enumerate(zip(stem, said, strict=False)) if a != b), min(len(stem), len(said)))
    back = hungarian.harmony(noun.hu, noun.marks) == 0
    ending = [sign for sign in said[common:] if sign in hungarian.VOWELS]
    forbidden = "eöőüű" if back else "aáoóuú"
    assert case in ("cau", "ter") or not [v for v in ending if v in forbidden], (noun.hu, case, said)


@given(st.text("abcdefghijklmnopqrstuvwxyzáéíóöőúüű", min_size=2, max_size=12), st.sampled_from(hungarian.CASES))
def test_any_word_has_its_forms(word, case):
    assert "".join(hungarian.letters(word)) == word
    said = hungarian.form(word, case, {})
    assert said == word or said[: len(word) - 1] == word[:-1]
    assert hungarian.plural(word, {}).endswith("k")


@pytest.mark.parametrize("number", range(8))
def test_articles_and_agreement_in_drawn_sentences(number, seed):
    draw = random.Random(f"{seed}/{number}")
    for _ in range(100):
        both = draw_sentence(Draw("test", draw.random()))
        for text in (both.hu, both.en):
            assert text[0].isupper()
            assert text[-1] in ".?"
            assert "  " not in text
            assert "{" not in text
        words = both.hu.rstrip(".?").lower().split()
        for word, following in itertools.pairwise(words):
            if word in ("a", "az"):
                assert word == hungarian.article(following), both.hu
                assert following not in ("a", "az", "egy"), both.hu
        words = both.en.rstrip(".?").lower().split()
        for word, following in itertools.pairwise(words):
            assert not (word in ("a", "an", "the", "my") and following in ("a", "an", "the", "my")), both.en
            if word in ("a", "an"):
                assert word == english.article(following), both.en


def test_definite_objects_have_the_definite_conjugation():
    book, anna = Phrase(NOUNS["könyv"]), Phrase(NOUNS["Anna"])
    from lmcore.collect.synthetic.phrases import Clause, Place

    read = VERBS["olvas"]
    said = [Clause(read, anna, object=thing).hu() for thing in (book, Phrase(NOUNS["könyv"], "a"))]
    assert said == ["Anna olvassa a könyvet", "Anna olvas egy könyvet"]
    garden = Place(Phrase(NOUNS["kert"]))
    clause = Clause(VERBS["megtalál"], Phrase(NOUNS["lány"], count=0), "past", book, place=garden, negative=True)
    assert clause.hu() == "a lányok nem találták meg a könyvet a kertben"
    assert clause.en() == "the girls did not find the book in the garden"
    assert Clause(read, None, object=Phrase(NOUNS["könyv"], "my")).hu() == "olvasom a könyvemet"
    assert Phrase(NOUNS["kutya"], "owner", count=1, owner=NOUNS["Anna"]).hu("acc") == "Anna kutyáját"
    three = Clause(VERBS["fut"], Phrase(NOUNS["kutya"], "a", count=3))
    assert (three.hu(), three.en()) == ("három kutya fut", "three dogs run")
