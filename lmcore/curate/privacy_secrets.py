"""Keys, tokens and passwords: formats their makers publish, private keys, and what is random beside a telling word."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from lmcore.curate.privacy_text import Scan, Span

_LEAST = 16  # characters in a row that every format below has
# The formats as their makers document them (secret scanning lists of code hosts collect the same).
_FORMATS = re.compile(
    "|".join(
        (
            r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",  # Amazon Web Services, access key id
            r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255}",  # GitHub
            r"gl(?:pat|ptt|dt|rt|soat|cbt|ft)-[A-Za-z0-9_-]{20,64}",  # GitLab
            r"xox[abeoprs]-[A-Za-z0-9-]{12,250}|xapp-[0-9]-[A-Za-z0-9-]{20,250}",  # Slack
            r"AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}",  # Google
            r"ya29\.[A-Za-z0-9_-]{20,500}",  # Google OAuth
            r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9]{24,64}",  # Stripe
            r"sk-ant-[A-Za-z0-9_-]{24,250}|sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{24,250}|sk-[A-Za-z0-9]{40,64}",
            r"hf_[A-Za-z]{34}",  # Hugging Face
            r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,300}",  # package registries
            r"SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}",  # SendGrid
            r"SK[0-9a-f]{32}|key-[0-9a-f]{32}",  # Twilio, Mailgun
            r"do[opr]_v1_[0-9a-f]{64}",  # DigitalOcean
            r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",  # Shopify
            r"sq0(?:atp|csp)-[A-Za-z0-9_-]{22,43}",  # Square
            r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",  # Telegram
            r"hv[sb]\.[A-Za-z0-9_-]{24,300}",  # Vault
            r"AGE-SECRET-KEY-1[0-9A-Z]{58}",  # age
            r"eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000}",  # JSON Web Token, RFC 7519
        )
    )
)
_BEGINS = tuple(
    b"AKIA ASIA ABIA ACCA gh gl xox AIza GOCSPX sk_ rk_ pk_ sk- whsec_ hf_ npm_ pypi SK key- shp eyJ".split()
)
_MADE_UP = re.compile(r"example|xxxx|0{8}|1234567|abcdef|your|placeholder|dummy|changeme|redacted", re.IGNORECASE)

_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s:,.()\\]|-(?!-)){32,20000}"
    r"-----END [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
)
_URL_PASSWORD = re.compile(r"://[^\s/:@\"'<>`]{1,64}:([^\s/@\"'<>`]{4,128})@(?=[A-Za-z0-9\[])")
_STAND_IN = re.compile(r"pass(?:word|wd|phrase)?|pwd|secret|token|\W.*|x+|[A-Z_]+|.*[${}<>%].*", re.IGNORECASE)

_TELLING = re.compile(
    r"(?:\b|_|(?<=[a-z]))(?:(?:api|access|secret|private|auth|encryption|signing|account|service|master|app|storage|"
    r"deploy|consumer|session)[ _-]?key|[a-z_]*key(?=[\"']?\s*[=:]\s*[\"'])|secret|token|passw(?:or)?d|passphrase|pwd|"
    r"credentials?|bearer|authorization|jelszó|jelszava|パスワード|የይለፍ ቃል)"
    r"(?P<between>[^\n.;]{0,24})\Z",
    re.IGNORECASE,
)
_GIVEN = re.compile(r"(?:.*?(?:[=:>]|\b(?:is|bearer|basic)\b)[\s\"'`(\[]*|[\s\"'`]{1,4})", re.IGNORECASE)
_HARMLESS = re.compile(
    r"sha-?\d*|md5|hash|checksum|digest|commit|revision|integrity|uuid|guid|fingerprint|etag|public|"
    r"thumbprint|signature|key ?id|keyid|nonce|vocab|test",
    re.IGNORECASE,
)
_VALUE = re.compile(r"[A-Za-z0-9+/_=-]{16,500}")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_CHANGES = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_CASES = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[a-z])")
# Changes between letters and digits a character, and with those between cases: 0.26 and 0.62 in random base64, up to
# 0.12 and 0.5 in names like EsmFold2LayerNorm.
_LEAST_CHANGES, _MANY_CHANGES = 0.12, 0.55
_LEAST_BITS = {"hex": 3.0, "base64": 3.7}  # Shannon entropy a character; hex has at most 4, base64 at most 6
_CONTEXT = 64


def secrets(scan: Scan) -> Iterator[Span]:
    """Private keys, passwords in URLs, known token formats, and random strings that a telling word introduces."""
    for place in scan.places(b"-----BEGIN "):
        block = _BLOCK.match(scan.text, place)
        if block:
            yield block.span()
    for place in scan.places(b"://"):
        login = _URL_PASSWORD.match(scan.text, place)
        if login and not _STAND_IN.fullmatch(login[1]):
            yield login.span(1)
    for start, end in scan.long_tokens(_LEAST):
        # names in code are as long, but hardly one of them has a digit: without one only a format's begin makes a key
        if scan.shapes.find(b"0", start, end) < 0 and not scan.latin.startswith(_BEGINS, start):
            continue
        found = _known(scan, start) or _random(scan, start)
        if found:
            yield found


def _known(scan: Scan, start: int) -> Span | None:
    """A published format at a word's begin in this run of characters, or right before it where formats hold a dot."""
    text = scan.text
    first = start
    if start and text[start - 1] in ".:":  # SG.xxx, 12345678:AAxxx: the run found is what follows
        first = start - 1
        while first > max(0, start - 12) and text[first - 1].isalnum() and text[first - 1].isascii():
            first -= 1
    for place in dict.fromkeys((first, start)):
        found = _FORMATS.match(text, place)
        if found and scan.stands_alone(*found.span()) and not _MADE_UP.search(found[0]):
            return found.span()
    return None


def _random(scan: Scan, start: int) -> Span | None:
    text = scan.text
    if start and text[start - 1] in "+/":
        return None  # inside of a path or a longer string: not where a value begins
    value = _VALUE.match(text, start)
    if value is None or not looks_random(value[0]) or not scan.stands_alone(*value.span()):
        return None
    context = scan.before(start, _CONTEXT)
    told = _TELLING.search(context)
    if told is None or _GIVEN.fullmatch(told["between"]) is None or _HARMLESS.search(context):
        return None
    return value.span()


def looks_random(value: str) -> bool:
    """Whether a string is too uneven to be a name: digits and letters mixed, and the bits a character of a key."""
    if _MADE_UP.search(value) or not any(c.isdigit() for c in value) or not any(c.isalpha() for c in value):
        return False
    if _HEX.fullmatch(value):
        return entropy(value) >= _LEAST_BITS["hex"]
    changes = len(_CHANGES.findall(value))
    mixed = changes >= max(3, _LEAST_CHANGES * len(value))
    mixed |= changes >= 2 and changes + len(_CASES.findall(value)) >= _MANY_CHANGES * len(value)
    return mixed and entropy(value) >= _LEAST_BITS["base64"]


def entropy(value: str) -> float:
    """Shannon entropy in bits a character (Shannon 1948, section 6); 0.0 of an empty string."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values()) if total else 0.0
