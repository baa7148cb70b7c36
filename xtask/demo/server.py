"""A WebSocket server that ends TCP as it is told: at once, late, or never.

    server.py clean|late|never [PORT]

Prints its port and serves until it is ended.
"""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

DELAYS = {"late": 1.5, "never": None}
# Of the whole program: what waits for an event of its own is garbage in time, and its connection closed.
FOREVER = asyncio.Event()


async def clean(port):
    """The library's own server, which does what RFC 6455 asks."""

    async def echo(websocket):
        async for message in websocket:
            await websocket.send(message)

    server = await serve(echo, "127.0.0.1", port)
    return server.sockets[0]


async def faulty(delay, port):
    """The same protocol, but nobody closes TCP when the protocol says so."""

    async def connected(reader, writer):
        protocol = ServerProtocol()
        while not protocol.close_expected():
            protocol.receive_data(await reader.read(65536))
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                elif event.opcode is Opcode.TEXT:
                    protocol.send_text(event.data)
            for data in protocol.data_to_send():
                # The empty piece that follows the Close frame stands for "close TCP now".
                writer.write(data)
        if delay is None:
            await FOREVER.wait()
        await asyncio.sleep(delay)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    return server.sockets[0]


async def main(behaviour, port=0):
    listening = await (clean(port) if behaviour == "clean" else faulty(DELAYS[behaviour], port))
    print(listening.getsockname()[1], flush=True)
    await FOREVER.wait()


asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
