"""What the HTML report, the page of `captionlens serve` and the page in browser/ share: scripts, style and markup."""
