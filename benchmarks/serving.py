"""How fast `captionlens serve` captions over the loopback interface, and what it does when it is asked too much.

- Throughput: 16 clients, each sending its next photograph (224 pixels) when it has the caption of the one before, by
  turns with `Captioner.caption_many` over the same photographs. `ratio` compares photographs a second.
- Overload: photographs come at `--factor` times the throughput of the clients, whether the ones before are answered or
  not, for `--seconds`. Told are the answers by status, the time to an answer, the memory of the service after a tenth
  of the time and at the end, and the time `/healthz` takes meanwhile.

The clients run in this process and on the same cores as the service.

    python benchmarks/serving.py
"""

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common import (
    add_photographs,
    fail,
    finish,
    machine,
    memory_mib,
    per_second,
    percentile,
    positive,
    resized,
    seconds,
    table,
)

import captionlens

_STATUS = re.compile(rb"HTTP/1.1 (\d{3})")
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def main() -> None:
    parser = argparse.ArgumentParser(description="captionlens serve under load.")
    add_photographs(parser)
    parser.add_argument("--count", type=positive, default=320, help="photographs a measurement (default: 320)")
    parser.add_argument("--clients", type=positive, default=16)
    parser.add_argument("--repeats", type=positive, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--queue", type=positive, default=64, help="of the service (default: 64)")
    parser.add_argument("--batch-size", type=positive, default=8, help="of the service (default: 8)")
    parser.add_argument("--factor", type=float, default=4.0, help="overload, in times of the throughput (default: 4)")
    parser.add_argument("--seconds", type=positive, default=60, help="of overload (default: 60)")
    options = parser.parse_args()

    found = sorted(options.photographs.glob("*.jpg"))
    if not found:
        fail(f"--photographs {options.photographs}: has no .jpg files")
    with tempfile.TemporaryDirectory() as scratch:
        files = resized(found, (224, 224), options.count, Path(scratch) / "224")
        bodies = [file.read_bytes() for file in files]
        captioner = captionlens.load()
        with service(options) as (process, port):
            served, folder = [], []
            asyncio.run(closed_loop(port, bodies, options.clients))  # warm up
            for _ in range(options.repeats):
                served += seconds(lambda: asyncio.run(closed_loop(port, bodies, options.clients)), 1, warm_up=0)
                folder += seconds(lambda: list(captioner.caption_many(files)), 1, warm_up=0)
            through = per_second("photographs", len(files), served)
            beside = per_second("photographs", len(files), folder)
            rate = options.factor * through["photographs_per_second"]
            overload = asyncio.run(open_loop(process.pid, port, bodies, rate, options.seconds))
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)

    ratio = through["photographs_per_second"] / beside["photographs_per_second"]
    waited = overload.taken[200]
    print(
        f"{options.clients} clients {through['photographs_per_second']:.1f}, folder "
        f"{beside['photographs_per_second']:.1f} photographs/s: {ratio:.0%}"
    )
    rows = [
        [f"{status}", len(times), percentile(times, 50), percentile(times, 99), max(times) * 1000]
        for status, times in sorted(overload.taken.items())
    ]
    rows.append(["/healthz", len(overload.health), percentile(overload.health, 50), percentile(overload.health, 99),
                 max(overload.health) * 1000])  # fmt: skip
    print(f"overload, {rate:.0f} photographs/s for {options.seconds} s, queue of {options.queue}:")
    print(table(["answer", "count", "p50 ms", "p99 ms", "most ms"], rows))
    print(f"memory after a tenth {overload.memory[0]:.0f} MiB, at the end {overload.memory[-1]:.0f} MiB")
    finish(
        {
            "benchmark": "serving",
            "machine": machine(),
            "clients": options.clients,
            "batch_size": options.batch_size,
            "queue": options.queue,
            "served": through,
            "folder": beside,
            "ratio": ratio,
            "overload": {
                "photographs_per_second": rate,
                "answers": {str(status): len(times) for status, times in overload.taken.items()},
                "captions_per_second": len(waited) / options.seconds,
                "caption_p50_ms": percentile(waited, 50),
                "caption_p99_ms": percentile(waited, 99),
                "queue_s": options.queue / through["photographs_per_second"],
                "health_p99_ms": percentile(overload.health, 99),
                "memory_mib": overload.memory,
                "without_retry_after": overload.without_retry_after,
                "broken": overload.broken,
            },
            "exit_code": code,
        }
    )


@contextmanager
def service(options: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service as a process of its own, and its port."""
    command = [sys.executable, "-m", "captionlens", "serve", "--port", "0", "--quiet"]
    command += ["--queue", str(options.queue), "--batch-size", str(options.batch_size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        fail("captionlens serve did not start")
    try:
        yield process, int(line.rstrip().rstrip("/").rpartition(":")[2])
    finally:
        process.kill()
        process.wait()


@dataclass
class Connection:
    """HTTP/1.1 over a connection that is kept, no more of it than these measurements need."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and head of the answer, whose body is read and thrown away."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, length = _STATUS.match(head), _LENGTH.search(head)
        assert status is not None and length is not None
        await self.reader.readexactly(int(length[1]))
        return int(status[1]), head

    def close(self) -> None:
        self.writer.close()


def post(body: bytes) -> bytes:
    head = "POST /v1/caption HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def closed_loop(port: int, bodies: Sequence[bytes], clients: int) -> None:
    """All photographs once, by clients that each wait for an answer before they ask again."""
    requests = iter([post(body) for body in bodies])

    async def client() -> None:
        connection = await Connection.open(port)
        for request in requests:
            status, _ = await connection.ask(request)
            if status != 200:
                fail(f"the service answered {status}")
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))


@dataclass
class Overload:
    """What was measured: seconds to an answer by status, of the service's health, and its memory in MiB."""

    taken: dict[int, list[float]] = field(default_factory=dict)
    health: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    broken: Counter[str] = field(default_factory=Counter)


async def open_loop(process: int, port: int, bodies: Sequence[bytes], rate: float, duration: float) -> Overload:
    """Photographs at a steady pace, whatever the answers; a connection that is free is taken, or a new one."""
    told = Overload()
    free: list[Connection] = []
    requests = [post(body) for body in bodies]
    began = time.perf_counter()

    async def send(request: bytes) -> None:
        sent = time.perf_counter()
        try:
            connection = free.pop() if free else await Connection.open(port)
            status, head = await connection.ask(request)
        except (OSError, asyncio.IncompleteReadError) as error:
            told.broken[type(error).__name__] += 1
            return
        told.taken.setdefault(status, []).append(time.perf_counter() - sent)
        told.without_retry_after += status == 503 and b"retry-after:" not in head.lower()
        if b"connection: close" in head.lower():
            connection.close()
        else:
            free.append(connection)

    async def watch_health() -> None:
        connection = await Connection.open(port)
        while True:
            asked = time.perf_counter()
            await connection.ask(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            told.health.append(time.perf_counter() - asked)
            await asyncio.sleep(0.05)

    async def watch_memory() -> None:
        await asyncio.sleep(duration / 10)
        while True:
            told.memory.append(memory_mib(process))
            await asyncio.sleep(duration / 10)

    watchers = [asyncio.create_task(watch_health()), asyncio.create_task(watch_memory())]
    sending = set()
    for number in range(int(rate * duration)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        task = asyncio.create_task(send(requests[number % len(requests)]))
        sending.add(task)
        task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)
    for watcher in watchers:
        watcher.cancel()
    told.memory.append(memory_mib(process))
    for connection in free:
        connection.close()
    return told


if __name__ == "__main__":
    main()
