"""Ends that do exactly what they are told: raw.py server|client ADDRESS PORT=SCRIPT...

Each script is for one connection and a thread of its own; its steps, separated by `;`, are the
functions `step_*` below, with arguments after colons.
"""

import base64
import hashlib
import re
import socket
import struct
import sys
import threading

from ready import ready

MASK = bytes.fromhex("a5c3f017")
PADDING = "x" * 500
# Of a line.
ENDS = {"crlf": "\r\n", "lf": "\n"}
words = {}


def frame(opcode, payload=b"", fin=True, masked=False, rsv=0, encoding=None):
    """Encoding 0, 2 or 8: how many bytes more the length takes."""
    length = len(payload)
    if encoding is None:
        encoding = 0 if length < 126 else 2 if length < 65536 else 8
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if encoding == 0:
        head += bytes([bit | length])
    elif encoding == 2:
        head += bytes([bit | 126]) + struct.pack(">H", length)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", length)
    if masked:
        head += MASK
        repeated = MASK * (length // 4 + 1)
        number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
        payload = number.to_bytes(length, "big")
    return head + payload


class End:
    def __init__(self, connection, client):
        self.connection = connection
        self.client = client
        self.buffer = b""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # Reading

    def more(self):
        received = self.connection.recv(1 << 20)
        self.buffer += received
        return bool(received)

    def head(self):
        while not (end := re.search(rb"\n\r?\n", self.buffer)):
            if not self.more():
                raise EOFError("in a head")
        head, self.buffer = self.buffer[: end.start()], self.buffer[end.end() :]
        return head.decode().replace("\r", "")

    def take(self, count):
        while len(self.buffer) < count:
            if not self.more():
                raise EOFError("in a frame")
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read_frame(self):
        first, second = self.take(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.take(8))
        if second & 0x80:
            self.take(4)
        received = 0
        while received < length:
            received += len(self.take(min(length - received, 1 << 16)))
        return first & 0x0F

    # Sending

    def send(self, data, chunk=None):
        """In pieces of `chunk` bytes; below 0, the last so many by themselves."""
        if chunk and chunk < 0:
            self.send(data[:chunk])
            self.send(data[chunk:])
            return
        for start in range(0, len(data), chunk or len(data)):
            self.connection.sendall(data[start : start + (chunk or len(data))])

    def frame(self, opcode, payload=b"", **how):
        return frame(opcode, payload, masked=self.client, **how)

    # Opening

    def step_get(self, path="/page"):
        self.send(f"GET {path} HTTP/1.1\r\nHost: raw.test\r\n\r\n".encode())
        head = self.head()
        length = next(
            int(line.split(":")[1])
            for line in head.split("\n")
            if line.lower().startswith("content-length")
        )
        self.take(length)

    def step_serve(self, length="5"):
        self.head()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        self.send(head.encode() + b"x" * int(length))

    def step_ask(self, padding="0", chunk="0", protocol="websocket", path="/raw?token=secret", end="crlf"):
        lines = [f"GET {path} HTTP/1.1", "Host: raw.test", "User-Agent: raw peer/1"]
        lines += self.padding(int(padding))
        lines += [f"uPGRADE: {protocol}", "cOnNection: keep-alive, Upgrade"]
        key = base64.b64encode(bytes(16)).decode()
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        lines += ["Sec-WebSocket-Protocol: chat"]
        self.send(ENDS[end].join([*lines, "", ""]).encode(), int(chunk))

    def step_upgrade(self, *how):
        self.step_ask(*how)
        self.head()

    def step_answer(self):
        self.head()

    def step_accept(self, padding="0", chunk="0", protocol="WebSocket", frames="0", end="crlf"):
        asked = [line.partition(": ") for line in self.head().split("\n")]
        asked = {name.lower(): value for name, _, value in asked}
        key = asked["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        answer = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Server: raw/1"]
        if "sec-websocket-protocol" in asked:
            lines += ["Sec-WebSocket-Protocol: chat"]
        lines += self.padding(int(padding))
        lines += [f"UPGRADE: {protocol}", "connection: upgrade", f"Sec-WebSocket-Accept: {answer}"]
        head = ENDS[end].join([*lines, "", ""]).encode()
        self.send(head + self.frame(1, b"early") * int(frames), int(chunk))

    @staticmethod
    def padding(length):
        line = f"X-Padding: {PADDING}"
        return [line] * (length // (len(line) + 2))

    # Frames

    def step_texts(self, count="1", length="5", chunk="0"):
        self.send(self.frame(1, b"t" * int(length)) * int(count), int(chunk))

    def step_ticks(self, count, seconds, length="5"):
        """Frames in packets of their own."""
        for _ in range(int(count)):
            self.step_texts(1, length)
            self.step_pause(seconds)

    def step_ticks_until(self, word, seconds):
        while not heard(word).is_set():
            self.step_ticks(1, seconds)

    def step_turns_until(self, word):
        while not heard(word).is_set():
            self.step_turns(1)

    def step_echo_until_close(self):
        while self.read_frame() != 8:
            self.send(self.frame(1, b"echo"))

    def step_turns(self, count, length="5"):
        """Each end sends a frame and reads one."""
        for _ in range(int(count)):
            self.step_texts(1, length)
            self.read_frame()

    def step_encodings(self):
        for length, encoding in [(0, 0), (125, 0), (126, 2), (65535, 2), (65536, 8), (5, 2), (5, 8)]:
            self.send(self.frame(2, b"e" * length, encoding=encoding))

    def step_fragments(self):
        part = self.frame
        self.send(part(1, b"one", fin=False) + part(9, b"ping") + part(0, b"two", fin=False))
        self.send(part(10) + part(0, b"three"))

    def step_cuts(self):
        """Every header form, cut at every offset."""
        for length, encoding in [(5, 0), (200, 2), (70000, 8)]:
            whole = self.frame(1, b"c" * length, encoding=encoding)
            header = len(whole) - length
            for cut in range(1, header + 1):
                self.send(whole[:cut])
                self.send(whole[cut:])

    def step_part(self, opcode, text="part", fin="0"):
        """A fragment of a message."""
        self.send(self.frame(int(opcode), text.encode(), fin=fin == "1"))

    def step_unmasked(self, length="5"):
        self.send(frame(1, b"u" * int(length)))

    def step_bytes(self, text):
        self.send(bytes.fromhex(text))

    # Closing

    def closing(self, code="1000", reason="0"):
        body = b"" if code == "none" else struct.pack(">H", int(code)) + b"r" * int(reason)
        return self.frame(8, body)

    def step_close(self, *how):
        self.send(self.closing(*how))

    def step_close_cut(self, *how):
        self.send(self.closing(*how), 1)

    def step_close_body(self, length):
        self.send(self.frame(8, b"\x03\xe9" * (int(length) // 2) + b"\x03" * (int(length) % 2)))

    def step_close_fin(self, *how):
        """The Close frame and the FIN in one packet."""
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        self.connection.send(self.closing(*how), socket.MSG_MORE)
        self.step_fin()

    def step_fin(self):
        self.connection.shutdown(socket.SHUT_WR)

    def step_end(self):
        self.connection.close()

    def step_reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    # Waiting

    def step_await_frames(self, count):
        for _ in range(int(count)):
            self.read_frame()

    def step_echo(self, count):
        for _ in range(int(count)):
            self.read_frame()
            self.send(self.frame(1, b"echo"))

    def step_await_close(self):
        while self.read_frame() != 8:
            pass

    def step_await_bytes(self, count):
        self.take(int(count))

    def step_await_eof(self):
        """The end of what the other end sends, be it a FIN or an RST."""
        try:
            while self.more():
                self.buffer = b""
        except ConnectionError:
            pass

    def step_pause(self, seconds):
        threading.Event().wait(float(seconds))

    def step_say(self, word):
        print(word, flush=True)

    def step_await_word(self, word):
        heard(word).wait()


def run(end, script, failures):
    for step in script.split(";"):
        name, *arguments = step.strip().split(":")
        try:
            getattr(end, "step_" + name.replace("-", "_"))(*arguments)
        except Exception as problem:
            failures.append(f"{'client' if end.client else 'server'}: {step}: {problem!r}: {script}")
            break


def serve(kind, listener, script, failures):
    connection, _ = listener.accept()
    if listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        # The next connection is for another one.
        listener.close()
    run(kind(connection, False), script, failures)


def connect(kind, address, script, failures):
    run(kind(socket.create_connection(address), True), script, failures)


def listen(address):
    """`mapped` is an IPv6 socket that serves IPv4; `deferred` has no connection before a request; `shared` has others beside it."""
    mapped = address[0] == "mapped"
    deferred = address[0] == "deferred"
    shared = address[0] == "shared"
    family = socket.AF_INET6 if ":" in address[0] or mapped else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if mapped:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if deferred:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    host = "::" if mapped else "127.0.0.1" if deferred or shared else address[0]
    listener.bind((host, address[1]))
    listener.listen(100)
    return listener


def main(kind=End):
    """`kind` knows the steps."""
    role, address, *specs = sys.argv[1:]
    failures, threads = [], []
    for spec in specs:
        port, _, script = spec.partition("=")
        there = (address, int(port))
        if role == "server":
            work = (serve, (kind, listen(there), script, failures))
        else:
            work = (connect, (kind, there, script, failures))
        threads.append(threading.Thread(target=work[0], args=work[1], daemon=True))
    ready()
    for thread in threads:
        thread.start()
    if any("await-word" in spec for spec in specs):
        threading.Thread(target=hear, daemon=True).start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit("\n".join(failures))


def heard(word):
    """Every connection that waits for the word goes on when it comes."""
    return words.setdefault(word, threading.Event())


def hear():
    for line in sys.stdin:
        heard(line.strip()).set()


if __name__ == "__main__":
    main()
