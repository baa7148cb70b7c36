"""raw.py for ends that mean no good: hostile.py server|client ADDRESS PORT=SCRIPT...

What it forges is sent by a raw socket, with a hop limit by which the tests tell it apart.
"""

import ctypes
import os
import socket
import struct

import raw

FORGED = 77
FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10}
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nServer: evil/1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)
# Linux: include/uapi/linux/tcp.h.
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_TIMESTAMP = 19, 20, 21, 24
RECEIVING, SENDING = 1, 2
REPAIR_OFF_SILENTLY = -1
# Linux: include/uapi/asm-generic/socket.h, include/linux/socket.h.
SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_segment(source, destination, sequence, acknowledges, flags, payload, options=b""):
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    numbers = [number & 0xFFFFFFFF for number in (sequence, acknowledges)]
    bits = sum(FLAGS[flag] for flag in flags)
    words = 5 + len(options) // 4
    start = struct.pack(">HHIIBBH", source[1], destination[1], *numbers, words << 4, bits, 500)
    length = len(start) + 4 + len(options) + len(payload)
    pseudo = addresses + struct.pack(">HH", socket.IPPROTO_TCP, length)
    right = checksum(pseudo + start + bytes(4) + options + payload)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0, FORGED, socket.IPPROTO_TCP, 0)
    packet = head + addresses + start + struct.pack(">HH", right, 0) + options + payload
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as forger:
        forger.sendto(packet, (destination[0], 0))


class Hostile(raw.End):
    def place(self, queue):
        """The sequence number that comes next."""
        option = self.connection.setsockopt
        option(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        option(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        place = self.connection.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
        option(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_SILENTLY)
        return place

    def step_forge(self, flags, ahead="0", acknowledges_ahead="0", payload=""):
        """A segment that seems to come from this end, so far from where it stands."""
        sequence = self.place(SENDING) + int(ahead)
        acknowledges = self.place(RECEIVING) + int(acknowledges_ahead) if "A" in flags else 0
        ends = self.connection.getsockname(), self.connection.getpeername()
        send_segment(*ends, sequence, acknowledges, flags, bytes.fromhex(payload))

    def step_forge_old(self, flags, payload):
        """The next bytes of this end, with a timestamp of long ago: TCP drops them."""
        option = self.connection.setsockopt
        option(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        now = self.connection.getsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP)
        option(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_SILENTLY)
        sequence, acknowledges = self.place(SENDING), self.place(RECEIVING)
        ends = self.connection.getsockname(), self.connection.getpeername()
        old = struct.pack(">BBBBII", 1, 1, 8, 10, (now - 1_000_000) & 0xFFFFFFFF, 0)
        send_segment(*ends, sequence, acknowledges, flags, bytes.fromhex(payload), old)

    def step_bytes_cut(self, text):
        """A byte at a time."""
        self.send(bytes.fromhex(text), 1)

    def step_stray(self, flags):
        """A stranger's segment with an answer, to the port that the other end listens on."""
        there = self.connection.getpeername()
        send_segment((there[0], 55555), there, 1000, 1 if "A" in flags else 0, flags, ANSWER)

    def step_answer(self):
        """An answer, whether or not there was a question."""
        self.send(ANSWER)

    def step_serve_answer(self):
        """A file that reads like an answer, in a segment of its own."""
        self.head()
        self.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\n\r\n".encode())
        self.step_pause("0.05")
        self.send(ANSWER)

    def step_sniff(self):
        self.sniffer = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)

    def step_crowd(self, count):
        """Others ask and are answered, each on a connection of its own."""
        listener = socket.create_server(("127.0.0.1", 0))
        for _ in range(int(count)):
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
            client.sendall(b"GET /crowd HTTP/1.1\r\nHost: crowd.test\r\nUpgrade: websocket\r\n\r\n")
            server.recv(1 << 16)
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            client.recv(1 << 16)
            client.close()
            server.close()

    def step_reuse(self, port):
        """Takes the socket apart and connects it again."""
        nowhere = struct.pack("H14x", socket.AF_UNSPEC)
        if ctypes.CDLL(None).connect(self.connection.fileno(), nowhere, len(nowhere)) != 0:
            raise OSError("the socket does not come apart")
        self.buffer = b""
        self.connection.connect(("127.0.0.1", int(port)))

    def step_await_head(self):
        self.head()

    def step_await_more(self):
        self.more()

    def payload(self, length):
        """A frame as a file in memory."""
        file = os.memfd_create("frame")
        os.write(file, self.frame(2, b"f" * int(length)))
        os.lseek(file, 0, os.SEEK_SET)
        return file, os.fstat(file).st_size

    def step_sendfile(self, length):
        file, left = self.payload(length)
        while left:
            left -= os.sendfile(self.connection.fileno(), file, None, left)
        os.close(file)

    def step_splice(self, length):
        file, left = self.payload(length)
        out, into = os.pipe()
        while left:
            moved = os.splice(file, into, left)
            left -= moved
            while moved:
                moved -= os.splice(out, self.connection.fileno(), moved)
        for descriptor in (file, out, into):
            os.close(descriptor)

    def step_zerocopy(self, length):
        """The pages themselves are on their way."""
        self.connection.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        self.frames = memoryview(self.frame(2, b"z" * int(length)))
        sent = 0
        while sent < len(self.frames):
            sent += self.connection.send(self.frames[sent:], MSG_ZEROCOPY)

    def step_hand_on(self):
        """The descriptor goes through another socket, and the first one is closed."""
        here, there = socket.socketpair(socket.AF_UNIX)
        socket.send_fds(here, [b"x"], [self.connection.fileno()])
        _, [descriptor], _, _ = socket.recv_fds(there, 1, 1)
        self.connection.close()
        self.connection = socket.socket(fileno=descriptor)
        here.close()
        there.close()

    def step_urgent(self, text):
        self.connection.send(bytes.fromhex(text), socket.MSG_OOB)

    def step_answer_fin(self):
        """The answer and the FIN in one packet."""
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        self.connection.send(ANSWER, socket.MSG_MORE)
        self.step_fin()


if __name__ == "__main__":
    raw.main(Hostile)
