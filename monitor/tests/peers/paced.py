"""WebSockets that open and close cleanly, at a pace: paced.py PER_SECOND CONNECTIONS

Both ends, on loopback. It says `done CONNECTIONS` when all of them have ended.
"""

import socket
import sys
import threading
import time

from ready import ready

REQUEST = (
    b"GET /paced HTTP/1.1\r\nHost: paced.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
# Close frames with code 1000; the client's is masked with zeros.
CLIENT_CLOSE = bytes.fromhex("88820000000003e8")
SERVER_CLOSE = bytes.fromhex("880203e8")


def read(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError
        data += more


def serve(listener, connections):
    for _ in range(connections):
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read(connection, len(REQUEST))
        connection.sendall(ANSWER)
        read(connection, len(CLIENT_CLOSE))
        connection.sendall(SERVER_CLOSE)
        connection.close()


def main(pace, connections):
    listener = socket.create_server(("127.0.0.1", 9000))
    ready()
    threading.Thread(target=serve, args=(listener, connections), daemon=True).start()
    began = time.monotonic()
    for number in range(connections):
        due = began + number / pace
        time.sleep(max(0, due - time.monotonic()))
        connection = socket.create_connection(("127.0.0.1", 9000))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(REQUEST)
        read(connection, len(ANSWER))
        connection.sendall(CLIENT_CLOSE)
        read(connection, len(SERVER_CLOSE))
        assert connection.recv(1) == b""
        connection.close()
    print(f"done {connections}", flush=True)
    sys.stdin.readline()


main(float(sys.argv[1]), int(sys.argv[2]))
