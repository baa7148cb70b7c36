"""hostile.py for ends whose host is odd: host.py server|client ADDRESS PORT=SCRIPT...

`child:STEP+STEP...` takes steps of its own.
"""

import ctypes
import mmap
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import hostile
import raw
from ready import ready

# Linux: include/uapi/linux/in6.h, include/uapi/linux/tcp.h.
IPV6_RTHDR, IPV6_HOPOPTS, IPV6_DSTOPTS = 57, 54, 59
TCP_USER_TIMEOUT, TCP_LINGER2 = 18, 8
# Linux: include/uapi/linux/io_uring.h.
SETUP, ENTER, REGISTER = 425, 426, 427
OFF_SQ_RING, OFF_CQ_RING, OFF_SQES = 0, 0x8000000, 0x10000000
GETEVENTS, SQE_FIXED_FILE, REGISTER_FILES = 1, 1, 2
OP_CLOSE, OP_SEND, OP_SHUTDOWN = 19, 26, 34
libc = ctypes.CDLL(None, use_errno=True)


def system_call(*arguments):
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Ring:
    """An io_uring with room for one thing at a time."""

    def __init__(self):
        parameters = ctypes.create_string_buffer(120)
        self.file = system_call(SETUP, 1, parameters)
        self.sq = struct.unpack_from("10I", parameters, 40)
        self.cq = struct.unpack_from("10I", parameters, 80)
        size = max(self.sq[6] + 4, self.cq[5] + 32)
        self.ring = mmap.mmap(self.file, size, offset=OFF_SQ_RING)
        self.entries = mmap.mmap(self.file, 64, offset=OFF_SQES)
        self.completions = mmap.mmap(self.file, size, offset=OFF_CQ_RING)

    def register(self, descriptor):
        files = struct.pack("i", descriptor)
        system_call(REGISTER, self.file, REGISTER_FILES, files, 1)

    def do(self, operation, descriptor, flags=0, address=0, length=0):
        entry = struct.pack("BBHiQQIIQ", operation, flags, 0, descriptor, 0, address, length, 0, 1)
        self.entries[: len(entry)] = entry
        (tail,) = struct.unpack_from("I", self.ring, self.sq[1])
        struct.pack_into("I", self.ring, self.sq[6], 0)
        struct.pack_into("I", self.ring, self.sq[1], tail + 1)
        system_call(ENTER, self.file, 1, 1, GETEVENTS, None, 0)
        (head,) = struct.unpack_from("I", self.completions, self.cq[0])
        result = struct.unpack_from("i", self.completions, self.cq[5] + 16 * (head % self.cq[3]) + 8)[0]
        struct.pack_into("I", self.completions, self.cq[0], head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))


class Host(hostile.Hostile):
    def step_option(self, level, name, value):
        value = bytes.fromhex(value[1:]) if value[0] == "x" else int(value)
        self.connection.setsockopt(int(level), int(name), value)

    def step_linger(self, seconds):
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, int(seconds))
        )

    def step_run(self, *words):
        """A command of this host, its spaces as `_`."""
        here = self.connection.getsockname()[1]
        command = ":".join(words).replace("_", " ").replace("HERE", str(here))
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)

    def step_child(self, *words):
        """A forked process goes on with steps of its own, and this one has only to wait for it."""
        child = os.fork()
        if child == 0:
            failures = []
            raw.run(self, ":".join(words).replace("+", ";"), failures)
            for failure in failures:
                os.write(2, failure.encode())
            os._exit(len(failures))
        self.connection.close()
        _, status = os.waitpid(child, 0)
        if status:
            raise OSError(f"the child ended with {status}")

    def step_keeper(self, seconds):
        """A forked process holds the descriptor for longer."""
        if os.fork() == 0:
            threading.Event().wait(float(seconds))
            os._exit(0)

    def step_forget_in_flight(self):
        """The last descriptor is under way in a pair of sockets that hold each other."""
        here, there = socket.socketpair(socket.AF_UNIX)
        socket.send_fds(here, [b"x"], [self.connection.fileno(), there.fileno()])
        self.connection.close()
        here.close()
        there.close()
        # Collects.
        one, other = socket.socketpair(socket.AF_UNIX)
        one.close()
        other.close()

    def step_ring(self):
        self.ring = Ring()

    def step_ring_texts(self, count="1"):
        data = ctypes.create_string_buffer(self.frame(1, b"ring!") * int(count))
        self.ring.do(OP_SEND, self.connection.fileno(), 0, ctypes.addressof(data), len(data) - 1)

    def step_ring_close_frame(self):
        data = ctypes.create_string_buffer(self.closing())
        self.ring.do(OP_SEND, self.connection.fileno(), 0, ctypes.addressof(data), len(data) - 1)

    def step_ring_fin(self):
        self.ring.do(OP_SHUTDOWN, self.connection.fileno(), 0, 0, socket.SHUT_WR)

    def step_ring_end(self):
        self.ring.do(OP_CLOSE, self.connection.detach())

    def step_ring_keep(self):
        """The ring alone holds the socket, and goes."""
        self.ring.register(self.connection.fileno())
        self.connection.close()
        self.ring.ring.close()
        self.ring.entries.close()
        self.ring.completions.close()
        os.close(self.ring.file)

    def step_connect(self, port, source="0", address="127.0.0.1"):
        """Another connection, from a port of its choice."""
        self.connection = socket.socket()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.connection.bind(("", int(source)))
        self.connection.connect((address, int(port)))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def step_accept_next(self, port):
        """Another connection, from a listener of its own."""
        listener = raw.listen(("127.0.0.1", int(port)))
        self.connection, _ = listener.accept()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        listener.close()

    def step_await_error(self):
        try:
            while self.more():
                self.buffer = b""
        except OSError:
            pass


def meet(here, there, role, script):
    """Both ends connect at once, or one with itself."""
    def address(text):
        host, _, port = text.rpartition(":")
        return host, int(port)

    connection = socket.socket()
    connection.bind(address(here))
    ready()
    if here != there:
        # At the next tenth of a second.
        threading.Event().wait(0.5 - time.time() % 0.5)
    connection.connect(address(there))
    failures = []
    raw.run(Host(connection, role == "client"), script, failures)
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    if sys.argv[1] == "meet":
        meet(*sys.argv[2:])
    elif sys.argv[1] == "itself":
        meet(sys.argv[2], sys.argv[2], "client", sys.argv[3])
    else:
        raw.main(Host)
