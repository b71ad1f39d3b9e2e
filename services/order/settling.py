"""Who waits for an order to be confirmed or cancelled hears of it at once."""

import asyncio

from services.chassis.db import AnyTx, after_commit

LOOK_EVERY_S = 0.25  # For an order that another replica sees through, nobody here tells.


class Settling:
    """Those of this process that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def moved(self, tx: AnyTx, order_id: str) -> None:
        """The order stands elsewhere when `tx` has committed."""
        after_commit(tx, lambda: self._tell(order_id))

    def _tell(self, order_id: str) -> None:
        for event in self._waiting.get(order_id, ()):
            event.set()

    async def wait(self, order_id: str) -> None:
        """Until the order moves, or for a while."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(order_id, set())
        waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), LOOK_EVERY_S)
        except TimeoutError:
            return
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(order_id, None)
