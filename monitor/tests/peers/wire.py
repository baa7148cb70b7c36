"""A cable between two network namespaces: wire.py DELAY NAMESPACE NAMESPACE [LOST LATE SEED [NAME=NUMBER...]]

Each namespace gets a device `wire`; what enters one comes out of the other DELAY seconds later. Of
100 TCP packets, LOST never do, and LATE take up to three times as long, so that others overtake them.
NAME=NUMBER behind these: of IPv4 packets longer than `cut` come fragments; of 100 packets, `twice` come
twice; with `atomic`, IPv6 packets come as their own only fragments (RFC 6946), with that in a reserved byte.
"""

import ctypes
import fcntl
import heapq
import os
import random
import selectors
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
TCP, FRAGMENT = 6, 44


def device(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN | IFF_NO_PI))
    return tun


def fragments(packet, cut):
    """What a router makes of it on the way to a smaller link (RFC 791 section 3.2)."""
    head, rest = bytearray(packet[:20]), packet[20:]
    step = (cut - 20) // 8 * 8
    for at in range(0, len(rest), step):
        part = rest[at : at + step]
        more = at + step < len(rest)
        struct.pack_into(">HHH", head, 2, 20 + len(part), fragments.number, at // 8 | more << 13)
        struct.pack_into(">H", head, 10, 0)
        total = sum(struct.unpack(">10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into(">H", head, 10, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
        yield bytes(head) + part
    fragments.number = fragments.number % 65535 + 1


fragments.number = 1


def only_fragment(packet, reserved):
    (length,) = struct.unpack_from(">H", packet, 4)
    head = packet[:4] + struct.pack(">HB", length + 8, FRAGMENT) + packet[7:40]
    return head + struct.pack(">BBHI", packet[6], reserved, 0, 1) + packet[40:]


def main():
    delay = float(sys.argv[1])
    here, there = (device(name) for name in sys.argv[2:4])
    lost, late, seed = (float(word) for word in sys.argv[4:7] or "000")
    more = {name: int(number) for name, number in (word.split("=") for word in sys.argv[7:])}
    cut, twice, atomic = (more.get(name, 0) for name in ("cut", "twice", "atomic"))
    chance = random.Random(seed)
    other = {here: there, there: here}
    selector = selectors.DefaultSelector()
    for tun in other:
        selector.register(tun, selectors.EVENT_READ)
    print("ready", flush=True)
    under_way, number = [], 0
    while True:
        wait = max(under_way[0][0] - time.monotonic(), 0) if under_way else None
        for key, _ in selector.select(wait):
            try:
                packet = os.read(key.fd, 70000)
            except OSError:  # the device is not up yet
                continue
            takes = delay
            if packet[9] == TCP and (lost or late):
                if chance.random() * 100 < lost:
                    continue
                if chance.random() * 100 < late:
                    takes *= chance.uniform(1, 3)
            copies = 2 if twice and chance.random() * 100 < twice else 1
            parts = [packet]
            if packet[0] >> 4 == 6 and atomic:
                parts = [only_fragment(packet, atomic)]
            elif packet[0] >> 4 == 4 and 0 < cut < len(packet):
                parts = list(fragments(packet, cut))
            for part in parts * copies:
                number += 1
                heapq.heappush(under_way, (time.monotonic() + takes, number, other[key.fd], part))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, tun, packet = heapq.heappop(under_way)
            try:
                os.write(tun, packet)
            except OSError:
                pass


main()
