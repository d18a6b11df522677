"""How much of a server its clients may take."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerLimits:
    """Bytes of an address, of all headers and of a body, numbers of headers and connections; `held` are the bytes of
    all bodies that wait for their answers, None where bodies are not kept.

    A request may take `seconds` to come, and a second more for each `bytes_per_second` of it; a connection may be
    `idle` for so many seconds between two.
    """

    url: int = 16 << 10
    headers: int = 32 << 10
    header_count: int = 100
    body: int = 64 << 10
    connections: int = 512
    held: int | None = 256 << 20
    seconds: float = 15.0
    bytes_per_second: int = 64 << 10
    idle: float = 5.0

    def allowed(self, received: int) -> float:
        """How many seconds a request may take of which so many bytes came."""
        return self.seconds + received / self.bytes_per_second


@dataclass
class Held:
    """Bytes of bodies that a server holds, over all connections."""

    bytes: int = 0
    by_connection: dict[int, int] = field(default_factory=dict)

    def add(self, connection: int, count: int) -> int:
        """Note what came on a connection; what all of them hold."""
        self.by_connection[connection] = self.by_connection.get(connection, 0) + count
        self.bytes += count
        return self.bytes

    def release(self, connection: int) -> None:
        """What came on a connection is answered."""
        self.bytes -= self.by_connection.pop(connection, 0)
