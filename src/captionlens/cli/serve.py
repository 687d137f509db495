"""`captionlens serve`: run the HTTP service with its page."""

import os
import sys
from pathlib import Path

import click

from captionlens.cli.options import device_options
from captionlens.errors import FileError, MissingExtra, OptionError

_TOKEN = "CAPTIONLENS_TOKEN"
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    context_settings={"auto_envvar_prefix": "CAPTIONLENS", "show_default": True},
    epilog=f"Every option can be set in the environment, --port as CAPTIONLENS_PORT. The token is taken from {_TOKEN} "
    "or a file: other users can read a command line.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="0 chooses a free one.")
@click.option("--model", type=_FOLDER, help="A model directory; by default the one in the package.")
@device_options
@click.option("--batch-size", type=click.IntRange(min=1), default=8, help="Largest number of photographs per batch.")
@click.option("--queue", type=click.IntRange(min=1), default=64, help="Photographs waiting or in work; more get 503.")
@click.option("--max-upload", type=click.IntRange(min=1), default=20, metavar="MIB", help="One photograph.")
@click.option("--max-batch-upload", type=click.IntRange(min=1), default=100, metavar="MIB", help="Several photographs.")
@click.option("--max-uploads", type=click.IntRange(min=1), default=400, metavar="MIB", help="All uploads together.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=50_000_000, help="Of one photograph.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, help="Seconds a request may take."
)
@click.option("--connections", type=click.IntRange(min=1), default=512, help="Largest number of open connections.")
@click.option("--rate", type=click.IntRange(min=0), default=0, help="POSTs per minute and client; 0: no limit.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another valid host name; * is any.")
@click.option("--allow-origin", multiple=True, metavar="https://SITE", help="Accept this site's requests (CORS).")
@click.option("--token-file", type=_FILE, help="A file with the token that clients must send.")
@click.option("--root-path", default="", show_default=False, metavar="/PATH", help="The service's path behind a proxy.")
@click.option("--proxy", metavar="ADDRESS", help="The proxy whose X-Forwarded-For is trusted.")
@click.option(
    "--log", type=click.Choice(["text", "json"]), help="Default: text on a terminal, else json.",
    show_default=False,
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Warnings and errors only.")
def serve(
    host: str,
    port: int,
    model: Path | None,
    threads: int,
    device: str,
    batch_size: int,
    queue: int,
    max_upload: int,
    max_batch_upload: int,
    max_uploads: int,
    max_pixels: int,
    timeout: float,
    connections: int,
    rate: int,
    allow_host: tuple[str, ...],
    allow_origin: tuple[str, ...],
    token_file: Path | None,
    root_path: str,
    proxy: str | None,
    log: str | None,
    quiet: bool,
) -> None:
    """Serve the page and the HTTP API, until Ctrl+C or SIGTERM."""
    try:
        from captionlens.server import logs, run
        from captionlens.server.settings import MIB, Settings, is_loopback
    except ModuleNotFoundError as error:
        raise MissingExtra((error.name or "").partition(".")[0], "serve") from error
    from captionlens.runtime.captioner import load

    settings = Settings(
        batch_size=batch_size,
        queue=queue,
        upload_bytes=max_upload * MIB,
        batch_upload_bytes=max_batch_upload * MIB,
        uploads_bytes=max_uploads * MIB,
        pixels=max_pixels,
        timeout=timeout,
        connections=connections,
        rate=rate,
        # The address it listens on is a valid host name, too, unless it stands for all addresses.
        allow_hosts=(*allow_host, host),
        allow_origins=allow_origin,
        token=_token(token_file),
        root_path=root_path,
    )
    form: logs.Form = "json" if log == "json" or (log is None and not sys.stderr.isatty()) else "text"
    captioner = load(model, threads=threads, device=device)
    try:
        listening = run.listen(host, port)
    except OSError as error:
        raise OptionError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    logs.set_up(form, quiet=quiet)
    if not quiet and not is_loopback(host) and settings.token is None:
        click.echo(
            "captionlens: everybody who reaches this address may use it (CAPTIONLENS_TOKEN asks for a token)", err=True
        )
    run.end_well_on_signals()
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"http://{shown}:{listening.getsockname()[1]}{root_path}/")
    run.serve(captioner, settings, listening, proxy=proxy)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(_TOKEN)
    try:
        return file.read_text("ascii").strip()
    except UnicodeDecodeError as error:
        raise FileError(file, "is not ASCII") from error
    except OSError as error:
        raise FileError(file, error.strerror or str(error)) from error
