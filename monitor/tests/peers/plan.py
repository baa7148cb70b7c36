"""What a client and a server of every implementation do with a plan such as `server/4001/20`.

The plan is the path of the request: who closes, with which code (or `none`), with how many bytes of
reason. The client sends three messages, which the server echoes, and closes; or it sends one, and
the server closes when it comes.

A plan may go on: `server/4001/20/2/3/100`. Then the client sends two messages of 100 bytes, says
that it is open, and waits until the test lets it go on; then come three more, and the Close frames.
"""

import asyncio
import os

MESSAGES = 3
ECHO = "echo "


def parse(path):
    who, code, reason = path.strip("/").split("/")[:3]
    return who, None if code == "none" else int(code), "r" * int(reason)


def closes(path, message):
    """Whether the server answers this message with a Close frame instead of an echo."""
    return path.strip("/").startswith("server/") and not message.startswith(ECHO)


def messages(path):
    """What the client sends before it pauses, and after; no pause where the first is None."""
    who, _, _, *more = path.strip("/").split("/")
    last = ["close, please"] if who == "server" else []
    if not more:
        return None, last or [f"message {number}" for number in range(MESSAGES)]
    before, after, size = (int(word) for word in more)
    texts = [(ECHO + f"message {number} ").ljust(size, "m") for number in range(before + after)]
    return texts[:before], texts[before:] + last


def is_told():
    return os.path.exists(os.environ["CLOSEWATCH_TEST_GO_ON"])


async def pause():
    """Says that a connection is open, and waits for the file by which the test lets all go on."""
    print("open", flush=True)
    while not is_told():
        await asyncio.sleep(0.01)
