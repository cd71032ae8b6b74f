"""Vision-language instruction data whose answers are grounded in their images."""

__version__ = "0.6.0"
