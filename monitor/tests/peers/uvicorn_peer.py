"""uvicorn: uvicorn_peer.py server PORT"""

import sys

import uvicorn

import secure
from plan import closes, parse


async def application(scope, receive, send):
    _, code, reason = parse(scope["path"])
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if closes(scope["path"], event["text"]):
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return
        await send({"type": "websocket.send", "text": event["text"]})


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("ready", flush=True)


config = uvicorn.Config(
    application,
    host="127.0.0.1",
    port=int(sys.argv[2]),
    lifespan="off",
    log_level="warning",
    ssl_context_factory=(lambda _, __: secure.server()) if secure.FOLDER else None,
)
Server(config).run()
