"""Languages by script and model: twelve of them, mixed texts, and that neither batch nor order changes a result."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.curate.language import LanguageParams, languages, resolve, same_language
from lmcore.curate.language_models import _RARE, _known_fast, both, fast, model_file, slow
from lmcore.curate.language_script import script_shares, scripts

ON = LanguageParams()

TEXTS = {
    "en": "The harbour was quiet that morning, and only two fishermen were mending their nets beside the old wall.",
    "hu": "A kikötő csendes volt azon a reggelen, csak két halász foltozta a hálóját az öreg fal tövében.",
    "de": "Der Hafen war an jenem Morgen still, nur zwei Fischer flickten ihre Netze neben der alten Mauer.",
    "fr": "Le port était calme ce matin-là, et seuls deux pêcheurs réparaient leurs filets près du vieux mur.",
    "es": "El puerto estaba tranquilo aquella mañana y solo dos pescadores remendaban sus redes junto al muro viejo.",
    "it": "Il porto era tranquillo quella mattina e soltanto due pescatori riparavano le reti accanto al vecchio muro.",
    "pl": "Port był tego ranka cichy, tylko dwóch rybaków naprawiało swoje sieci obok starego muru.",
    "ru": "В то утро в порту было тихо, и только два рыбака чинили свои сети у старой стены.",
    "uk": "Того ранку в порту було тихо, і лише двоє рибалок лагодили свої сіті біля старої стіни.",
    "tr": "O sabah liman sessizdi, sadece iki balıkçı eski duvarın yanında ağlarını onarıyordu.",
    "fa": "آن روز صبح بندر آرام بود و فقط دو ماهیگیر کنار دیوار کهنه تورهای خود را تعمیر می‌کردند.",
    "hi": "उस सुबह बंदरगाह शांत था और केवल दो मछुआरे पुरानी दीवार के पास अपने जाल ठीक कर रहे थे।",
    "zh": "那天早上港口很安静，只有两个渔夫在旧墙旁边修补他们的渔网。",
    "ja": "その朝、港は静かで、二人の漁師だけが古い壁のそばで網を直していた。",
    "ko": "그날 아침 항구는 조용했고, 어부 두 사람만이 낡은 벽 옆에서 그물을 고치고 있었다.",
    "am": "በዚያ ጠዋት ወደቡ ጸጥ ያለ ነበር፤ ሁለት ዓሣ አጥማጆች ብቻ ከአሮጌው ግድግዳ አጠገብ መረባቸውን ይጠግኑ ነበር።",
    "ti": "እዚ ናይ ዓሳ ገፈፍቲ ወደብ እዩ። ኣብ ጥቓ እቲ ኣረጊት መንደቕ ክልተ ሰባት ኣለዉ፣ ካብ ትማሊ ድማ ኣብኡ እዮም ዘለዉ።",
    "he": "באותו בוקר הנמל היה שקט, ורק שני דייגים תיקנו את הרשתות שלהם ליד החומה הישנה.",
    "el": "Εκείνο το πρωί το λιμάνι ήταν ήσυχο και μόνο δύο ψαράδες μπάλωναν τα δίχτυα τους.",
    "th": "เช้าวันนั้นท่าเรือเงียบสงบ มีเพียงชาวประมงสองคนซ่อมแหอยู่ข้างกำแพงเก่า",
    "ka": "იმ დილით ნავსადგური წყნარი იყო და მხოლოდ ორი მეთევზე აკერებდა ბადეს ძველ კედელთან.",
    "hy": "Այդ առավոտ նավահանգիստը խաղաղ էր, և միայն երկու ձկնորս էին նորոգում իրենց ցանցերը։",
}


@pytest.mark.parametrize("lang", TEXTS)
def test_a_sentence_of_each_language(lang):
    found = languages([TEXTS[lang]], ON)
    assert found.lang == [lang]
    assert found.score[0] >= 0.5
    assert found.top[0][0] == (lang, found.score[0])
    assert len(found.top[0]) <= 3


@pytest.mark.parametrize("lang", ["en", "hu", "de", "fr", "ru", "am", "ja"])
def test_the_first_words_of_it(lang):
    assert languages([TEXTS[lang][:40]], ON).lang == [lang]


@pytest.mark.parametrize("text", ["", "  \n", "12 345,67 % --- !!", "😀😀", "\ud800"])
def test_nothing_to_go_by_is_und(text):
    found = languages([text], LanguageParams(expected=("hu",)))
    assert (found.lang, found.score.tolist(), found.top) == (["und"], [0.0], [[]])
    assert found.expected_share.tolist() == [1.0]


def test_lone_surrogates_and_line_ends_do_no_harm():
    text = TEXTS["hu"].replace(" ", "\r\n\ud83d\x00\x85 ")
    assert languages([text], ON).lang == ["hu"]


def test_no_texts():
    found = languages([], LanguageParams(expected=("hu",)))
    assert (found.lang, found.score.shape, found.top, found.expected_share.shape) == ([], (0,), [], (0,))


def test_off_finds_nothing():
    found = languages([TEXTS["en"]], LanguageParams(enabled=False, expected=("hu",)))
    assert (found.lang, found.top, found.expected_share.tolist()) == (["und"], [[]], [1.0])


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("設定ファイルは /etc/fstab と /etc/hosts です。vi で編集する。", "ja"),
        ("Файл /etc/fstab читает команда mount, а потом systemd.", "ru"),
        ("፩ ነው linux kernel", "am"),
        ("ኵሎም ሰባት ነፃን ብማዕርነት ክብርን መሰልን ኣለዎም።", "ti"),
        ("ሰባት ሰዎች ከኤርትራ ወደ አዲስ አበባ መጡ", "am"),
        ("日本国憲法の第九条", "ja"),
        ("他说 の 是日文字母，可是这句话从头到尾都是用中文写成的，所以应当算中文。", "zh"),
    ],
)
def test_foreign_words_within_a_script(text, lang):
    assert languages([text], ON).lang == [lang]


def test_scores_of_a_mixed_text_are_shares():
    [top] = languages([TEXTS["am"] + "\n" + TEXTS["en"] * 2], ON).top
    assert {lang for lang, _ in top[:2]} == {"am", "en"}
    assert sum(score for _, score in top) <= 1.00001


def test_share_of_expected_paragraphs():
    both_ways = "\n".join([TEXTS["hu"]] * 3 + [TEXTS["en"]] * 3)
    of = {
        expected: languages([both_ways], LanguageParams(expected=expected)).expected_share[0]
        for expected in [(), ("hu",), ("en",), ("hu", "en"), ("de",)]
    }
    assert of[()] == of["hu", "en"] == 1
    assert of["de",] == 0
    hungarian = len(TEXTS["hu"]) / (len(TEXTS["hu"]) + len(TEXTS["en"]))
    assert of["hu",] == pytest.approx(hungarian, abs=1e-6)
    assert of["hu",] + of["en",] == pytest.approx(1, abs=1e-6)


def test_without_paragraphs_a_text_is_expected_or_not():
    text = "\n".join([TEXTS["hu"]] * 3 + [TEXTS["en"]])
    params = LanguageParams(expected=("hu-HU",), paragraphs=False)
    assert languages([text, TEXTS["en"]], params).expected_share.tolist() == [1.0, 0.0]


def test_a_result_depends_on_its_text_alone(seed):
    texts = [*TEXTS.values(), "\n".join(TEXTS.values()), "", TEXTS["hu"] * 50]
    params = LanguageParams(expected=("hu", "am"))
    order = np.random.default_rng(seed).permutation(len(texts))
    together, shuffled = languages(texts, params), languages([texts[i] for i in order], params)
    for row, text in enumerate(texts):
        alone = languages([text], params)
        again = int(np.flatnonzero(order == row)[0])
        assert alone.top[0] == together.top[row] == shuffled.top[again]
        assert alone.lang[0] == together.lang[row] == shuffled.lang[again]
        assert alone.score[0] == together.score[row] == shuffled.score[again]
        assert alone.expected_share[0] == together.expected_share[row] == shuffled.expected_share[again]


def test_a_long_text_is_judged_by_beginning_middle_and_end():
    long = TEXTS["de"] * 20 + TEXTS["hu"] * 20_000 + TEXTS["hu"] * 20
    assert languages([long], ON).lang == ["hu"]
    read = LanguageParams(expected=("hu",))
    assert languages([long], read).expected_share[0] >= 0.9  # one very long line and nothing else


@given(st.text(max_size=200))
def test_any_text_has_scores_in_bounds(text):
    found = languages([text], LanguageParams(expected=("en",)))
    assert 0 <= found.score[0] <= 1
    assert 0 <= found.expected_share[0] <= 1
    assert found.top[0] == sorted(found.top[0], key=lambda pair: (-pair[1], pair[0]))


def test_declared_stays_and_und_takes_what_is_found():
    texts = [TEXTS["en"], TEXTS["en"], "?!", "ok"]
    found = languages(texts, ON)
    assert resolve(["hu", "und", "und", "hu"], found, ON) == ["hu", "en", "und", "hu"]
    assert resolve(["und"] * 4, found, LanguageParams(min_score=1))[0] in ("und", "en")
    with pytest.raises(ValueError):
        resolve(["hu"], found, ON)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("zh", "zh-Hant", True),
        ("pt-BR", "pt", True),
        ("nb", "no", True),
        ("NN", "no", True),
        ("ckb", "ku", True),
        ("id", "ms", False),
        ("hr", "sr", False),
    ],
)
def test_one_language_by_its_first_subtag(one, other, same):
    assert same_language(one, other) == same


def test_shares_of_scripts():
    names = [script.name for script in scripts()]
    shares = script_shares(["abc", "", "аб", "漢字かな", "漢字", "12"])
    assert [names[row.argmax()] if row.any() else None for row in shares] == [
        "Latn", None, "Cyrl", "Kana", "Hani", None
    ]  # fmt: skip
    assert shares.sum(axis=1).tolist() == [1, 0, 1, 1, 1, 0]


def test_the_table_of_scripts_is_sound():
    spans = sorted((low, high, script.name) for script in scripts() for low, high in script.ranges)
    for (_, high, one), (low, _, other) in itertools.pairwise(spans):
        assert high < low, (one, other)
    assert [script.name for script in scripts() if not script.languages] == ["Latn"]
    for script in scripts():
        assert set(script.words) | set(script.letters) <= set(script.languages)
        assert script.may_be(script.languages[0] if script.languages else "hu")
    words = scripts()[0].words
    assert not words["am"] & words["ti"]


def test_the_models_are_installed_with_their_packages():
    assert model_file().stat().st_size == 938_013
    assert fast(TEXTS["hu"])[0][0] == "hu"
    assert sum(score for _, score in both("rövid szöveg")) <= 1.00001


@pytest.mark.parametrize(
    "line", ["", "1", "No.", "Thank you.", "word7", "É", "ሰላም ለዓለም", "de la", "你好", "Wetin dey happen?"]
)
def test_short_lines_are_ranked_by_one_model_with_rare_languages_weighed_down(line):
    """The quick way for short lines gives what all 140 languages, weighed and sorted, give: to the last bit."""
    weighed = [(lang, p if lang in _known_fast() else p * _RARE) for lang, p in slow(line)]
    total = sum(sorted(p for _, p in weighed))
    best = sorted(((lang, p / total) for lang, p in weighed), key=lambda pair: (-pair[1], pair[0]))[:8]
    assert both(line) == both(line) == best
