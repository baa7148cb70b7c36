"""The ends of raw.py over TLS: secure_raw.py server|client ADDRESS PORT=SCRIPT...

They also know how to renew the keys with which they send (RFC 8446 section 4.6.3)."""

import ctypes
import ctypes.util

import secure
from raw import End, main

SSL_KEY_UPDATE_REQUESTED = 1
# Of CPython's socket object: behind the object's head and the weak reference to its socket is the `SSL *`.
SSL_OFFSET = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)


# At once: it is found by other processes, which would have this one's connections for a moment.
LIBRARY = ctypes.CDLL(ctypes.util.find_library("ssl"))


class SecureEnd(End):
    def __init__(self, connection, client):
        context = secure.client() if client else secure.server()
        name = connection.getpeername()[0] if client else None
        wrapped = context.wrap_socket(connection, server_side=not client, server_hostname=name)
        super().__init__(wrapped, client)

    def step_renew(self):
        """Both ends' keys change with what is sent next."""
        pointer = ctypes.c_void_p.from_address(id(self.connection._sslobj) + SSL_OFFSET)
        if LIBRARY.SSL_key_update(pointer, SSL_KEY_UPDATE_REQUESTED) != 1:
            raise OSError("SSL_key_update failed")


if __name__ == "__main__":
    main(SecureEnd)
