"""TLS connections that come and go: coming_and_going.py server|client PORT THREADS COUNT

Each of COUNT that each of the client's threads has says a line, and hears one."""

import socket
import sys
import threading

import secure
from ready import ready


def serve(listener, context):
    while True:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(wrapped.recv(100))
        # The library frees what nobody holds; the kernel keeps a session as long as its object.
        connection = wrapped = None


def go(port, context, count):
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            with context.wrap_socket(connection, server_hostname="127.0.0.1") as wrapped:
                wrapped.sendall(b"line\n")
                wrapped.recv(100)


def main():
    role, port, threads, count = sys.argv[1:]
    if role == "server":
        listener = socket.create_server(("127.0.0.1", int(port)), backlog=100)
        work = (serve, (listener, secure.server()))
    else:
        work = (go, (int(port), secure.client(), int(count)))
    ready()
    all_of_them = [threading.Thread(target=work[0], args=work[1]) for _ in range(int(threads))]
    for thread in all_of_them:
        thread.start()
    for thread in all_of_them:
        thread.join()


main()
