"""How the tests are spread over xdist's workers: a file goes to one worker, or a folder that shares servers.

xdist's own groups (`--dist loadgroup`) do nothing under pytest 9.2, which keeps no `_nodeid` to write them
in: each worker started every mesh, and kept it to the end of the run.
"""

from xdist.scheduler import LoadScopeScheduling

# By folder: the unit it belongs to. Meshes come one after the other, beside tests that need none.
UNITS = {
    "chaos": "mesh",
    "e2e": "mesh",
    "edge": "edge",
    "generation": "generation",
    "launcher": "launcher",
    "new_service": "new_service",
}
# What takes longest begins first, so that both workers end at about the same time.
FIRST = ("chaos", "e2e", "worker", "wire", "launcher", "new_service")


class ByPlace(LoadScopeScheduling):
    """Hands out units in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return UNITS.get(folder(nodeid), nodeid.partition("::")[0])


def folder(nodeid: str) -> str:
    """`chaos` of `tests/chaos/test_kills.py::test_x`."""
    return nodeid.split("/")[1]


def order(nodeid: str) -> int:
    """Sorts what begins first before the rest."""
    name = folder(nodeid)
    return FIRST.index(name) if name in FIRST else len(FIRST)
