"""aiohttp: aiohttp_peer.py server PORT
            aiohttp_peer.py client URL PLAN..."""

import asyncio
import sys

from aiohttp import ClientSession, TCPConnector, WSMsgType, web

import secure
from plan import closes, messages, parse, pause
from ready import ready


async def handle(request):
    _, code, reason = parse(request.path)
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is not WSMsgType.TEXT:
            break
        if closes(request.path, message.data):
            await websocket.close(code=code, message=reason.encode())
        else:
            await websocket.send_str(message.data)
    return websocket


async def page(_):
    return web.Response(text="a page")


async def serve(port):
    application = web.Application()
    application.router.add_get("/page", page)
    application.router.add_get("/{plan:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=secure.server()).start()
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()


async def run(url, plans):
    # One session keeps its connections alive, so pages go before the upgrades on some of them.
    connector = TCPConnector(ssl=secure.client() or True, limit=0)
    async with ClientSession(connector=connector) as session:
        for _ in range(2):
            async with session.get(f"{url}/page") as response:
                await response.text()
        await asyncio.gather(*(one(session, f"{url}/{plan}", plan) for plan in plans))
        async with session.get(f"{url}/page") as response:
            await response.text()


async def one(session, url, plan):
    who, code, reason = parse(plan)
    async with session.ws_connect(url) as websocket:
        before, after = messages(plan)
        if before is not None:
            for text in before:
                await websocket.send_str(text)
                await websocket.receive()
            await pause()
        for text in after:
            await websocket.send_str(text)
            await websocket.receive()
        if who == "client":
            await websocket.close(code=code, message=reason.encode())


def main():
    role, place, *plans = sys.argv[1:]
    if role == "server":
        asyncio.run(serve(int(place)))
    else:
        ready()
        asyncio.run(run(place, plans))


main()
