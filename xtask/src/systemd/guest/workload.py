"""WebSockets whose ends do what they are told, in the words of raw.py."""

import ctypes
import os
import socket
import threading

import raw

CLEAN = "accept; await-close; close; end", "upgrade; close; await-close; await-eof; end"
# The server answers and never closes TCP; the client loses its patience.
PATIENCE = 1.5
GAVE_UP = (
    "accept; await-close; close; await-eof; end",
    f"upgrade; close; await-close; pause:{PATIENCE}; end",
)


def visit(port, scripts, connections, end=raw.End):
    """So many connections one after another, each closed by both ends when this returns."""
    failures = []
    with raw.listen(("127.0.0.1", port)) as listener:
        for _ in range(connections):
            server = threading.Thread(target=raw.serve, args=(end, listener, scripts[0], failures))
            server.start()
            raw.connect(end, ("127.0.0.1", port), scripts[1], failures)
            server.join()
    assert not failures, failures


class Open:
    """A connection that stays open until it is closed."""

    # Each time that the ends talk, each sends so many.
    TEXTS = 3

    def __init__(self, port):
        self.failures = []
        with raw.listen(("127.0.0.1", port)) as listener:
            client = socket.create_connection(("127.0.0.1", port))
            server, _ = listener.accept()
        self.client, self.server = raw.End(client, True), raw.End(server, False)
        answering = threading.Thread(target=self.play, args=(self.server, "accept"))
        answering.start()
        self.play(self.client, "upgrade")
        answering.join()

    def play(self, end, script):
        raw.run(end, script, self.failures)

    def talk(self):
        for end, other in [(self.client, self.server), (self.server, self.client)]:
            self.play(end, f"texts:{self.TEXTS}:300")
            self.play(other, f"await-frames:{self.TEXTS}")

    def close(self):
        self.play(self.client, "close")
        self.play(self.server, "await-close; close; end")
        self.play(self.client, "await-close; await-eof; end")
        assert not self.failures, self.failures


def in_namespace(name, work):
    """Does it on a thread in the network namespace, which `ip netns` made."""

    def enter():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{name}") as namespace:
            assert libc.setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        work()
        done.append(True)

    done = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert done, f"not done in {name}"
