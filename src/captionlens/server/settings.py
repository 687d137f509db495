"""Settings of the service. The defaults suit one person on one machine."""

import ipaddress
from dataclasses import dataclass

from captionlens.errors import OptionError

MIB = 2**20
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
MOST_BEAM = 10
MOST_WORDS = 50
MOST_ALTERNATIVES = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and access rules of the service.

    Args:
        batch_size: most photographs in a batch.
        queue: most photographs that wait or are worked on; one more is refused with 503.
        upload_bytes: most bytes of a request with one photograph.
        batch_upload_bytes: most bytes of a request with several.
        uploads_bytes: most bytes of all requests in progress together.
        pixels: most pixels of a photograph.
        timeout: seconds a request may take, upload and waiting included.
        connections: most connections open at once.
        rate: POST requests a minute from one client; 0 is without limit.
        allow_hosts: host names that requests may name, besides those of the loopback interface; `*` is any.
        allow_origins: sites whose pages may send requests, each like `https://example.org`.
        token: bearer token that clients must send; None: no token is needed.
        root_path: path below which a proxy offers the service, like `/captions`.

    Raises:
        OptionError: a value makes no sense; the message names it.
    """

    batch_size: int = 8
    queue: int = 64
    upload_bytes: int = 20 * MIB
    batch_upload_bytes: int = 100 * MIB
    uploads_bytes: int = 400 * MIB
    pixels: int = 50_000_000
    timeout: float = 30.0
    connections: int = 512
    rate: int = 0
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    token: str | None = None
    root_path: str = ""

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "queue",
            "upload_bytes",
            "batch_upload_bytes",
            "uploads_bytes",
            "pixels",
            "connections",
        ):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.timeout > 0:
            raise OptionError(f"timeout must be above 0 seconds, got {self.timeout}")
        if self.rate < 0:
            raise OptionError(f"rate must be at least 0, got {self.rate}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise OptionError("token must be printable ASCII, and not empty")
        if self.root_path and not (self.root_path.startswith("/") and not self.root_path.endswith("/")):
            raise OptionError(f"root_path must begin with a slash and not end with one, got {self.root_path!r}")
        for origin in self.allow_origins:
            if "://" not in origin or origin.endswith("/"):
                raise OptionError(f"an origin is like https://example.org, got {origin!r}")

    @property
    def batch_photographs(self) -> int:
        """Most photographs in one request: as many as the queue has places."""
        return self.queue


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
