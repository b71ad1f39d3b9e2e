"""The rules of names, addresses, passwords and one-time codes, against published lists and vectors."""

import base64
import csv
import gzip
import hashlib
import json
import unicodedata
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from xml.etree import ElementTree

import argon2
import bcrypt
import pyotp
import pytest
from hypothesis import given, strategies as st

from services.chassis.config import BadSetting
from services.chassis.sealing import BrokenSeal
from services.identity.domain import foreign_hash
from services.identity.domain.lockout import FOREVER, Policy
from services.identity.domain.password import WORST, broken_rule
from services.identity.domain.sealing import BadKey, Sealer
from services.identity.domain.second_factor import (
    code_at,
    matching_step,
    new_recovery_codes,
    qr_svg,
    recovery_hash,
    uri,
)
from services.identity.domain.token import covers, narrowed
from services.identity.domain.user import EmailRefused, checked_email, name_rule
from services.identity.settings import DEVELOPMENT_KEY, IdentitySettings
from tests.data import shared

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEALER = Sealer(DEVELOPMENT_KEY)
ACCEPTED = {8, 9, 10, 11, 14, 19, 21, 22, 25, 29, 32, 100, 101}  # Of the is_email set; see checked_email.


def test_addresses_of_the_is_email_set_are_judged_as_declared() -> None:
    accepted = set()
    for case in ElementTree.parse(shared("17_email/isemail_tests.xml")).iter("test"):
        text = case.findtext("address") or ""
        address = "".join(chr(ord(c) - 0x2400) if 0x2400 <= ord(c) <= 0x2421 else c for c in text)
        try:
            checked_email(address)
        except EmailRefused:
            continue
        accepted.add(int(case.attrib["id"]))
        assert case.findtext("category") == "ISEMAIL_VALID_CATEGORY"
    assert accepted == ACCEPTED


def test_every_disposable_domain_is_refused_with_its_subdomains() -> None:
    text = gzip.decompress(shared("11_auth/disposable_email_blocklist.conf.gz").read_bytes()).decode()
    domains = frozenset(text.split())
    for domain in domains:
        for address in (f"someone@{domain}", f"someone@mail.{domain}"):
            with pytest.raises(EmailRefused):
                checked_email(address, domains)
    assert checked_email("someone@iana.org", domains) == "someone@iana.org"


def test_naughty_names_are_kept_or_break_a_named_rule() -> None:
    names = json.loads(shared("15_rpc_http/blns.json").read_text())
    broken = [rule for name in names if (rule := name_rule(name))]
    assert len(names) - len(broken) == 491
    assert set(broken) == {
        *("not_empty", "length", "no_control_characters", "no_direction_overrides"),
        *("no_noncharacters", "no_blank_ends"),
    }


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("Ada Lovelace", ""),
        ("\u0391\u0394\u0391 \u05d0\u05d3\u05d4 \u30a2\u30c0", ""),
        ("e\u0301", "nfc"),
        ("a\x00b", "no_control_characters"),
        ("a\u2028b", "no_control_characters"),
        ("a\u202eb", "no_direction_overrides"),
        (" a", "no_blank_ends"),
        ("a\u3000", "no_blank_ends"),
        ("\ufdd0", "no_noncharacters"),
        ("x" * 201, "length"),
        ("\U0001f600" * 200, ""),
        ("", "not_empty"),
    ],
)
def test_display_name_rule(name: str, rule: str) -> None:
    assert name_rule(name) == rule


@given(st.text(max_size=250))
def test_display_name_that_is_good_is_printable_and_in_normal_form(name: str) -> None:
    if "\ud800" <= max(name, default="") <= "\udfff" or name_rule(name):
        return
    assert name == unicodedata.normalize("NFC", name).strip()
    assert not {unicodedata.category(char) for char in name} & {"Cc", "Zl", "Zp"}


def test_every_common_password_is_refused_at_any_length() -> None:
    text = gzip.decompress(shared("11_auth/common-passwords.txt.gz").read_bytes()).decode()
    common = frozenset(line.casefold() for line in text.split("\n") if line)
    for password in common:
        repeated = password * (15 // len(password) + 1)
        assert broken_rule(password, 8, common, []) in {"too_short", "common"}
        assert broken_rule(repeated, 15, common, []) in {"common", "repetitive"}


@pytest.mark.parametrize(
    ("password", "least", "rule"),
    [
        ("fourteen chars", 15, "too_short"),
        ("fifteen chars!!", 15, ""),
        ("eight ch", 8, ""),
        ("x y" * 85 + "z", 15, ""),
        ("x y" * 85 + "zz", 15, "too_long"),
        ("abababababababab", 15, "repetitive"),
        ("aaaaaaaaaaaaaaaa", 15, "repetitive"),
        ("abcdefghijklmnop", 15, "repetitive"),
        ("9876543210987654", 15, "repetitive"),
        ("PassWordPassWord", 15, "common"),
        ("password12345678", 15, "common"),
        ("ada@lovelace.test", 15, "personal"),
        ("ada@lovelace.test1234", 15, "personal"),
        ("Lovelace my dear friend", 15, ""),
        ("correct horse battery staple", 15, ""),
        ("\U0001f600\U0001f4a9\U0001f47b\u00e9\u00df\u4e2d\u6587\u0416\u05d0\u0e01abcd\u00f8", 15, ""),
    ],
)
def test_password_rule(password: str, least: int, rule: str) -> None:
    own = ["ada@lovelace.test", "Ada Lovelace"]
    assert broken_rule(password, least, WORST, own) == rule


def test_codes_of_rfc_4226_and_6238_come_out() -> None:
    rows = list(csv.DictReader(shared("11_auth/otp_rfc4226_rfc6238.csv").read_text().splitlines()))
    assert len(rows) == 28
    for row in rows:
        secret = base64.b32encode(bytes.fromhex(row["secret_hex"]))
        algorithm = getattr(hashlib, row["algorithm"].lower())
        made = pyotp.HOTP(secret.decode(), digits=int(row["digits"]), digest=algorithm).at(
            int(row["counter"])
        )
        assert made == row["code"], row
        if row["algorithm"] == "SHA1":
            assert row["code"].endswith(code_at(secret.decode(), int(row["counter"]))), row


def test_code_is_good_one_step_around_and_no_farther() -> None:
    secret = pyotp.random_base32()
    here = int(NOW.timestamp()) // 30
    assert [matching_step(secret, code_at(secret, here + n), NOW) for n in (-2, -1, 0, 1, 2)] == [
        None,
        here - 1,
        here,
        here + 1,
        None,
    ]


SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def test_app_reads_account_issuer_and_secret_from_the_uri() -> None:
    text = uri(SECRET, "ada+1@lovelace.test", "Weft")
    read = pyotp.parse_uri(text)
    assert (read.secret, read.name, read.issuer) == (SECRET, "ada+1@lovelace.test", "Weft")
    assert ElementTree.fromstring(qr_svg(text)).tag.endswith("svg")


def test_recovery_codes_differ_and_forgive_how_they_are_typed() -> None:
    codes, user = new_recovery_codes(), uuid4()
    assert len(set(codes)) == 10
    for code in codes:
        typed = f" {code.replace('-', ' ').upper()} "
        assert recovery_hash(SEALER, user, typed) == recovery_hash(SEALER, user, code)
    assert recovery_hash(SEALER, uuid4(), codes[0]) != recovery_hash(SEALER, user, codes[0])


def pbkdf2(password: str, passes: int = 1000) -> str:
    made = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", passes)
    return f"pbkdf2_sha256${passes}$salt${base64.b64encode(made).decode()}"


def scrypt(password: str) -> bytes:
    return hashlib.scrypt(password.encode(), salt=b"saltsalt", n=1024, r=8, p=1, dklen=32)


def foreign(password: str) -> dict[str, str]:
    """One hash of each kind that is taken over."""
    key, salt = base64.b64encode(scrypt(password)).decode(), base64.b64encode(b"saltsalt").decode()
    made = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    return {
        "bcrypt_2b": made,
        "bcrypt_2y": made.replace("$2b$", "$2y$"),
        "argon2id": argon2.PasswordHasher(1, 64, 1).hash(password),
        "argon2i": argon2.PasswordHasher(1, 64, 1, type=argon2.Type.I).hash(password),
        "pbkdf2": pbkdf2(password),
        "scrypt_phc": f"$scrypt$ln=10,r=8,p=1${salt.rstrip('=')}${key.rstrip('=')}",
        "scrypt_django": f"scrypt$1024$saltsalt$8$1${key}",
    }


@pytest.mark.parametrize("kind", foreign("x"))
@pytest.mark.parametrize("password", ["correct horse battery", "pa\u00dfwort und mehr", "x" * 100])
def test_foreign_hash_verifies_its_password_only(kind: str, password: str) -> None:
    made = foreign(password)[kind]
    foreign_hash.check(made)
    assert foreign_hash.verifies(made, password)
    assert not foreign_hash.verifies(made, "a" + password)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("$2b$16$" + "a" * 53, "too_costly"),
        (pbkdf2("x").replace("$1000$", "$9000000$"), "too_costly"),
        ("scrypt$1048576$saltsalt$8$1$aGFzaA==", "too_costly"),
        ("$scrypt$ln=20,r=8,p=1$c2FsdA$aGFzaA", "too_costly"),
        ("$argon2id$v=19$m=9999999,t=3,p=4$c2FsdA$aGFzaA", "too_costly"),
        ("scrypt$1000$saltsalt$8$1$aGFzaA==", "too_costly"),
        ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "unknown_kind"),
        ("plaintext", "unknown_kind"),
        ("$2b$10$short", "unknown_kind"),
    ],
)
def test_foreign_hash_that_cannot_be_taken_names_the_rule(text: str, rule: str) -> None:
    with pytest.raises(foreign_hash.HashRefused) as refusal:
        foreign_hash.check(text)
    assert refusal.value.facts["rule"] == rule


def test_rest_doubles_up_to_its_bound_and_then_lasts() -> None:
    policy = Policy(after=5, rest_s_min=30, rest_s_max=3600, failures_max=100)
    rests = [policy.locked_until(count, NOW) for count in (4, 5, 6, 7, 12, 99, 100, 1000)]
    seconds = [None, 30, 60, 120, 3600, 3600]
    assert rests[:6] == [None if s is None else NOW + timedelta(seconds=s) for s in seconds]
    assert rests[6:] == [FOREVER, FOREVER]


def test_sealed_value_opens_only_where_it_was_put() -> None:
    sealed = SEALER.seal(b"secret", "totp:1")
    assert SEALER.open(sealed, "totp:1") == b"secret"
    for other, about in ((sealed, "totp:2"), (sealed[:-1] + b"\0", "totp:1"), (b"", "totp:1")):
        with pytest.raises(BrokenSeal):
            SEALER.open(other, about)


@pytest.mark.parametrize("key", ["", "short", "x" * 44, "%%%"])
def test_bad_encryption_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(BadKey) as error:
        Sealer(key)
    assert not key or key not in str(error.value)


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)
PATTERNS = st.one_of(NAMES, NAMES.map(lambda name: f"{name}.*"), st.just("*"))


def allows(granted: frozenset[str], name: str) -> bool:
    """The definition, spelled out: by itself, by everything, or by a pattern above it."""
    return any(g in (name, "*") or (g.endswith(".*") and name.startswith(g[:-1])) for g in granted)


@given(st.frozensets(PATTERNS), st.frozensets(PATTERNS), NAMES)
def test_narrowed_grants_what_both_grant(granted: frozenset[str], wanted: frozenset[str], name: str) -> None:
    both = allows(granted, name) and allows(wanted, name)
    assert allows(narrowed(granted, wanted), name) == both
    assert covers(granted, name) == allows(granted, name)


def test_narrowing_keeps_openid_scopes_as_asked() -> None:
    assert narrowed(frozenset({"a.b"}), frozenset({"openid", "a.*", "c"})) == {"openid", "a.b"}


def test_settings_below_the_norm_are_refused() -> None:
    for fields in ({"password_chars_min": 7}, {"failures_max": 101}, {"access_s": 7200}):
        with pytest.raises(BadSetting):
            IdentitySettings(**fields)


def test_key_that_everybody_knows_is_refused_in_production() -> None:
    with pytest.raises(BadSetting):
        IdentitySettings().refuse_development_key()
    IdentitySettings(encryption_key=base64.b64encode(bytes(32)).decode()).refuse_development_key()
