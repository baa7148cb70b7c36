"""The ends of secure_raw.py that begin in plaintext, and turn to TLS where their script says so:
odd_raw.py server|client ADDRESS PORT=SCRIPT...

A client's port may be that of a forwarder (forwarder.py). TLS is over the socket, or in memory, as event loops have it."""

import ctypes
import os
import socket
import ssl
import threading

import secure
from raw import main, run
from secure_raw import LIBRARY, SSL_OFFSET, SecureEnd


class InMemory:
    """TLS between an end and a socket that is read and written here."""

    def __init__(self, connection, context, **how):
        self.connection = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **how)
        self._sslobj = self.tls._sslobj
        self.until(self.tls.do_handshake)

    def until(self, call, *arguments):
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                self.put_in()
            else:
                self.flush()
                return result

    def put_in(self):
        received = self.connection.recv(1 << 18)
        if received:
            self.incoming.write(received)
        else:
            self.incoming.write_eof()

    def flush(self):
        if data := self.outgoing.read():
            self.connection.sendall(data)

    def recv(self, count):
        try:
            return self.until(self.tls.read, count)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def sendall(self, data):
        self.until(self.tls.write, data)

    def __getattr__(self, name):
        return getattr(self.connection, name)


class OddEnd(SecureEnd):
    def __init__(self, connection, client):
        # Past TLS from the first byte on.
        super(SecureEnd, self).__init__(connection, client)

    def step_tls(self, where="socket", curve=""):
        context = secure.client() if self.client else secure.server()
        if curve:
            context.set_ecdh_curve(curve)
        how = {"server_side": not self.client}
        how["server_hostname"] = "127.0.0.1" if self.client else None
        if where == "memory":
            self.connection = InMemory(self.connection, context, **how)
        else:
            self.connection = context.wrap_socket(self.connection, **how)

    def more(self):
        try:
            return super().more()
        except ssl.SSLZeroReturnError:
            # The other end ended the session, and this one had already.
            return False

    def step_line(self, *words):
        self.send(" ".join(words).encode() + b"\r\n")

    def step_await_line(self):
        while not self.buffer.endswith(b"\n"):
            # No more than the line: what follows may be TLS.
            if not (byte := self.connection.recv(1)):
                raise EOFError("in a line")
            self.buffer += byte
        self.buffer = b""

    def step_notify(self):
        """The alert that ends a session."""
        LIBRARY.SSL_shutdown(self.pointer())
        if isinstance(self.connection, InMemory):
            self.connection.flush()

    def pointer(self):
        return ctypes.c_void_p.from_address(id(self.connection._sslobj) + SSL_OFFSET)

    def step_receive(self):
        """Takes what came out of the socket, and leaves it in front of the library."""
        self.connection.put_in()

    def step_window(self, size):
        """Sizes of the kernel's buffers."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(size))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, int(size))

    def step_give_up_sending(self, *how):
        """A Close frame that the kernel does not take whole in a moment is left where it is."""
        self.connection.settimeout(0.3)
        try:
            self.send(self.frame(2, b"m" * 4_000_000))
        except (TimeoutError, OSError):
            pass
        try:
            self.step_close(*how)
        except (TimeoutError, OSError):
            pass

    def step_child(self, seconds):
        """A child has the session and the descriptor, too, and lets go of both a while later."""
        if os.fork():
            return
        print("child", flush=True)
        threading.Event().wait(float(seconds))
        self.connection._sslobj = None
        self.connection.close()
        os._exit(0)

    def step_hand_over(self, *words):
        """A child goes on, with steps of its own, and this process lets go of the session and the descriptor."""
        child = os.fork()
        if child == 0:
            print("child", flush=True)
            failures = []
            run(self, ":".join(words).replace("+", ";"), failures)
            for failure in failures:
                os.write(2, failure.encode())
            os._exit(len(failures))
        self.connection._sslobj = None
        self.connection.close()
        _, status = os.waitpid(child, 0)
        if status:
            raise OSError(f"the child ended with {status}")


if __name__ == "__main__":
    main(OddEnd)
