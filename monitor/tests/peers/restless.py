"""Connections that come and go until told to stop: restless.py PORT CLIENTS SEED

Some live for moments and some for seconds, and each kind closes in its own way.
"""

import random
import sys
import threading

from raw import End, hear, heard, listen, run
from ready import ready

HOST = "127.0.0.1"
LIVES = [0.01, 0.02, 0.05, 0.1, 0.3, 1, 2.5, 6]
# What the server and the client of a kind do; P stands for how long this connection lives.
KINDS = [
    ("await-close; close; end", "texts:2; pause:P; texts:1; close; await-close; await-eof; end"),
    ("await-close; close; end", "texts:1; pause:P; close:4000:9; await-close; await-eof; end"),
    ("texts:3; pause:P; close:1001; await-close; end", "await-close; close:1001; await-eof; end"),
    ("await-close; close; pause:1.2; end", "texts:1; pause:P; close; await-close; await-eof; end"),
    ("await-close; close; await-eof; end", "texts:2; pause:P; close:none; await-close; end"),
    ("await-eof; end", "texts:2; pause:P; end"),
    ("await-eof; end", "texts:1; pause:P; reset"),
]


def lived(script, chance):
    return script.replace("P", str(chance.choice(LIVES)))


def serve(listener, script, chance, failures):
    while True:
        connection, _ = listener.accept()
        work = (End(connection, False), "accept; " + lived(script, chance), failures)
        threading.Thread(target=run, args=work, daemon=True).start()


def visit(number, port, chance, failures, counts):
    import socket

    while not heard("stop").is_set():
        kind = chance.randrange(len(KINDS))
        end = End(socket.create_connection((HOST, port + kind)), True)
        run(end, "upgrade; " + lived(KINDS[kind][1], chance), failures)
        counts[number] += 1


def main():
    port, clients, seed = (int(argument) for argument in sys.argv[1:])
    failures, counts = [], [0] * clients
    for kind, (script, _) in enumerate(KINDS):
        work = (listen((HOST, port + kind)), script, random.Random(f"{seed}/{kind}"), failures)
        threading.Thread(target=serve, args=work, daemon=True).start()
    threads = []
    for number in range(clients):
        work = (number, port, random.Random(f"{seed}-{number}"), failures, counts)
        threads.append(threading.Thread(target=visit, args=work))
    ready()
    threading.Thread(target=hear, daemon=True).start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The servers' ends are done when the clients' are, but for one that is slow.
    threading.Event().wait(1.5)
    print("visited", sum(counts), flush=True)
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
