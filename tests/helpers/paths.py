"""Where the checkout and its example photographs lie."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = REPOSITORY / "examples" / "photographs"
