"""What a client and a server of every implementation do with a plan such as `server/4001/20`.

The plan is the path of the request: who closes, with which code (or `none`), with how many bytes of
reason. The client sends three messages, which the server echoes, and closes; or it sends one, and
the server closes when it comes.
"""

MESSAGES = 3


def parse(path):
    who, code, reason = path.strip("/").split("/")
    return who, None if code == "none" else int(code), "r" * int(reason)
