"""Ends that speak TLS: tls_peer.py server ADDRESS PORT FILES [CURVE] | client ADDRESS PORT VERSION...

Each VERSION (`TLSv1_2`, `TLSv1_3`) is one connection, one after the other; each carries what a WebSocket would begin with.
The certificate is FILES.crt, its key FILES.key. A server that insists on a CURVE has clients say their Hello twice (RFC 8446 section 4.1.4).
"""

import socket
import ssl
import sys
import threading

from ready import ready

REQUEST = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
MESSAGES = 3


def serve(address, port, files, curve=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files + ".crt", files + ".key")
    if curve:
        context.set_ecdh_curve(curve)
    with socket.create_server((address, int(port)), backlog=64) as listener:
        ready()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(context, connection), daemon=True).start()


def answer(context, connection):
    with context.wrap_socket(connection, server_side=True) as tls:
        while data := tls.recv(4096):
            tls.sendall(data)


def visit(address, port, *versions):
    ready()
    for version in versions:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        with context.wrap_socket(socket.create_connection((address, int(port)))) as tls:
            assert tls.version() == version.replace("_", ".")
            for _ in range(MESSAGES):
                tls.sendall(REQUEST)
                assert tls.recv(4096) == REQUEST


{"server": serve, "client": visit}[sys.argv[1]](*sys.argv[2:])
