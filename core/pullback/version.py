"""The version of Pullback, which must be known even where it runs from a folder without being installed, as in ComfyUI."""

VERSION = "0.4.0"
"""The same as in pyproject.toml."""
