"""gRPC: grpc_peer.py server PORT
         grpc_peer.py client PORT CONNECTIONS TURNS SEED, as steady.py"""

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from ready import ready

SERVICE = "closewatch.Test"
# By themselves, channels to one address share a connection.
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


def serve(port):
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
        "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    if server.add_insecure_port(f"127.0.0.1:{port}") == 0:
        sys.exit(f"port {port} is taken")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


class Client:
    def __init__(self, port, chance):
        self.chance = chance
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS)
        self.echo = self.channel.unary_unary(f"/{SERVICE}/Echo")
        self.chat = self.channel.stream_stream(f"/{SERVICE}/Chat")

    def body(self):
        return self.chance.randbytes(self.chance.choice([0, 1, 5, 100, 3000, 100_000]))

    def turn(self):
        if self.chance.random() < 0.5:
            self.echo(self.body(), timeout=30)
        else:
            for _ in self.chat(iter([self.body() for _ in range(5)]), timeout=30):
                pass


def run(port, connections, turns, seed):
    ready()
    clients = [Client(port, random.Random(f"{seed}/grpc/{n}")) for n in range(connections)]
    for client in clients:
        client.turn()
    print("open", flush=True)
    sys.stdin.readline()
    for _ in range(turns):
        for client in clients:
            client.turn()
        print("turn", flush=True)
    sys.stdin.readline()
    for client in clients:
        client.channel.close()


def main():
    role, port, *more = sys.argv[1:]
    if role == "server":
        serve(port)
    else:
        connections, turns, seed = more
        run(port, int(connections), int(turns), seed)


main()
