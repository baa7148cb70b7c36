"""WebSocket clients as people write them: connect, say something, hear something, close.

    clients.py COUNT URI...

Every server is visited COUNT times, all at once.
"""

import asyncio
import sys

from websockets.asyncio.client import connect


async def visit(uri):
    # A client waits this long for the server to close TCP; the library's default is 10 s.
    async with connect(uri, close_timeout=4, proxy=None) as websocket:
        await websocket.send("hello")
        await websocket.recv()


async def main(count, uris):
    await asyncio.gather(*(visit(uri) for uri in uris for _ in range(count)))


asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
