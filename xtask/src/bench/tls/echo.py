"""Python `websockets`, asyncio: echo.py server PORT CERTIFICATE KEY
                               echo.py client PORT CERTIFICATE BYTES MILLISECONDS

The client prints what `cargo xtask load` prints."""

import asyncio
import json
import ssl
import sys
import time

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

WARM_UP = 50


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def server(port, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with serve(echo, "127.0.0.1", int(port), ssl=context, compression=None):
        await asyncio.get_running_loop().create_future()


async def client(port, certificate, size, milliseconds):
    context = ssl.create_default_context(cafile=certificate)
    message = b"x" * int(size)
    url = f"wss://127.0.0.1:{port}/bench"
    async with connect(url, ssl=context, compression=None) as websocket:

        async def turn():
            await websocket.send(message)
            assert await websocket.recv() == message

        for _ in range(WARM_UP):
            await turn()
        began, took = time.perf_counter(), []
        until = began + int(milliseconds) / 1000
        while (asked := time.perf_counter()) < until:
            await turn()
            took.append(time.perf_counter() - asked)
        seconds = time.perf_counter() - began
    counted = {"turns": len(took), "all_turns": len(took) + WARM_UP, "seconds": seconds}
    print(json.dumps(counted | {"median_seconds": sorted(took)[len(took) // 2]}))


role, *words = sys.argv[1:]
asyncio.run({"server": server, "client": client}[role](*words))
