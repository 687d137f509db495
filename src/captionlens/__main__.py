"""`python -m captionlens` is the `captionlens` command."""

from captionlens.cli import main

main()
