"""Clients of which all but the first resume the TLS session of the one before: resumed.py ADDRESS PORT PLAN...

They are `websockets` without threads' help in the handshake, and end each by itself once all are open."""

import socket
import sys
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import secure
from plan import is_told, messages, parse
from ready import ready


def main():
    address, port, *plans = sys.argv[1:]
    ready()
    context, session, opened = secure.client(), None, []
    for plan in plans:
        raw = socket.create_connection((address, int(port)))
        wrapped = context.wrap_socket(raw, server_hostname=address, session=session)
        assert wrapped.session_reused == (session is not None)
        websocket = connect(f"ws://{address}:{port}/{plan}", sock=wrapped)
        before, _ = messages(plan)
        talk(websocket, before)
        # With TLS 1.3 the server sends it after the handshake.
        session = wrapped.session
        opened.append((plan, websocket))
        print("open", flush=True)
    while not is_told():
        time.sleep(0.01)
    for plan, websocket in opened:
        _, code, reason = parse(plan)
        talk(websocket, messages(plan)[1])
        websocket.close(code, reason)


def talk(websocket, texts):
    try:
        for text in texts:
            websocket.send(text)
            websocket.recv()
    except ConnectionClosed:
        pass


main()
