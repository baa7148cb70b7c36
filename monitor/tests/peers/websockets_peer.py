"""Python `websockets`: websockets_peer.py server asyncio|sync ADDRESS PORT
                      websockets_peer.py client asyncio|sync CLOSE_TIMEOUT|default URL PLAN..."""

import asyncio
import sys
import threading

from websockets.asyncio.client import connect as connect_asyncio
from websockets.asyncio.server import serve as serve_asyncio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_sync
from websockets.sync.server import serve as serve_sync

from plan import MESSAGES, parse
from ready import ready


async def handle_asyncio(websocket):
    who, code, reason = parse(websocket.request.path)
    async for message in websocket:
        if who == "server":
            await websocket.close(code, reason)
            return
        await websocket.send(message)


def handle_sync(websocket):
    who, code, reason = parse(websocket.request.path)
    for message in websocket:
        if who == "server":
            websocket.close(code, reason)
            return
        websocket.send(message)


def select_subprotocol(_, offered):
    return "chat" if "chat" in offered else None


async def server_asyncio(address, port):
    async with serve_asyncio(
        handle_asyncio, address, port, select_subprotocol=select_subprotocol, backlog=1024
    ):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


def server_sync(address, port):
    with serve_sync(handle_sync, address, port) as server:
        print("ready", flush=True)
        server.serve_forever()


async def client_asyncio(options, url, plans):
    """Every connection is open before the first one closes."""
    opened = asyncio.Barrier(len(plans))
    await asyncio.gather(*(one_asyncio(options, url, plan, opened) for plan in plans))


async def one_asyncio(options, url, plan, opened):
    who, code, reason = parse(plan)
    websocket = await connect_asyncio(
        f"{url}/{plan}", subprotocols=["chat"], open_timeout=60, **options
    )
    await opened.wait()
    try:
        if who == "server":
            await websocket.send("close, please")
            await websocket.recv()
        for number in range(MESSAGES):
            await websocket.send(f"message {number}")
            await websocket.recv()
    except ConnectionClosed:
        pass
    await websocket.close(code, reason)


def client_sync(options, url, plans):
    threads = [threading.Thread(target=one_sync, args=(options, url, plan)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def one_sync(options, url, plan):
    who, code, reason = parse(plan)
    websocket = connect_sync(f"{url}/{plan}", **options)
    try:
        if who == "server":
            websocket.send("close, please")
            websocket.recv()
        for number in range(MESSAGES):
            websocket.send(f"message {number}")
            websocket.recv()
    except ConnectionClosed:
        pass
    websocket.close(code, reason)


def main():
    role, kind, first, second, *plans = sys.argv[1:]
    if role == "server" and kind == "asyncio":
        asyncio.run(server_asyncio(first, int(second)))
    elif role == "server":
        server_sync(first, int(second))
    else:
        ready()
        options = {} if first == "default" else {"close_timeout": float(first)}
        if kind == "asyncio":
            asyncio.run(client_asyncio(options, second, plans))
        else:
            client_sync(options, second, plans)


main()
