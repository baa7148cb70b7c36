"""A cable between two network namespaces: wire.py DELAY NAMESPACE NAMESPACE [LOST LATE SEED]

Each namespace gets a device `wire`; what enters one comes out of the other DELAY seconds later. Of
100 TCP packets, LOST never do, and LATE take up to three times as long, so that others overtake them.
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
TCP = 6


def device(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN | IFF_NO_PI))
    return tun


def main():
    delay = float(sys.argv[1])
    here, there = (device(name) for name in sys.argv[2:4])
    lost, late, seed = (float(word) for word in sys.argv[4:] or "000")
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
            number += 1
            heapq.heappush(under_way, (time.monotonic() + takes, number, other[key.fd], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, tun, packet = heapq.heappop(under_way)
            try:
                os.write(tun, packet)
            except OSError:
                pass


main()
