"""Whether a logo is a picture that pages can show: the typesetter itself says so, before any page is made.

    python -m services.billing.documents.logo < FILE

In a process of its own: a picture may be made to break or to stall whoever reads it, and the typesetter is
large.
"""

import json
import os
import subprocess
import sys
from functools import lru_cache

TIME_S_MAX = 30.0  # A picture takes some tens of milliseconds; the rest is for a machine that is busy.
WORDS_MAX = 200  # Of what the typesetter says.
# As the page has it.
SOURCE = b"""
#set document(title: "logo", author: "logo")
#image(bytes(json(bytes(sys.inputs.logo))), height: 15mm)
"""


@lru_cache(maxsize=2)
def problem(content: bytes) -> str:
    """Why it is none, in the typesetter's words; empty: it is one."""
    command = (sys.executable, "-m", "services.billing.documents.logo")
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ.get("PATH", "")}
    try:
        done = subprocess.run(
            command, input=content, env=paths, capture_output=True, timeout=TIME_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {TIME_S_MAX:.0f} s"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1][:WORDS_MAX] if said else "it stops the typesetter"


def main() -> None:
    """Exits with why not."""
    import typst

    shown = json.dumps(list(sys.stdin.buffer.read()))
    try:
        typst.compile(SOURCE, pdf_standards="a-3b", ignore_system_fonts=True, sys_inputs={"logo": shown})
    except Exception as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
