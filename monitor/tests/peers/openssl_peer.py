"""The ends of raw.py whose TLS is a program of OpenSSL's: openssl_peer.py server|client ADDRESS PORT=SCRIPT...

What an end sends is typed into `openssl s_server` or `openssl s_client`, and what it receives is what that prints."""

import os
import signal
import subprocess
import sys
import threading
import time

from raw import End, run
from ready import ready

FOLDER = os.environ["CLOSEWATCH_TEST_TLS"]


class Program:
    """A socket's methods, over the pipes of a program."""

    def __init__(self, role, address, port):
        # Without commands in what is typed, and without words of its own in what is printed.
        command = ["openssl", f"s_{role}", "-quiet"]
        if role == "server":
            command += ["-accept", f"{address}:{port}", "-naccept", "1"]
            command += ["-cert", f"{FOLDER}/server.crt", "-key", f"{FOLDER}/server.key"]
        else:
            command += ["-connect", f"{address}:{port}", "-no_ign_eof"]
            command += ["-keylogfile", f"{FOLDER}/keys-{port}", "-CAfile", f"{FOLDER}/authority.crt"]
        pipe = subprocess.PIPE
        self.program = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)

    def setsockopt(self, *_):
        pass

    def recv(self, count):
        return os.read(self.program.stdout.fileno(), count)

    def sendall(self, data):
        while data:
            data = data[self.program.stdin.write(data) :]

    def close(self):
        """A client ends the session with what is typed."""
        self.program.stdin.close()
        try:
            self.program.wait(5)
        except subprocess.TimeoutExpired:
            self.program.send_signal(signal.SIGTERM)
            self.program.wait()


def main():
    role, address, *specs = sys.argv[1:]
    failures, threads = [], []
    for spec in specs:
        port, _, script = spec.partition("=")

        def work(port=port, script=script):
            run(End(Program(role, address, port), role == "client"), script, failures)

        threads.append(threading.Thread(target=work))
    if role == "client":
        ready()
    for thread in threads:
        thread.start()
    if role == "server":
        for spec in specs:
            await_listener(int(spec.partition("=")[0]))
        ready()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit("\n".join(failures))


def await_listener(port):
    while f":{port:04X} 00000000:0000 0A" not in open("/proc/net/tcp").read():
        time.sleep(0.005)


main()
