"""Python `websockets`: websockets_peer.py server asyncio|sync ADDRESS PORT
                      websockets_peer.py client asyncio|sync CLOSE_TIMEOUT|default URL PLAN..."""

import asyncio
import sys
import threading
import time

from websockets.asyncio.client import connect as connect_asyncio
from websockets.asyncio.server import serve as serve_asyncio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_sync
from websockets.sync.server import serve as serve_sync

import secure
from plan import closes, is_told, messages, parse, pause
from ready import ready


async def handle_asyncio(websocket):
    _, code, reason = parse(websocket.request.path)
    async for message in websocket:
        if closes(websocket.request.path, message):
            await websocket.close(code, reason)
            return
        await websocket.send(message)


def handle_sync(websocket):
    _, code, reason = parse(websocket.request.path)
    for message in websocket:
        if closes(websocket.request.path, message):
            websocket.close(code, reason)
            return
        websocket.send(message)


def select_subprotocol(_, offered):
    return "chat" if "chat" in offered else None


async def server_asyncio(address, port):
    async with serve_asyncio(
        handle_asyncio,
        address,
        port,
        select_subprotocol=select_subprotocol,
        backlog=1024,
        ssl=secure.server(),
    ):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


def server_sync(address, port):
    with serve_sync(handle_sync, address, port, ssl=secure.server()) as server:
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
    before, after = messages(plan)
    try:
        if before is not None:
            for text in before:
                await websocket.send(text)
                await websocket.recv()
            await pause()
        for text in after:
            await websocket.send(text)
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
    before, after = messages(plan)
    try:
        if before is not None:
            for text in before:
                websocket.send(text)
                websocket.recv()
            print("open", flush=True)
            while not is_told():
                time.sleep(0.01)
        for text in after:
            websocket.send(text)
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
        if second.startswith("wss:"):
            options["ssl"] = secure.client()
        if kind == "asyncio":
            asyncio.run(client_asyncio(options, second, plans))
        else:
            client_sync(options, second, plans)


main()
