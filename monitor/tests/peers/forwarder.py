"""Passes TCP on as it comes: forwarder.py ADDRESS [connect|records] FROM=TO...

`connect`: each connection begins with a request for it (RFC 9110 section 9.3.6). `records`: TLS is passed on by single
records, each in a packet of its own."""

import socket
import struct
import sys
import threading

from ready import ready


def exactly(connection, count):
    taken = b""
    while len(taken) < count and (more := connection.recv(count - len(taken))):
        taken += more
    return taken


def pieces(source, by_records):
    while True:
        if by_records:
            head = exactly(source, 5)
            piece = head + exactly(source, struct.unpack(">H", head[3:])[0]) if len(head) == 5 else head
        else:
            piece = source.recv(1 << 16)
        if not piece:
            return
        yield piece


def forward(source, sink, by_records):
    try:
        for piece in pieces(source, by_records):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, sink):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(listener, there, kind):
    while True:
        client, _ = listener.accept()
        if kind == "connect":
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
        server = socket.create_connection(there)
        if kind == "connect":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in [(client, server), (server, client)]:
            threading.Thread(target=forward, args=(source, sink, kind == "records"), daemon=True).start()


def main():
    address, kind, *pairs = sys.argv[1:]
    for pair in pairs:
        here, there = (int(port) for port in pair.split("="))
        listener = socket.create_server((address, here), backlog=100)
        threading.Thread(target=serve, args=(listener, (address, there), kind), daemon=True).start()
    ready()
    threading.Event().wait()


main()
