"""Scripts, styles and markup shared by the HTML report, the page of `captionlens serve` and the page in `browser/`."""
