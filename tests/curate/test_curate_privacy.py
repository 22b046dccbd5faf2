"""What is masked, what only looks like it, and that all else stays as it was."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.curate.measured import measure
from lmcore.curate.params import MeasureParams
from lmcore.curate.privacy import COUNTS, PrivacyParams, blank, blank_all, is_blanked, mask
from lmcore.curate.privacy_secrets import entropy, looks_random
from lmcore.curate.privacy_text import MASKS, is_mark
from lmcore.documents import DOCUMENT, make_table

BLOCK = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq5\n" * 8 + "-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI5ODcifQ.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
FOUND = {
    "email": [
        ("write to jane.doe+list@mail.org.", "write to <email>."),
        ("<Kovács.József@posta.hu>, next", "<<email>>, next"),
        ("メールはjane@docomo.ne.jpへ", "メールは<email>へ"),
        ("mailto:a@b.co?x=1", "mailto:<email>?x=1"),
        ("end a@b.com.Then on", "end <email>.Then on"),
        ("/list?who=jane.doe%40mail.org&x=1", "/list?who=<email>&x=1"),
    ],
    "phone": [
        ("tel. +36 1 234 5678, thanks", "tel. <phone>, thanks"),
        ("(+1 650-253-0000)", "(<phone>)"),
        ("+251 911 234 567\n+81 3-3224-5000", "<phone>\n<phone>"),
    ],
    "ip": [
        ("from 93.184.216.34:80 came", "from <ip>:80 came"),
        ("host 12.7.4.9 answers.", "host <ip> answers."),
        ("at 2a00:1450:400d:80c::200e now", "at <ip> now"),
    ],
    "iban": [
        ("GB82 WEST 1234 5698 7654 32 AND SO ON", "<iban> AND SO ON"),
        ("HU42117730161111101800000000.", "<iban>."),
    ],
    "card": [
        ("card 4111 1111 1111 1111, 12/29", "card <card>, 12/29"),
        ("pay with 378282246310005 or 3782 822463 10005", "pay with <card> or <card>"),
        ("5500-0055-5555-5559", "<card>"),
    ],
    "secret": [
        ("id AKIAIOSFODNN7QRSTUVW", "id <secret>"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a\n", "<secret>\n"),
        ("Authorization: Bearer " + JWT, "Authorization: Bearer <secret>"),
        (f"cat id_rsa\n{BLOCK}\n$", "cat id_rsa\n<secret>\n$"),
        ("postgres://bob:s3cr3tpw@db.host/x", "postgres://bob:<secret>@db.host/x"),
        ("api_key = 'd2f8a9c4e17b3056f9a8c7b6e5d4f3a2'", "api_key = '<secret>'"),
        ('"client_secret": "q7Rt2xV9-bN4kLw8_Zp3sYd6Hf"', '"client_secret": "<secret>"'),
        ("/a?token=Zm9vYmFyMTIzNDU2Nzg5MHF3ZXJ0eQ&b", "/a?token=<secret>&b"),
        ("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", "<secret>"),
    ],
}
STAYS = [
    "mail you@example.com, a@b.example.org or root@localhost",
    "git@github.com:lmcore/x.git, icon@2x.png, getty@tty1.service, @decorator.name, https://x.org/@jane.doe",
    "version 93.184.216.34, v12.10.2.1, foo-1.22.333.44, OID 1.3.6.1.4.1.311, section 8.2.4.45",
    "10.0.0.1 127.0.0.1 192.168.1.77 192.0.2.44 203.0.113.9 255.255.255.0 8.8.8.8 2001:db8::1 fe80::1",
    "V8: upgraded V8 from 4.4.63.26 to 9.4.146.199",
    "Abc::Def, std::dead::beef at 12:34:56, 2001:12:31",
    "4503599627370496 1234567812345678 ISBN 978-0-306-40615-7 4220315081820346526 [1, 4031078400000]",
    "GB82 WEST 1234 5698 7654 33 and AB12 CDEF GHIJ",
    "2026-11-22 10:00, bug 5043387669, +35236450.6, x**2 + 278326125*C1, 1.0e+2345678901, RFC 9110, #650253",
    "commit d2f8a9c4e17b3056f9a8c7b6e5d4f3a2, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "key = some_very_long_name_of_a_setting_2, self.token_norm = EsmFold2LayerNormTransformer(x)",
    "AKIAIOSFODNN7EXAMPLE, token = your-token-here-1234567, http://user:password@host/ ftp://u:${PASS}@host/",
    "Author: Name <email>, <secret> 603deb1015ca71be2b73aef0857d7781, <phone> 12",
    "",
    "\ud83d\ude00 \x00\n\x00 a\u0301 1\ufe0f\u20e3",
]


@pytest.mark.parametrize("kind", FOUND)
def test_each_type_is_masked_and_counted(kind):
    texts = [before for before, _ in FOUND[kind]]
    masked = mask(texts, PrivacyParams())
    assert masked.texts == [after for _, after in FOUND[kind]]
    expected = [after.count(MASKS[kind]) for _, after in FOUND[kind]]
    assert masked.counts[f"n_{kind}s"].tolist() == expected
    assert sum(int(count.sum()) for count in masked.counts.values()) == sum(expected)


@pytest.mark.parametrize("text", STAYS)
def test_what_only_looks_like_it_stays(text):
    masked = mask([text], PrivacyParams())
    assert masked.texts == [text]
    assert {name: int(count[0]) for name, count in masked.counts.items()} == dict.fromkeys(COUNTS, 0)


@pytest.mark.parametrize("kind", FOUND)
def test_kept_types_are_counted_and_left(kind):
    texts = [before for before, _ in FOUND[kind]]
    kept = mask(texts, PrivacyParams(**{kind: "keep"}))
    assert kept.texts == texts
    assert np.array_equal(kept.counts[f"n_{kind}s"], mask(texts, PrivacyParams()).counts[f"n_{kind}s"])


def test_national_numbers_are_found_by_region_only():
    text = "call (06 1) 234-5678 or 650-253-0000; ISBN 0-306-40615-2, 2026-11-22, 2398291200, 0.2312431531"
    assert mask([text], PrivacyParams()).texts == [text]
    masked = mask([text], PrivacyParams(regions=("HU", "US")))
    assert masked.texts == ["call <phone> or <phone>" + text[text.index(";") :]]
    assert masked.counts["n_phones"].tolist() == [2]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (("UK",), "did you mean GB"),
        (("hu",), "did you mean HU"),
        (("??",), "no telephone region"),
        (("HU", "HU"), "twice"),
    ],
)
def test_unknown_regions_are_refused(regions, message):
    with pytest.raises(ValidationError, match=message):
        PrivacyParams(regions=regions)


def test_a_private_key_never_reaches_into_the_next_text():
    begin, end = BLOCK.split("MIIE", 1)[0] + "MIIEpAIBAAKCAQEA7bq5\n" * 4, "-----END RSA PRIVATE KEY-----"
    masked = mask([begin, end, "a@b.co"], PrivacyParams())
    assert masked.texts == [begin, end, "<email>"]


@pytest.mark.parametrize("action", ["mask", "keep"])
def test_titles_are_masked_as_texts_are_and_urls_in_any_case(row, action):
    url = "file:cv/jane.roe%40mail.org.txt#3"
    plain = row("One two three.", url="http://site/plain")
    given = row("Ask jane@mail.org, or +36 1 234 5678.", url=url, title="By jane@mail.org, +36 1 234 5678")
    params = MeasureParams(privacy=PrivacyParams(email=action, regions=("HU",)))
    found = measure(make_table([plain, given], DOCUMENT), params)
    address = "<email>" if action == "mask" else "jane@mail.org"
    told = found.to_pylist()
    assert [row["title"] for row in told] == [plain["title"], f"By {address}, <phone>"]
    assert [row["url"] for row in told] == ["http://site/plain", "file:cv/<email>.txt#3"]
    assert told[1]["text"] == f"Ask {address}, or <phone>."
    assert [row["n_emails"] for row in told] == [0, 1], "of the text"
    assert told[1]["page_of_origin"] == given["page_of_origin"], "what pages are dealt by"


def test_many_are_blanked_as_one_is():
    urls = [
        "http://x.org/call/+36-30-123-4567",
        "http://x.org/?m=jane%40mail.org&tel=%2B36301234567",
        "http://x.org/plain",
        "",
    ]
    assert blank_all(urls) == [blank(url) for url in urls]
    assert [is_blanked(url) for url in blank_all(urls)] == [True, True, False, False]
    assert not any(map(is_blanked, urls))
    assert blank_all([]) == []


def test_blank_masks_urls_and_titles():
    assert blank("https://x.org/u?mail=jane@mail.org#top") == "https://x.org/u?mail=<email>#top"
    assert blank("06 1 234 5678", regions=("HU",)) == "<phone>"
    assert blank("A title") == "A title"


def test_looks_random():
    assert entropy("") == 0.0
    assert entropy("aaaa") == 0.0
    assert entropy("abcd") == pytest.approx(2.0)
    assert looks_random("q7Rt2xV9bN4kLw8Zp3sYd6Hf")
    for name in ("HiggsAudioV2TokenizerModel", "step_1_of_2_and_3_of_4", "aaaaaaaaaaaaaaaa1", "x509checkprivatekey"):
        assert not looks_random(name)


_PIECES = [piece for pairs in FOUND.values() for pair in pairs for piece in pair] + STAYS
_GLUE = [*"@.:+-_/ =(,'\n0147aZé\u0301\u200d\ud800ሀ日😀", "token=", "key: '", "://", "::", "ip ", *MASKS.values()]
_TEXT = st.lists(
    st.one_of(
        st.sampled_from(_PIECES),
        st.sampled_from(_GLUE),
        st.sampled_from(_PIECES).map(lambda piece: piece[: len(piece) // 2]),
        st.text("0123456789 .-+", max_size=20),
        st.text(max_size=8),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=250, deadline=None)
@given(st.lists(_TEXT, min_size=1, max_size=4), st.booleans())
def test_masking_twice_changes_and_counts_nothing_more(texts, national):
    params = PrivacyParams(regions=("HU", "US") if national else ())
    once = mask(texts, params)
    twice = mask(once.texts, params)
    assert twice.texts == once.texts
    assert sum(int(count.sum()) for count in twice.counts.values()) == 0


@settings(max_examples=250, deadline=None)
@given(st.lists(_TEXT, min_size=1, max_size=5))
def test_a_text_is_judged_alone_and_all_else_stays(texts):
    together = mask(texts, PrivacyParams())
    for number, text in enumerate(texts):
        alone = mask([text], PrivacyParams())
        assert alone.texts == [together.texts[number]]
        assert {k: v[0] for k, v in alone.counts.items()} == {k: v[number] for k, v in together.counts.items()}
        rest = _left(together.texts[number])
        assert _in_order(rest, text)
        for mark in MASKS.values():  # no accent moves from what was masked to its mask
            for piece in together.texts[number].split(mark)[1:]:
                assert mark in text or not piece or not is_mark(piece[0])


def _left(masked: str) -> list[str]:
    return re.split("|".join(MASKS.values()), masked)


def _in_order(pieces: list[str], text: str) -> bool:
    place = 0
    for piece in pieces:
        place = text.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True


def test_planted_data_is_found(seed):
    """Of every type at least 99 in 100 that are written as people write them, in three languages."""
    from stdnum import iban, luhn

    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def digits(count):
        return "".join(rng.choices("0123456789", k=count))

    def german_iban():
        body = digits(18)
        return "DE" + iban.calc_check_digits("DE00" + body) + body

    def visa():
        body = "4" + digits(14)
        return body + luhn.calc_check_digit(body)

    made = {
        "email": lambda: f"{''.join(rng.choices(letters, k=6))}@{''.join(rng.choices(letters, k=5))}.com",
        "ip": lambda: (
            f"{rng.choice([80, 91, 151])}.{rng.randrange(64, 99)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        ),
        "iban": german_iban,
        "card": visa,
        "secret": lambda: "ghp_" + "".join(rng.choices(letters + letters.upper() + "0123456789", k=36)),
        "phone": lambda: f"+36 20 {rng.randrange(200, 999)} {digits(4)}",
    }
    frames = ("Please see {} for this.", "Az adat {} volt, mondta.", "これは {} です。")
    for kind, make in made.items():
        texts = [rng.choice(frames).format(make()) for _ in range(300)]
        found = mask(texts, PrivacyParams()).counts[f"n_{kind}s"]
        assert int((found == 1).sum()) >= 297, (kind, [t for t, n in zip(texts, found, strict=True) if n != 1][:3])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x.org/call/+36-30-123-4567", "https://x.org/call/<phone>"),
        ("https://x.org/call/+36301234567?x=1", "https://x.org/call/<phone>?x=1"),
        ("https://x.org/+36%2030%20123%204567/2024", "https://x.org/<phone>/2024"),
        ("https://x.org/+36-30-123-4567-2024", "https://x.org/<phone>-2024"),
        ("https://x.org/?tel=%2B36301234567&a=b", "https://x.org/?tel=<phone>&a=b"),
        ("https://x.org/?phone=36301234567", "https://x.org/?phone=<phone>"),
        ("https://wa.me/36301234567", "https://wa.me/<phone>"),
        ("tel:06-30-123-4567", "tel:<phone>"),
        ("sms:0036301234567", "sms:<phone>"),
        ("file:people/+36301234567.vcf#1", "file:people/<phone>.vcf#1"),
    ],
)
def test_telephone_numbers_in_shown_urls_are_masked(url, shown):
    assert blank(url) == shown
    assert blank(f"{url} {url}\n{url}") == f"{shown} {shown}\n{shown}"
    assert blank(shown) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://x.org/2024/05/17/1234567890",
        "https://x.org/item/36301234567",
        "https://x.org/06-30-123-4567",
        "https://x.org/2024-05-17-120000/36-30-123-4567.html",
        "https://x.org/?id=36301234567&t=2024-01-01T00:00:00+0100",
        "https://x.org/?q=a+36301234567",
        "https://x.org/?sig=aB%2B36301234567",
        "https://x.org/?range=+1234567890",
        "https://x.org/?phone=12345678",
        "https://x.org/+2024-01-17-1200",
        "https://doi.org/10.1000/+4-567",
        "https://en.wikipedia.org/wiki/%2B44",
    ],
)
def test_ids_and_dates_in_shown_urls_stay(url):
    assert blank(url) == url


@settings(deadline=None)
@given(st.text(alphabet="+36012 45678-./=:?&%2Btelwam<phone>", max_size=60))
def test_what_is_shown_is_masked_once_for_all(text):
    assert blank(blank(text)) == blank(text)
