"""Entry point of `python -m captionlens`, the same as the `captionlens` command."""

from captionlens.cli import main

main()
