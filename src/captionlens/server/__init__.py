"""The HTTP service and its page: `captionlens serve`."""
