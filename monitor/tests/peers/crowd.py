"""Many ends at a time: crowd.py server|client ADDRESS PORT SEED CONNECTIONS CONCURRENT LEDGER

What connection number N does is a function of SEED and N alone, so both ends know it. What an end
sent is written to LEDGER, a JSON object a line: that is the truth about the connection.
"""

import asyncio
import json
import random
import struct
import sys

from ready import ready

KINDS = ["request"] * 4 + ["ticker"] * 3 + ["burst"] * 2 + ["large"]
CODES = [1000, 1000, 1000, 1001, 1011, 3000, 4999, None]
# How a connection ends, and how often: who closes TCP after the closing handshake, and when. `fin`:
# the first Close frame and a FIN at once. `both`: two Close frames that cross. `none`: no Close frame.
ENDS = {
    "server": 50,
    "client": 10,
    "server late": 8,
    "client late": 8,
    "fin": 12,
    "both": 6,
    "none": 6,
}
LATE = 1.3
BINARY, CLOSE = 2, 8
LARGE = 1_000_000
# The port of client number 0. The others follow, so that no two connections have the same.
CLIENT_PORT = 10_000


def frame(opcode, payload, mask):
    length = len(payload)
    bit = 0x80 if mask else 0
    if length < 126:
        head = bytes([0x80 | opcode, bit | length])
    elif length < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, bit | 126, length)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, bit | 127, length)
    if not mask:
        return head + payload
    key = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + mask + mixed.to_bytes(length, "big")


class Plan:
    """What both ends of a connection do."""

    def __init__(self, seed, number):
        chance = random.Random(f"{seed}/{number}")
        self.chance = chance
        self.number = number
        self.kind = KINDS[number % len(KINDS)]
        self.end = chance.choices(list(ENDS), list(ENDS.values()))[0]
        self.initiator = chance.choice(["client", "server"])
        self.codes = {role: chance.choice(CODES) for role in ("client", "server")}
        self.reasons = {role: chance.randrange(30) for role in ("client", "server")}
        # Of each end: writes, each a list of payload lengths, and the pause between them.
        self.writes = {"client": [], "server": []}
        self.pause = 0
        self.rounds = 0
        if self.kind == "request":
            self.rounds = chance.randrange(5, 30)
        elif self.kind == "ticker":
            self.pause = 0.004
            self.writes["server"] = [
                [chance.randrange(20) for _ in range(chance.randrange(1, 60))] for _ in range(40)
            ]
            self.writes["client"] = [[2]] * 5
        elif self.kind == "burst":
            count = chance.randrange(1000, 3000)
            self.writes[self.initiator] = [[chance.randrange(12) for _ in range(count)]]
        else:
            small = [chance.randrange(200) for _ in range(3)]
            self.writes[chance.choice(["client", "server"])] = [small + [LARGE] + small]

    def count(self, role):
        """Frames before the Close frame."""
        return self.rounds + sum(len(write) for write in self.writes[role])


class End:
    def __init__(self, role, reader, writer):
        self.role = role
        self.reader = reader
        self.writer = writer
        self.buffer = bytearray()
        self.sent = 0
        self.received = 0
        self.code = self.closed = None
        self.close_received = self.at_end = False

    async def head(self):
        while b"\r\n\r\n" not in self.buffer:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError("in a head")
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.parse()
        return head.decode()

    async def more(self):
        """Reads what there is."""
        data = await self.reader.read(1 << 18)
        if not data:
            self.at_end = True
            return
        self.buffer += data
        self.parse()

    def parse(self):
        """Takes the frames that are there whole."""
        buffer = self.buffer
        at, have = 0, len(buffer)
        while have - at >= 2:
            length = buffer[at + 1] & 0x7F
            head = 6 if buffer[at + 1] & 0x80 else 2
            if length == 126:
                head += 2
                if have - at < head:
                    break
                (length,) = struct.unpack_from(">H", buffer, at + 2)
            elif length == 127:
                head += 8
                if have - at < head:
                    break
                (length,) = struct.unpack_from(">Q", buffer, at + 2)
            if have - at < head + length:
                break
            if buffer[at] & 15 == CLOSE:
                self.close_received = True
            else:
                self.received += 1
            at += head + length
        del buffer[:at]

    async def await_frames(self, count):
        while self.received < count and not self.at_end:
            await self.more()

    async def await_close(self):
        while not self.close_received and not self.at_end:
            await self.more()

    async def await_end(self):
        while not self.at_end:
            await self.more()

    def mask(self, chance):
        return chance.randbytes(4) if self.role == "client" else b""

    def frames(self, lengths, chance):
        self.sent += len(lengths)
        return b"".join(
            frame(BINARY, chance.randbytes(length), self.mask(chance)) for length in lengths
        )

    def closing(self, plan, chance):
        self.code, self.closed = plan.codes[self.role], True
        self.sent += 1
        body = b""
        if self.code is not None:
            body = struct.pack(">H", self.code) + b"r" * plan.reasons[self.role]
        return frame(CLOSE, body, self.mask(chance))

    async def write(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def talk(self, plan, chance):
        """Everything before the Close frames; in a burst the first of them goes with the rest."""
        other = "server" if self.role == "client" else "client"
        for number in range(plan.rounds):
            if self.role == "server":
                await self.await_frames(number + 1)
            await self.write(self.frames([chance.randrange(300)], chance))
            if self.role == "client":
                await self.await_frames(number + 1)
        for write in plan.writes[self.role]:
            data = self.frames(write, chance)
            if plan.kind == "burst" and plan.end != "none":
                data += self.closing(plan, chance)
            await self.write(data)
            if plan.end == "fin" and self.closed:
                self.writer.write_eof()
            if plan.pause:
                await asyncio.sleep(plan.pause)
        if not self.closed:
            await self.await_frames(plan.count(other))

    async def close(self, plan, chance):
        initiates = plan.initiator == self.role
        if plan.end == "none":
            if not initiates:
                await self.await_end()
            self.writer.write_eof()
            return
        if not self.closed:
            if not initiates and plan.end != "both":
                await self.await_close()
            await self.write(self.closing(plan, chance))
            if plan.end == "fin" and initiates:
                self.writer.write_eof()
        await self.await_close()
        closes, _, late = plan.end.partition(" ")
        if closes == "both":
            closes = "server"
        if closes != self.role:
            await self.await_end()
        elif late:
            await asyncio.sleep(LATE)
        if not (plan.end == "fin" and initiates):
            self.writer.write_eof()

    async def run(self, plan):
        chance = random.Random(f"{plan.chance.random()}/{self.role}")
        await self.talk(plan, chance)
        await self.close(plan, chance)
        await self.await_end()

    def line(self, plan, problem):
        return {
            "number": plan.number,
            "kind": plan.kind,
            "end": plan.end,
            "role": self.role,
            "initiator": None if plan.end in ("both", "none") else plan.initiator,
            "frames": self.sent,
            "close": bool(self.closed),
            "code": self.code,
            "problem": problem,
        }


class Crowd:
    def __init__(self, role, address, port, seed, connections, concurrent, ledger):
        self.role, self.address, self.port = role, address, int(port)
        self.seed, self.connections = seed, int(connections)
        self.turns = asyncio.Semaphore(int(concurrent))
        self.ledger = open(ledger, "w")
        self.done = asyncio.Event()
        self.count = 0

    async def finish(self, end, plan, port):
        problem = None
        try:
            await end.run(plan)
        except (OSError, EOFError) as error:
            problem = repr(error)
        end.writer.close()
        line = end.line(plan, problem) | {"port": port}
        self.ledger.write(json.dumps(line) + "\n")
        self.count += 1
        if self.count == self.connections:
            self.done.set()

    async def accept(self, reader, writer):
        end = End("server", reader, writer)
        try:
            request = await end.head()
        except (OSError, EOFError):
            return
        number = int(request.split(" ")[1].rpartition("/")[2])
        await end.write(
            b"HTTP/1.1 101 Switching Protocols\r\nServer: crowd/1\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        await self.finish(end, Plan(self.seed, number), writer.get_extra_info("peername")[1])

    async def connect(self, number):
        plan = Plan(self.seed, number)
        async with self.turns:
            reader, writer = await asyncio.open_connection(
                self.address,
                self.port,
                limit=1 << 20,
                local_addr=("0.0.0.0", CLIENT_PORT + number),
            )
            end = End("client", reader, writer)
            request = (
                f"GET /{plan.kind}/{number} HTTP/1.1\r\nHost: crowd.test\r\nUser-Agent: crowd/1\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await end.write(request.encode())
            await end.head()
            await self.finish(end, plan, writer.get_extra_info("sockname")[1])

    async def run(self):
        if self.role == "server":
            server = await asyncio.start_server(
                self.accept, self.address, self.port, limit=1 << 20, backlog=1000
            )
            ready()
            await self.done.wait()
            server.close()
        else:
            ready()
            await asyncio.gather(*(self.connect(number) for number in range(self.connections)))
        self.ledger.close()


asyncio.run(Crowd(*sys.argv[1:]).run())
