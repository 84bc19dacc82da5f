"""What a secret looks like: by the name that it stands under, and by its own pattern."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_plus

_WORDS: Final = frozenset(
    {
        "password", "passwd", "passwort", "pwd", "pass", "passphrase", "passcode", "secret", "secrets", "token",
        "tokens", "jwt", "bearer", "authorization", "authentication", "auth", "cookie", "cookies", "session",
        "sessionid", "sid",
                "csrf", "xsrf", "csrftoken", "csrfmiddlewaretoken", "credential", "credentials", "apikey", "pan", "cvv",
        "cvv2", "cvc", "csc", "pin", "otp", "totp", "mfa", "ssn", "iban", "bic", "email", "signature", "sig", "hmac",
        "nonce", "cardnumber", "ccnumber", "username", "login", "phone", "mobile", "birthdate", "dob", "salt",
        "private",
    }
)  # fmt: skip
_PHRASES: Final = (
    "api_key", "access_key", "private_key", "secret_key", "signing_key", "encryption_key", "account_key", "card_number",
    "card_no", "cc_number", "credit_card", "debit_card", "security_code", "verification_code", "account_number",
    "e_mail", "recovery_code", "one_time_code", "date_of_birth", "first_name", "last_name", "full_name", "set_cookie",
    "social_security", "tax_id", "refresh_key",
)  # fmt: skip
_SUBSTRINGS: Final = (
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "credential",
    "sessionid",
    "csrf",
    "cardnumber",
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")

NAMED: Final = re.compile(
    r"""(?P<name>(?<![\w.\-\[\]%])[\w.\-\[\]%]{2,}?|(?=[\[\]])[\w.\-\[\]%]{2,80}?)"""
    r"""(?P<between>\\*["']?\s{0,4}(?:[:=]|%3[Aa]|%3[Dd])\s{0,4})"""
    r"""(?P<value>\\*"(?:\\.|[^"\\])*\\*"?|'[^']*'?|[^\s"'&;,<>{}\[\]]+)"""
)
"""`name = value`, `"name": "value"` and the like in text; the caller asks `ends_secret`.

A name begins where a word does, so that a long run of letters (base64) is gone through once and not from each of them.
"""

MULTIPART: Final = re.compile(
    r'name="?([^";\r\n]{1,200})"?[^\r\n]*\r?\n(?:[^\r\n]+\r?\n){0,8}\r?\n(.*?)(?=\r?\n--|\Z)', re.S
)
_ATTRIBUTES: Final = (
    r"""\b(?:"(?:[^"<]{0,4000}|[^"]{0,300})"|'(?:[^'<]{0,4000}|[^']{0,300})'|[^<>"']{1,4000}+|["']){0,60}+>"""
)
TAG: Final = re.compile(rf"<(?:input|meta|textarea|button){_ATTRIBUTES}", re.I)
"""A tag whole, though the value of an attribute may hold `>` and `<`."""
AREA: Final = re.compile(rf"(<textarea{_ATTRIBUTES})([^<]{{1,20000}})", re.I)
TAG_NAMES: Final = re.compile(r"""\b(?:name|id|type|autocomplete|property)\s*=\s*["']?([^"'\s>]+)""", re.I)
TAG_VALUE: Final = re.compile(r"""\b((?:value|content)\s*=\s*)("[^"]*"|'[^']*'|[^\s>]+)""", re.I)

NESTED: Final = re.compile(r"""(?<![\w.\-])([\w.\-]{2,})\\*["']?\s{0,4}[:=]\s{0,4}(?=[\[{])""")
"""A name before a nested value, in a text that could not be read as JSON."""

PATTERNS: Final[tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]] = (
    ("key", ("-----BEGIN",),
     re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}KEY-----|\Z)", re.S)),
    ("jwt", ("eyJ",), re.compile(r"(?<![\w-])eyJ[\w-]{4,}(?:\.|%2[Ee])[\w-]{4,}(?:(?:\.|%2[Ee])[\w-]*){0,3}")),
    ("jwt", ("eyJ",), re.compile(r"eyJ[\w-]{4,500}(?:\.|%2[Ee])[\w-]{4,}(?:(?:\.|%2[Ee])[\w-]*){0,3}")),
    ("credential", ("://",), re.compile(r"(?<=://)[^/\s:@]{1,200}:[^/\s@]{1,200}(?=@)")),
    ("credential", (),
     re.compile(r"\b(?:bearer|basic|digest|negotiate|apikey|token)(?:\s|%20|\+){1,8}[\w.~+/=%-]{6,}", re.I)),
    ("key", (), re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}")),
    ("key", ("_", "-"), re.compile(r"\b(?:sk|pk|rk|whsec|gh[opsu]|github_pat|xox[abprs]|glpat|npm)[_-][\w-]{8,}")),
    ("email", ("@", "%40"),
     re.compile(r"[^\s@<>\"'(),;:\\/?&=\[\]{}]{1,128}(?:@|%40)[^\s@<>\"'(),;:\\/?&=\[\]{}%]{1,200}"
                r"\.[^\s@<>\"'(),;:\\/?&=\[\]{}%.]{2,63}")),
    ("iban", (), re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b")),
    ("token", (), re.compile(r"(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{24,}(?![\w-])")),
)  # fmt: skip
"""The kind, what has to stand in a text for it to be worth looking (any of them), and the pattern."""

_DIGITS: Final = re.compile(r"\d(?:(?:[ .\u00a0\u2009\u2010-\u2015-]|%20|\+)?\d){12,40}")
_NO_DIGIT: Final = re.compile(r"%20|\D")


@lru_cache(maxsize=8_192)
def is_secret_name(name: str) -> bool:
    """Does a key, field, cookie or parameter of this name hold a secret?

    >>> is_secret_name("newPassword"), is_secret_name("shipping"), is_secret_name("X-Api-Key")
    (True, False, True)
    """
    flat = _NOT_WORD.sub("_", _CAMEL.sub("_", name[:200]).lower()).strip("_")
    joined = flat.replace("_", "")
    return (
        not _WORDS.isdisjoint(flat.split("_"))
        or any(f"_{phrase}_" in f"_{flat}_" for phrase in _PHRASES)
        or any(part in joined for part in _SUBSTRINGS)
    )


def ends_secret(name: str) -> bool:
    """Does what stands before a value in text end in the name of a secret? It may be long, and escaped.

    >>> ends_secret("x" * 500 + ".password"), ends_secret("id%3D1%26pin"), ends_secret("shipping")
    (True, True, False)
    """
    end = name[-80:]
    return is_secret_name(end) or ("%" in end and is_secret_name(unquote_plus(end)))


def cards(words: str) -> Iterator[tuple[int, int]]:
    """Where card numbers stand: runs of 13 to 19 digits that pass Luhn's check, with separators or without.

    A longer run counts as a whole where a card number is inside: it is better to hide an id than to show a card.
    """
    for run in _DIGITS.finditer(words):
        digits = _NO_DIGIT.sub("", run.group())
        if any(
            luhn(digits[start : start + length])
            for length in (16, 15, 14, 13, 19, 18, 17)
            for start in range(len(digits) - length + 1)
            if digits[start] in _ISSUERS
        ):
            yield run.span()


_ISSUERS: Final = frozenset("23456")


def luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1).

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
