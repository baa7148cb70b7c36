"""The ends of raw.py that call OpenSSL's library themselves: library_peer.py server|client ADDRESS PORT=SCRIPT...

They can use one session's object for the next connection, and send a request before the handshake is over (RFC 8446 section
2.3), which is then answered before it is."""

import ctypes
import os
import socket
import sys
import threading

from raw import End, listen, run
from ready import ready
from secure_raw import LIBRARY

FOLDER = os.environ["CLOSEWATCH_TEST_TLS"]
KEYS = os.environ.get("SSLKEYLOGFILE")
PEM = 1
SET_MAX_EARLY_DATA = 16384
EARLY_ERROR, EARLY_SUCCESS, EARLY_FINISH = 0, 1, 2

for name in ["TLS_client_method", "TLS_server_method", "SSL_CTX_new", "SSL_new", "SSL_get1_session"]:
    getattr(LIBRARY, name).restype = ctypes.c_void_p
keys_lock = threading.Lock()


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
def log_keys(_, line):
    with keys_lock, open(KEYS, "ab") as file:
        file.write(line + b"\n")


def context(client):
    method = LIBRARY.TLS_client_method() if client else LIBRARY.TLS_server_method()
    made = ctypes.c_void_p(LIBRARY.SSL_CTX_new(ctypes.c_void_p(method)))
    if client:
        LIBRARY.SSL_CTX_set_keylog_callback(made, log_keys)
    else:
        LIBRARY.SSL_CTX_use_certificate_file(made, f"{FOLDER}/server.crt".encode(), PEM)
        LIBRARY.SSL_CTX_use_PrivateKey_file(made, f"{FOLDER}/server.key".encode(), PEM)
        LIBRARY.SSL_CTX_set_max_early_data(made, SET_MAX_EARLY_DATA)
    return made


class Library:
    """A socket's methods, over an object of the library."""

    def __init__(self, connection, of, client):
        self.connection, self.client = connection, client
        self.object = ctypes.c_void_p(LIBRARY.SSL_new(of))
        self.is_early = False
        LIBRARY.SSL_set_fd(self.object, connection.fileno())

    def handshake(self):
        shake = LIBRARY.SSL_connect if self.client else LIBRARY.SSL_accept
        if shake(self.object) != 1:
            raise OSError("no handshake")

    def recv(self, count):
        count = min(count, 1 << 14)
        buffer, length = ctypes.create_string_buffer(count), ctypes.c_size_t()
        if self.is_early and not self.client:
            got = LIBRARY.SSL_read_early_data(self.object, buffer, ctypes.c_size_t(count), ctypes.byref(length))
            if got == EARLY_SUCCESS:
                return buffer.raw[: length.value]
            if got == EARLY_ERROR:
                raise OSError("no early data")
            self.is_early = False
            self.handshake()
        got = LIBRARY.SSL_read(self.object, buffer, count)
        return buffer.raw[:got] if got > 0 else b""

    def sendall(self, data):
        if self.is_early:
            length = ctypes.c_size_t()
            if LIBRARY.SSL_write_early_data(self.object, data, ctypes.c_size_t(len(data)), ctypes.byref(length)) != 1:
                raise OSError("early data is not taken")
            return
        if LIBRARY.SSL_write(self.object, data, len(data)) != len(data):
            raise OSError("not written")

    def close(self):
        LIBRARY.SSL_shutdown(self.object)
        LIBRARY.SSL_free(self.object)
        self.connection.close()

    def __getattr__(self, name):
        return getattr(self.connection, name)


class LibraryEnd(End):
    def __init__(self, connection, client, meet):
        self.meet = meet
        self.context = context(client)
        super().__init__(Library(connection, self.context, client), client)

    def step_tls(self):
        self.connection.handshake()

    def step_again(self):
        """The same object for the next connection."""
        old = self.connection
        LIBRARY.SSL_shutdown(old.object)
        old.connection.close()
        LIBRARY.SSL_clear(old.object)
        old.connection = self.meet()
        LIBRARY.SSL_set_fd(old.object, old.connection.fileno())
        self.buffer = b""

    def step_lend(self):
        """Another holder of the object lets go of it."""
        LIBRARY.SSL_up_ref(self.connection.object)
        LIBRARY.SSL_free(self.connection.object)

    def step_early(self):
        """Another connection, whose handshake is not waited for; the client has a session from the one before."""
        old = self.connection
        session = ctypes.c_void_p(LIBRARY.SSL_get1_session(old.object)) if self.client else None
        old.close()
        self.connection = Library(self.meet(), self.context, self.client)
        self.connection.is_early = True
        if self.client:
            LIBRARY.SSL_set_session(self.connection.object, session)
        self.buffer = b""

    def step_finish(self):
        self.connection.is_early = False
        self.connection.handshake()

    def step_expect_early(self, status="2"):
        if LIBRARY.SSL_get_early_data_status(self.connection.object) != int(status):
            raise OSError("no early data")


def main():
    role, address, *specs = sys.argv[1:]
    failures, threads = [], []
    for spec in specs:
        port, _, script = spec.partition("=")
        there = (address, int(port))
        listener = listen(there) if role == "server" else None

        def meet(listener=listener, there=there):
            met = listener.accept()[0] if listener else socket.create_connection(there)
            met.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return met

        def work(meet=meet, script=script):
            run(LibraryEnd(meet(), role == "client", meet), script, failures)

        threads.append(threading.Thread(target=work))
    ready()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit("\n".join(failures))


main()
