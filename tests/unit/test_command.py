"""The command as a whole."""

from __future__ import annotations

from importlib.metadata import version

from typer.testing import CliRunner

from agentmail.cli import app


def test_it_tells_its_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"agentmail {version('agentmail-inbox')}\n")
