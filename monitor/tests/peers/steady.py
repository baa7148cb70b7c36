"""Connections that are no WebSockets: steady.py KIND PORT CONNECTIONS TURNS SEED

All of them open, and each has a first turn. Then, once told to go on, every one has TURNS more. They close
when they are told so again.
"""

import random
import resource
import socket
import ssl
import struct
import sys

from noise import Files, Large, Prefixed, Small, Tiny
from ready import ready

PAGES = ["page.txt", "data.json", "data.bin", "picture.svg"]
FOLDERS = ["plain", "chunked"]


class Client:
    def __init__(self, port, chance):
        self.chance = chance
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begin()

    def begin(self):
        self.reader = self.connection.makefile("rb")

    def send(self, data):
        self.connection.sendall(data)

    def read(self, length):
        data = self.reader.read(length)
        if len(data) < length:
            raise EOFError(f"{length} bytes were to come")
        return data

    def close(self):
        self.connection.close()


class Http(Client):
    """Answers with a length, in chunks, compressed; requests with and without bodies."""

    def turn(self):
        if self.chance.random() < 0.3:
            self.put(self.chance.randrange(1, 20000))
        else:
            self.get()
        length, chunked = 0, False
        line = self.reader.readline()
        if b" 20" not in line:
            raise EOFError(f"an answer that begins with {line!r}")
        while line := self.reader.readline().strip().lower():
            name, _, value = line.partition(b": ")
            length = int(value) if name == b"content-length" else length
            chunked |= name == b"transfer-encoding"
        if not chunked:
            self.read(length)
        while chunked:
            size = int(self.reader.readline(), 16)
            self.read(size + 2)
            chunked = size > 0

    def get(self):
        path = f"/{self.chance.choice(FOLDERS)}/{self.chance.choice(PAGES)}"
        coding = self.chance.choice(["identity", "gzip"])
        head = f"GET {path} HTTP/1.1\r\nHost: steady.test\r\nAccept-Encoding: {coding}\r\n\r\n"
        self.send(head.encode())

    def put(self, length):
        path = f"/put/{self.chance.randrange(10)}"
        head = f"PUT {path} HTTP/1.1\r\nHost: steady.test\r\nContent-Length: {length}\r\n\r\n"
        body = self.chance.choice([self.chance.randbytes(length), b"[1, 2, 3]\n" * (length // 10 + 1)])
        body = body[:length]
        self.send(head.encode())
        while body:
            size = self.chance.choice([1, 2, 8, 100, 1000, 20000])
            self.send(body[:size])
            body = body[size:]


class Https(Http):
    VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

    def begin(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = self.chance.choice(self.VERSIONS)
        self.connection = context.wrap_socket(self.connection)
        super().begin()


class Redis(Client):
    def turn(self):
        key = b"key-%d" % self.chance.randrange(100)
        size = self.chance.choice([0, 1, 2, 6, 20, 200, 5000])
        value = self.chance.randbytes(size)
        self.ask(
            self.chance.choice(
                [
                    [b"PING"],
                    [b"SET", key, value],
                    [b"GET", key],
                    [b"INCR", b"counter"],
                    [b"RPUSH", b"list", value[:20]],
                    [b"LRANGE", b"list", b"-20", b"-1"],
                    [b"ECHO", value],
                ]
            )
        )

    def ask(self, words):
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.send(b"".join(parts))
        self.answer()

    def answer(self):
        line = self.reader.readline()
        if line[:1] == b"$" and line != b"$-1\r\n":
            self.read(int(line[1:]) + 2)
        elif line[:1] == b"*":
            for _ in range(int(line[1:])):
                self.answer()
        elif line[:1] not in b"+:$":
            raise EOFError(f"an answer that begins with {line!r}")


class Postgres(Client):
    """Its messages begin with a letter and a length of four bytes."""

    def begin(self):
        super().begin()
        words = b"user\0postgres\0database\0postgres\0\0"
        self.send(struct.pack(">II", 8 + len(words), 3 << 16) + words)
        self.await_ready()

    def turn(self):
        count = self.chance.randrange(1, 50)
        rows = f"SELECT n, random(), md5(n::text), n % 2 = 0 FROM generate_series(1, {count}) n"
        if self.chance.random() < 0.5:
            self.message(b"Q", rows.encode() + b"\0")
        else:
            # Rows in binary form.
            self.message(b"P", b"\0" + rows.encode() + b"\0\0\0")
            self.message(b"B", b"\0\0" + struct.pack(">HHHH", 0, 0, 1, 1))
            self.message(b"E", b"\0" + bytes(4))
            self.message(b"S", b"")
        self.await_ready()

    def message(self, kind, body):
        self.send(kind + struct.pack(">I", 4 + len(body)) + body)

    def await_ready(self):
        kind = b""
        while kind != b"Z":
            kind, length = struct.unpack(">cI", self.read(5))
            body = self.read(length - 4)
            if kind == b"E":
                raise EOFError(body)


KINDS = {
    "http": Http,
    "https": Https,
    "redis": Redis,
    "postgres": Postgres,
    "small": Small,
    "tiny": Tiny,
    "large": Large,
    "prefixed": Prefixed,
    "files": Files,
}


def main():
    kind, port, connections, turns, seed = sys.argv[1:]
    limit = int(connections) + 1000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
    ready()
    clients = []
    for number in range(int(connections)):
        clients.append(KINDS[kind](int(port), random.Random(f"{seed}/{kind}/{number}")))
        clients[-1].turn()
    print("open", flush=True)
    sys.stdin.readline()
    for _ in range(int(turns)):
        for client in clients:
            client.turn()
        print("turn", flush=True)
    sys.stdin.readline()
    for client in clients:
        client.close()


main()
