"""How the peers of HTTP/1.1 are served."""

from typing import Any

import uvicorn


def serve(application: Any, port: int) -> None:
    """One worker on uvloop and httptools, without logs of accesses."""
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
