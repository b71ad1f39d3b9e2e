"""Settings of the ledger."""

from dataclasses import dataclass

from services.chassis.config import setting


@dataclass(frozen=True)
class LedgerSettings:
    """Read from WEFT_LEDGER_*."""

    key: str = setting("Secret that seals the keys of memos; empty: the mesh key.", "")
    expire_every_s: float = setting("Seconds between two looks for pending transfers to expire.", 1.0)
