"""FastAPI with pydantic, echoing a JSON object of one text. `python -m bench.peers.echo_fastapi PORT`."""

import sys

from fastapi import FastAPI
from pydantic import BaseModel

from bench.peers.echoes import SERVICE
from bench.peers.http1 import serve

app = FastAPI()


class Message(BaseModel):
    text: str


@app.post(f"/{SERVICE}/Unary")
async def unary(message: Message) -> Message:
    return message


if __name__ == "__main__":
    serve(app, int(sys.argv[1]))
