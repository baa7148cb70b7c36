"""Both ends of connections that leave something behind. Each line of stdin is told what to leave:

    listen HOST PORT                        a server; the host `mapped` is an IPv6 socket for IPv4
    keep HOST PORT                          a WebSocket that stays open
    websocket HOST PORT HOLDER COUNT FIRST  WebSockets whose TIME_WAIT the `server` or the `client`
                                            holds; the clients' ports begin with FIRST
    plain HOST PORT HOLDER COUNT FIRST      the same without a WebSocket
    half HOST PORT COUNT FIRST              WebSockets of which only the client ends TCP: FIN_WAIT2
    leak HOST PORT                          one WebSocket; its closing handshake completes, its client
                                            ends TCP, its server never does

and is answered with `done`.
"""

import socket
import sys

from ready import ready

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: leave.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
)
CLIENT_CLOSE, SERVER_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8", b"\x88\x02\x03\xe8"

listeners = {}
kept = []


def listen(host, port):
    listener = socket.socket(socket.AF_INET6 if host == "mapped" or ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "mapped":
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::" if host == "mapped" else host, int(port)))
    listener.listen(128)
    listeners[int(port)] = listener


def take(end, length):
    while length > 0:
        received = len(end.recv(length))
        if received == 0:
            raise EOFError
        length -= received


def connect(host, port, first=0, upgrade=True):
    host = "127.0.0.1" if host == "mapped" else host
    client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Of its own choice the kernel would take ports whose TIME_WAIT is older than a second.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind((host, first))
    client.connect((host, int(port)))
    server, _ = listeners[int(port)].accept()
    if upgrade:
        client.sendall(REQUEST)
        take(server, len(REQUEST))
        server.sendall(RESPONSE)
        take(client, len(RESPONSE))
    return client, server


def close(client, server):
    client.sendall(CLIENT_CLOSE)
    take(server, len(CLIENT_CLOSE))
    server.sendall(SERVER_CLOSE)
    take(client, len(SERVER_CLOSE))


def leave(host, port, holder, count, first, upgrade):
    for number in range(int(count)):
        client, server = connect(host, port, int(first) + number, upgrade)
        if upgrade:
            close(client, server)
        ends = [server, client] if holder == "server" else [client, server]
        ends[0].close()
        ends[1].recv(1)
        ends[1].close()


def half(host, port, count, first):
    for number in range(int(count)):
        client, server = connect(host, port, int(first) + number)
        close(client, server)
        client.close()
        kept.append(server)


ready()
for line in sys.stdin:
    what, *how = line.split()
    if what == "listen":
        listen(*how)
    elif what == "keep":
        kept.extend(connect(*how))
    elif what in ("websocket", "plain"):
        leave(*how, upgrade=what == "websocket")
    elif what == "half":
        half(*how)
    elif what == "leak":
        half(*how, 1, 0)
    print("done", flush=True)
