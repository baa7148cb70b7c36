"""TLS, where the test asks for it: CLOSEWATCH_TEST_TLS names the folder with certificates and keys, and
CLOSEWATCH_TEST_TLS_MAX the newest version, as `1.2`. Clients write their secrets to SSLKEYLOGFILE."""

import os
import ssl

FOLDER = os.environ.get("CLOSEWATCH_TEST_TLS")
MAX = os.environ.get("CLOSEWATCH_TEST_TLS_MAX")


def server():
    if FOLDER is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{FOLDER}/server.crt", f"{FOLDER}/server.key")
    return limited(context)


def client():
    if FOLDER is None:
        return None
    return limited(ssl.create_default_context(cafile=f"{FOLDER}/authority.crt"))


def limited(context):
    if MAX is not None:
        context.maximum_version = getattr(ssl.TLSVersion, f"TLSv{MAX.replace('.', '_')}")
    return context
