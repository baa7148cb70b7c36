"""Bytes that mean nothing, and messages of protocols of our own: noise.py KIND PORT is their server.

The ends are clients of steady.py. None waits for an answer: each takes what has come before it sends.
"""

import glob
import os
import random
import resource
import selectors
import socket
import struct
import sys

# Programs, libraries, text, compressed text.
FILES = ["/usr/bin/*", "/usr/lib/*/lib*.so*", "/usr/lib/python3*/*.py", "/usr/share/doc/*/*.gz"]
# First bytes that a frame of a WebSocket may have, and some that it may not.
TYPES = [0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x02, 0x00, 0x80, 0xC1, 0xC2, 0x30, 0x40, 0x90]


class End:
    """One end of a connection; the server's and the client's do the same."""

    def __init__(self, connection, chance):
        self.connection = connection
        self.chance = chance
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.connection.sendall(data)

    def close(self):
        self.connection.close()


class Client:
    """What makes an end of it that connects."""

    def __init__(self, port, chance):
        connection = socket.create_connection(("127.0.0.1", port))
        super().__init__(connection, chance)

    def turn(self):
        try:
            while self.connection.recv(1 << 18, socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            pass
        self.speak()
        # They share a CPU, and one that only sends would have it for itself.
        os.sched_yield()


class RandomEnd(End):
    SIZES, PACKETS = range(1, 201), 4

    def speak(self):
        for _ in range(self.chance.randrange(1, self.PACKETS + 1)):
            self.send(self.chance.randbytes(self.chance.choice(self.SIZES)))


class TinyEnd(RandomEnd):
    """As short as the shortest frames."""

    SIZES, PACKETS = range(1, 9), 8


class LargeEnd(RandomEnd):
    SIZES, PACKETS = [500, 1448, 9000, 60000], 2


class FilesEnd(End):
    paths = [sorted(filter(os.path.isfile, glob.glob(pattern)))[:300] for pattern in FILES]

    def __init__(self, connection, chance):
        super().__init__(connection, chance)
        self.file = None

    def speak(self):
        """A piece of a file, in writes of one size; from the next file when this one has ended."""
        data = self.file.read(self.chance.choice([100, 4000, 60000])) if self.file else b""
        if not data:
            self.file = open(self.chance.choice(self.chance.choice(self.paths)), "rb")
            self.file.seek(self.chance.choice([0, 0, 4096]))
            return
        size = max(self.chance.choice([20, 1448, 16384, 65536]), len(data) // 20)
        for start in range(0, len(data), size):
            self.send(data[start : start + size])

    def close(self):
        if self.file:
            self.file.close()
        super().close()


class PrefixedEnd(End):
    """Messages that begin with their length, in packets of their own. Both ends do it in the same way."""

    def __init__(self, connection, chance):
        super().__init__(connection, chance)
        ports = connection.getsockname()[1] + connection.getpeername()[1]
        self.form = self.FORMS[ports % len(self.FORMS)]

    def speak(self):
        for _ in range(self.chance.randrange(1, 5)):
            length = self.chance.choice([0, 1, 2, 4, 10, 100, 125, self.chance.randrange(125)])
            self.send(self.form(self, self.chance.randbytes(length)))

    def type_and_byte(self, body):
        """What the server of a WebSocket sends, but from both ends."""
        return bytes([self.chance.choice(TYPES), len(body)]) + body

    def one_type_and_byte(self, body):
        return bytes([0x82, len(body)]) + body

    def two_bytes(self, body):
        return struct.pack(">H", len(body)) + body

    def four_bytes(self, body):
        return struct.pack(">I", len(body)) + body

    def four_bytes_little(self, body):
        return struct.pack("<I", len(body)) + body

    def mqtt(self, body):
        kind = self.chance.choice([0x30, 0x32, 0x40, 0x82, 0x90, 0xC0, 0xD0])
        return bytes([kind, len(body)]) + body

    def mqtt_publish(self, body):
        topic = b"sensors/%d" % self.chance.randrange(100)
        rest = struct.pack(">H", len(topic)) + topic + body
        length = len(rest)
        head = bytes([0x30, length]) if length < 128 else bytes([0x30, 0x80 | length & 0x7F, 1])
        return head + rest

    def tag_and_varint(self, body):
        return bytes([0x0A, len(body) | 0x80, 0]) + body

    def number_type_length(self, body):
        return struct.pack(">IBH", self.chance.randrange(1 << 32), 0x81, len(body)) + body

    def frames_of_a_client(self, body):
        """What only one end of a WebSocket would send, and lines from the other."""
        if not isinstance(self, Client):
            return b"done\n"
        return bytes([0x82, 0x80 | len(body)]) + self.chance.randbytes(4) + body

    def frames_of_a_server(self, body):
        if isinstance(self, Client):
            return b"next\n"
        return bytes([0x82, len(body)]) + body

    FORMS = [
        type_and_byte,
        one_type_and_byte,
        two_bytes,
        four_bytes,
        four_bytes_little,
        mqtt,
        mqtt_publish,
        tag_and_varint,
        number_type_length,
        frames_of_a_client,
        frames_of_a_server,
    ]


class Small(Client, RandomEnd):
    pass


class Tiny(Client, TinyEnd):
    pass


class Large(Client, LargeEnd):
    pass


class Files(Client, FilesEnd):
    pass


class Prefixed(Client, PrefixedEnd):
    pass


ENDS = {
    "small": RandomEnd,
    "tiny": TinyEnd,
    "large": LargeEnd,
    "files": FilesEnd,
    "prefixed": PrefixedEnd,
}


def serve(kind, port):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1000)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    print("ready", flush=True)
    accepted = 0
    while True:
        for key, _ in selector.select():
            end = key.data
            if end is None:
                connection, _ = listener.accept()
                accepted += 1
                end = ENDS[kind](connection, random.Random(f"{kind}/{accepted}"))
                selector.register(connection, selectors.EVENT_READ, end)
                continue
            try:
                received = end.connection.recv(1 << 18)
                if received:
                    end.speak()
            except ConnectionError:
                received = b""
            if not received:
                selector.unregister(end.connection)
                end.close()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
