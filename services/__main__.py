"""`python -m services identity audit` hosts those services in this process; with no name, every one."""

import asyncio
import gc
import logging
import signal
import sys
from importlib import import_module

import uvloop

from services.chassis.config import BadSetting, Settings, load
from services.chassis.health import Readiness
from services.chassis.host import SERVICES, Build, hosting
from services.chassis.probes import probing
from services.chassis.registration import About
from services.chassis.registration_settings import RegistrationSettings
from services.chassis.telemetry import log_to_stderr

log = logging.getLogger("weft.host")


def every() -> list[str]:
    """A service is a folder with an app.py; nothing else registers it."""
    return sorted(path.parent.name for path in SERVICES.glob("*/app.py"))


def builds(names: list[str]) -> dict[str, Build]:
    return {name: import_module(f"services.{name}.app").build for name in names}


async def main(names: list[str], settings: Settings, registration: RegistrationSettings) -> None:
    """Until SIGTERM or SIGINT; then calls in flight are given `drain_s`."""

    def about(metrics: int) -> About | None:
        return About(settings=registration, metrics_port=metrics) if registration.register else None

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    readiness = Readiness()
    async with (
        probing(settings.metrics_address, readiness) as metrics,
        hosting(builds(names), settings, readiness=readiness, about=about(metrics)) as hosted,
    ):
        gc.freeze()  # What is loaded by now lives as long as the process.
        log.info("serving", extra={"facts": {"services": names, "port": hosted.port, "metrics": metrics}})
        await stopping.wait()
        log.info("draining")


def run(arguments: list[str]) -> int:
    unknown = sorted(set(arguments) - set(every()))
    if unknown:
        sys.stderr.write(f"no such service: {', '.join(unknown)}; there are {', '.join(every())}\n")
        return 2
    try:
        settings, registration = load(Settings), load(RegistrationSettings)
    except BadSetting as error:
        sys.stderr.write(f"{error}\n")
        return 2
    log_to_stderr(settings.log_level)
    uvloop.run(main(arguments or every(), settings, registration))
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
