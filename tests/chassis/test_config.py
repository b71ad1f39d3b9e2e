"""Settings are read once, typed, and refused by the variable's name, never by its value."""

from pathlib import Path

import pytest

from services.chassis.config import BadSetting, Settings, load, table

KEY = "k" * 32


def test_every_field_has_a_default_but_the_key_of_production() -> None:
    assert load(Settings, {"WEFT_DEVELOPMENT": "1"}).nats_url.startswith("nats://")
    with pytest.raises(BadSetting, match="WEFT_MESH_KEY"):
        load(Settings, {})
    assert load(Settings, {"WEFT_MESH_KEY": KEY}).mesh_key == KEY


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert load(Settings, {"WEFT_MESH_KEY_FILE": str(tmp_path / "key")}).mesh_key == KEY


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WEFT_DEVELOPMENT", "perhaps"),
        ("WEFT_POOL_MAX", "many"),
        ("WEFT_TRACE_RATIO", "2"),
        ("WEFT_NATS_REPLICAS", "2"),
        ("WEFT_MESH_KEY", "hunter2"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_not_shown(variable: str, value: str) -> None:
    with pytest.raises(BadSetting) as refused:
        load(Settings, {"WEFT_DEVELOPMENT": "1", variable: value})
    assert variable in str(refused.value)
    assert value not in str(refused.value)


def test_each_setting_is_printed_with_its_sentence() -> None:
    printed = table(Settings, "WEFT_")
    for name in Settings.__dataclass_fields__:
        assert f"WEFT_{name.upper()}\n    " in printed


def test_a_service_s_own_url_wins_over_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(Settings, {"WEFT_DEVELOPMENT": "1", "WEFT_DATABASE_URL": "postgresql://h/{name}"})
    assert settings.database("audit") == "postgresql://h/audit"
    monkeypatch.setenv("WEFT_DATABASE_URL_AUDIT", "postgresql://other/audit")
    assert settings.database("audit") == "postgresql://other/audit"
