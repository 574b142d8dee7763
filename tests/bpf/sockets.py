# SPDX-License-Identifier: Apache-2.0
"""Real sockets in every state the agent tells apart."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .wire import CLIENT, FAR_CLIENT, FAR_PORT, MAC_HERE, MAC_THERE, PORT, TCP, UDP_PORT, VIP, Ether, IPv6, tcp

if TYPE_CHECKING:
    from types import TracebackType

    from scapy.packet import Packet

PATIENCE_S = 60  # with what takes milliseconds on an idle machine
_LINGER_RESET = struct.pack("ii", 1, 0)
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_SEND_QUEUE, _OFF_WITHOUT_PROBE = 2, -1


def states(port: int) -> set[tuple[int, str]]:
    """(remote port, state in hexadecimal) of every TCP socket with this local port, as the kernel lists them."""
    rows = [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return {(int(row[2].rsplit(":", 1)[1], 16), row[3]) for row in rows if int(row[1].rsplit(":", 1)[1], 16) == port}


def usable(address: str) -> bool:
    """Can a socket have this address? The kernel makes an address work a moment after it was added."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
            sock.connect((address, 9))
        except OSError:
            return False
    return True


def next_sequence(sock: socket.socket) -> int:
    """The sequence number of what `sock` sends next, from the kernel."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, _SEND_QUEUE)
    sequence = sock.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ) & 0xFFFFFFFF
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _OFF_WITHOUT_PROBE)
    return sequence


class Sockets:
    """Makes sockets, and resets and closes all of them in the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.made: list[socket.socket] = []

    def __enter__(self) -> Sockets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _new(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        made.settimeout(PATIENCE_S)
        self.made.append(made)
        return self._stack.enter_context(made)

    def listener(self, port: int = PORT, backlog: int = 16, address: str = "::") -> socket.socket:
        listening = self._new()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(backlog)
        return listening

    def client(self, port: int = PORT, sport: int = 0) -> socket.socket:
        """A connected client; the connection waits to be accepted."""
        made = self._new()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((CLIENT, sport))
        made.connect((VIP, port))
        return made

    def established(self, port: int = PORT) -> tuple[socket.socket, socket.socket, int]:
        """Listener-made server socket, its client, and the client's port."""
        listening = self.listener(port)
        client = self.client(port)
        server = self._stack.enter_context(listening.accept()[0])
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        return server, client, client.getsockname()[1]

    def half_open(self, port: int = PORT) -> Packet:
        """A listener's answer to a SYN of FAR_CLIENT, who says nothing more: its SYN-ACK."""
        self.listener(port)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD)) as wire:
            wire.bind((FAR_PORT, 0))
            wire.settimeout(PATIENCE_S)
            wire.send(bytes(Ether(dst=MAC_HERE, src=MAC_THERE) / tcp(src=FAR_CLIENT, dport=port)))
            while True:
                seen = Ether(wire.recv(2000))
                if TCP in seen and seen[IPv6].dst == FAR_CLIENT:
                    return seen[IPv6]

    def fin_wait(self, port: int = PORT) -> tuple[int, int]:
        """The server has ended its side, the client has not. Its port, the sequence number expected of it."""
        server, client, sport = self.established(port)
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        wait_for(lambda: (sport, "05") in states(port))
        return sport, next_sequence(client)

    def time_wait(self, port: int = PORT) -> tuple[int, int]:
        """Leave the server's side of a connection in TIME_WAIT: as above. The listener goes on."""
        server, client, sport = self.established(port)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        server.close()
        assert client.recv(1) == b""
        expected = (next_sequence(client) + 1) % 2**32  # after its FIN
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        client.close()
        wait_for(lambda: (sport, "06") in states(port))
        return sport, expected

    def datagram(self, port: int = UDP_PORT) -> socket.socket:
        made = self._stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        made.bind(("::", port))
        return made


def wait_for(condition: object, seconds: float = PATIENCE_S) -> None:
    """Wait until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, condition
        time.sleep(0.01)
