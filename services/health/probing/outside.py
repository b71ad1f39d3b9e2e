"""What is not ours: gateways and relays by their protocols, disks by their room."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import SplitResult, urlsplit

from services.chassis.config import BadSetting
from services.health.domain.component import Verdict
from services.health.looking import Finding
from services.health.probing.http import BadAnswer, get

NAME = re.compile(r"[a-z][a-z0-9.-]{0,62}")
PORTS = {"smtp": 25, "tcp": 0, "grpc": 0}
BANNER_BYTES_MAX = 1_024  # RFC 5321 §4.5.3.1.5: a reply line has 512.
FREE_BAD, FREE_LOW = 0.03, 0.10  # Of a disk: PostgreSQL stops at none; somebody must have time to act.


class Outside:
    """One probe of the settings."""

    def __init__(self, component: str, url: SplitResult) -> None:
        self.component, self._url = component, url
        self._ask = ASK[url.scheme]

    async def look(self) -> Sequence[Finding]:
        verdict, why = await self._ask(self._url)
        return [Finding(self.component, verdict, why)]


Said = tuple[Verdict, str]
GOOD: Said = (Verdict.GOOD, "")


async def _http(url: SplitResult) -> Said:
    await get(url.geturl())
    return GOOD


async def _tcp(url: SplitResult) -> Said:
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.close()
    return GOOD


async def _smtp(url: SplitResult) -> Said:
    """It greets (RFC 5321 §3.1)."""
    reader, writer = await asyncio.open_connection(url.hostname, url.port or PORTS["smtp"])
    try:
        banner = await reader.readuntil(b"\n")
    finally:
        writer.close()
    if len(banner) > BANNER_BYTES_MAX or not banner.startswith(b"220"):
        raise BadAnswer(banner[:3].decode("ascii", "replace"))
    return GOOD


async def _grpc(url: SplitResult) -> Said:
    """grpc.health.v1 of a server, or of the service that the path names."""
    import grpc.aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with grpc.aio.insecure_channel(url.netloc) as channel:
        ask = health_pb2.HealthCheckRequest(service=url.path.strip("/"))
        answer = await health_pb2_grpc.HealthStub(channel).Check(ask)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        return Verdict.BAD, health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return GOOD


async def _disk(url: SplitResult) -> Said:
    usage = await asyncio.to_thread(shutil.disk_usage, url.path)
    return room(usage.free / usage.total)


def room(free: float) -> Said:
    """`free` is a share."""
    if free >= FREE_LOW:
        return GOOD
    return (Verdict.BAD if free < FREE_BAD else Verdict.SLOW), f"{free:.0%} are free"


ASK: dict[str, Callable[[SplitResult], Awaitable[Said]]] = {
    "http": _http,
    "https": _http,
    "tcp": _tcp,
    "smtp": _smtp,
    "grpc": _grpc,
    "disk": _disk,
}


def probes(texts: Sequence[str]) -> list[Outside]:
    """Of `name=url` each. Raises BadSetting."""
    made = []
    for text in texts:
        name, _, address = text.partition("=")
        url = urlsplit(address)
        if not NAME.fullmatch(name) or url.scheme not in ASK:
            known = ", ".join(ASK)
            raise BadSetting(f"WEFT_HEALTH_PROBES has {name!r}; each is name=url, with one of {known}")
        made.append(Outside(name, url))
    return made
