"""`captionlens serve`: run the HTTP service with its page."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from captionlens.cli import Command
from captionlens.cli.options import device_options, in_one
from captionlens.errors import FileError, MissingExtra, OptionError
from captionlens.server.settings import MIB, Settings, is_loopback

_TOKEN = "CAPTIONLENS_TOKEN"
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_DEFAULT = Settings()


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `_settings` takes, in one argument: `limits`."""
    options = (
        _at_least(1, "--batch-size", _DEFAULT.batch_size, help="Photographs captioned together, at most."),
        _at_least(1, "--queue", _DEFAULT.queue, help="Photographs waiting or worked on; more get 503."),
        _at_least(1, "--max-upload", _DEFAULT.upload_bytes // MIB, metavar="MIB", help="Of one photograph."),
        _at_least(1, "--max-batch-upload", _DEFAULT.batch_upload_bytes // MIB, metavar="MIB", help="Of several."),
        _at_least(1, "--max-uploads", _DEFAULT.uploads_bytes // MIB, metavar="MIB", help="Of all at once."),
        _at_least(1, "--max-pixels", _DEFAULT.pixels, help="Of a photograph."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=_DEFAULT.timeout,
            help="Seconds a request may take.",
        ),
        _at_least(1, "--connections", _DEFAULT.connections, help="Open at once."),
        _at_least(0, "--rate", _DEFAULT.rate, help="POSTs a minute and client; 0: any."),
        click.option("--allow-host", multiple=True, metavar="NAME", help="Served under this name too; * is any."),
        click.option(
            "--allow-origin", multiple=True, metavar="https://SITE", help="Pages of this site may ask (CORS)."
        ),
        click.option("--token-file", type=_FILE, help="Holds the token that clients must know."),
        click.option(
            "--root-path",
            default=_DEFAULT.root_path,
            show_default=False,
            metavar="/PATH",
            help="Where a proxy offers the service.",
        ),
    )
    return in_one(command, "limits", options)


def _at_least(least: int, flag: str, default: int, **how: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(flag, type=click.IntRange(min=least), default=default, **how)


def _settings(limits: dict[str, Any], host: str) -> Settings:
    return Settings(
        batch_size=limits["batch_size"],
        queue=limits["queue"],
        upload_bytes=limits["max_upload"] * MIB,
        batch_upload_bytes=limits["max_batch_upload"] * MIB,
        uploads_bytes=limits["max_uploads"] * MIB,
        pixels=limits["max_pixels"],
        timeout=limits["timeout"],
        connections=limits["connections"],
        rate=limits["rate"],
        # The address to listen on is a name of the service, too; 0.0.0.0, all addresses, is not.
        allow_hosts=(*limits["allow_host"], host),
        allow_origins=limits["allow_origin"],
        token=_token(limits["token_file"]),
        root_path=limits["root_path"],
    )


@click.command(
    cls=Command,
    context_settings={"auto_envvar_prefix": "CAPTIONLENS", "show_default": True},
    epilog=f"Every option can be set in the environment, --port as CAPTIONLENS_PORT. The token is taken from {_TOKEN} "
    "or a file: other users can read a command line.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="0 chooses a free one.")
@click.option("--model", type=_FOLDER, help="A model directory; by default the one in the package.")
@device_options
@_settings_options
@click.option("--proxy", metavar="ADDRESS", help="Whose X-Forwarded-For is believed.")
@click.option(
    "--log", type=click.Choice(["text", "json"]), help="Default: text on a terminal, else json.",
    show_default=False,
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Warnings and errors only.")
def serve(
    host: str,
    port: int,
    model: Path | None,
    computing: dict[str, Any],
    limits: dict[str, Any],
    proxy: str | None,
    log: str | None,
    quiet: bool,
) -> None:
    """Serve the page and the HTTP API, until Ctrl+C or SIGTERM."""
    try:
        from captionlens.server import logs, run
    except ModuleNotFoundError as error:
        raise MissingExtra((error.name or "").partition(".")[0], "serve") from error
    from captionlens.runtime.captioner import load

    settings = _settings(limits, host)
    form: logs.Form = "json" if log == "json" or (log is None and not sys.stderr.isatty()) else "text"
    captioner = load(model, **computing)
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
    click.echo(f"http://{shown}:{listening.getsockname()[1]}{settings.root_path}/")
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
