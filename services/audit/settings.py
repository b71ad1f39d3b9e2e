"""This service's settings; the prefix is WEFT_AUDIT_."""

from dataclasses import dataclass

from services.chassis.config import setting


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """How the trail is anchored."""

    anchor_key: str = setting("Ed25519 seed that signs anchors, base64; empty: made from the mesh key.", "")
    anchor_former_keys: tuple[str, ...] = setting(
        "Public keys, base64, that signed anchors before; comma separated.", ()
    )
    anchor_entries: int = setting("New entries after which the head is signed.", 100)
    anchor_s: float = setting("Seconds after which it is signed if there is any new entry.", 10.0)
