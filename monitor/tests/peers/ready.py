"""How a peer and its test begin together."""

import sys


def ready():
    """Says that this peer may be counted on, and waits until it is told to begin."""
    print("ready", flush=True)
    sys.stdin.readline()
