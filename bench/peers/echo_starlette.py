"""Starlette on uvicorn, uvloop and httptools, echoing a body. `python -m bench.peers.echo_starlette PORT`."""

import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.peers.echoes import SERVICE
from bench.peers.http1 import serve


async def unary(request: Request) -> Response:
    return Response(await request.body())


if __name__ == "__main__":
    serve(Starlette(routes=[Route(f"/{SERVICE}/Unary", unary, methods=["POST"])]), int(sys.argv[1]))
