"""A process that has loaded a TLS library and does nothing with it, until the test ends it.

loaded.py [GONE...]: it removes these files once they are loaded.
"""

import os
import ssl
import sys

from ready import ready

assert ssl.OPENSSL_VERSION
for path in sys.argv[1:]:
    os.remove(path)
ready()
sys.stdin.read()
