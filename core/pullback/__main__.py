"""`python -m pullback` is the command line."""

from .cli import main

main()
