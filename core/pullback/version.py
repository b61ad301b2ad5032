"""Version: of this pullback, also where it runs from a folder without being installed, as in ComfyUI."""

VERSION = "0.3.0"
"""The same as pyproject.toml's."""
