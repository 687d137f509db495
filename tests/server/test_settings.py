"""Settings of the service: what they refuse, and how the options of `captionlens serve` become them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captionlens.cli.serve import _settings, serve
from captionlens.errors import OptionError
from captionlens.server.settings import MIB, Settings, is_loopback

HELP_WITHOUT_THE_EXTRA = """
import sys
for name in ("fastapi", "starlette", "pydantic", "prometheus_client", "python_multipart", "uvicorn"):
    sys.modules[name] = None  # as where it is not installed
from captionlens.cli import main
main(["serve", "--help"], standalone_mode=False)
assert not {"numpy", "onnxruntime"} & set(sys.modules)
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CAPTIONLENS_")]:
        monkeypatch.delenv(name)


def settings_of(*flags: str, host: str = "127.0.0.1") -> Settings:
    """The settings that `captionlens serve` makes of flags and environment."""
    return _settings(serve.make_context("serve", list(flags)).params, host)


def test_without_flags_they_are_the_defaults() -> None:
    assert replace(settings_of(), allow_hosts=()) == Settings()
    assert settings_of(host="192.0.2.7").allow_hosts == ("192.0.2.7",)


def test_every_flag_sets_one(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    flags = [
        "--batch-size=1",
        "--queue=2",
        "--max-upload=3",
        "--max-batch-upload=4",
        "--max-uploads=5",
        "--max-pixels=6",
        "--timeout=7.5",
        "--connections=8",
        "--rate=9",
        "--allow-host=a.example",
        "--allow-host=b.example",
        "--allow-origin=https://c.example",
        f"--token-file={tmp_path / 'token'}",
        "--root-path=/d",
    ]
    assert settings_of(*flags) == Settings(
        batch_size=1,
        queue=2,
        upload_bytes=3 * MIB,
        batch_upload_bytes=4 * MIB,
        uploads_bytes=5 * MIB,
        pixels=6,
        timeout=7.5,
        connections=8,
        rate=9,
        allow_hosts=("a.example", "b.example", "127.0.0.1"),
        allow_origins=("https://c.example",),
        token="s3cret",
        root_path="/d",
    )


def test_the_environment_sets_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLENS_MAX_UPLOAD", "3")
    monkeypatch.setenv("CAPTIONLENS_ALLOW_HOST", "a.example b.example")
    monkeypatch.setenv("CAPTIONLENS_TOKEN", "s3cret")
    found = settings_of()
    assert found.upload_bytes == 3 * MIB
    assert found.allow_hosts[:2] == ("a.example", "b.example")
    assert found.token == "s3cret"


def test_help_needs_no_extra() -> None:
    done = subprocess.run([sys.executable, "-c", HELP_WITHOUT_THE_EXTRA], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--max-batch-upload" in done.stdout


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        *(
            ({name: 0}, f"{name} must be at least 1, got 0")
            for name in (
                *("batch_size", "queue", "upload_bytes", "batch_upload_bytes", "uploads_bytes", "pixels"),
                "connections",
            )
        ),
        ({"timeout": 0.0}, "timeout must be above 0"),
        ({"timeout": float("nan")}, "timeout must be above 0"),
        ({"rate": -1}, "rate must be at least 0"),
        ({"token": ""}, "token must be printable ASCII"),
        ({"token": "  "}, "token must be printable ASCII"),
        ({"token": "geheim-ä"}, "token must be printable ASCII"),
        ({"token": "two\nlines"}, "token must be printable ASCII"),
        ({"root_path": "captions"}, "root_path must begin with a slash"),
        ({"root_path": "/captions/"}, "root_path must begin with a slash"),
        ({"allow_origins": ("example.org",)}, "got 'example.org'"),
        ({"allow_origins": ("https://example.org/",)}, "got 'https://example.org/'"),
    ],
)
def test_values_that_make_no_sense(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
        ("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("example.org", False),
    ],
)  # fmt: skip
def test_loopback_addresses(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
