"""`python -m agentmail` is the `agentmail` command."""

from .cli import main

main()
