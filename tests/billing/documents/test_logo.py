"""A logo that cannot be shown is refused by name as the service starts, and not when a page is wanted."""

import zlib
from pathlib import Path

import pytest

from services.billing.seller_settings import LOGO_BYTES_MAX, SellerSettings
from services.chassis.config import BadSetting
from tests.billing.documents.test_pages import PNG, SVG

TORN = PNG[: len(PNG) // 2]
JPEG = b"\xff\xd8\xff\xe0" + zlib.compress(b"no picture at all")
MARKUP = b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='10'"


def settings(folder: Path, content: bytes) -> SellerSettings:
    file = folder / "logo"
    file.write_bytes(content)
    return SellerSettings(document_logo=str(file))


@pytest.mark.parametrize("content", [PNG, SVG], ids=["png", "svg"])
def test_a_picture_is_taken(content: bytes, tmp_path: Path) -> None:
    assert settings(tmp_path, content).logo() == content


@pytest.mark.parametrize("content", [TORN, JPEG, MARKUP], ids=["torn", "jpeg", "markup"])
def test_what_only_begins_like_a_picture_is_refused_with_its_setting_and_why(
    content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match=r"DOCUMENT_LOGO must be a picture that can be shown: \w+"):
        settings(tmp_path, content)


@pytest.mark.parametrize(
    "content", [b"GIF89a", b"", PNG + bytes(LOGO_BYTES_MAX)], ids=["gif", "none", "large"]
)
def test_what_is_no_logo_at_all_is_refused_before_anybody_looks_into_it(
    content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match="must be PNG, JPEG or SVG"):
        settings(tmp_path, content)
