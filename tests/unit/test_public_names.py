"""`import agentmail` is cheap, and gives what it promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import agentmail


def test_every_public_name_is_there() -> None:
    for name in agentmail.__all__:
        assert getattr(agentmail, name).__name__.rpartition(".")[2] == name
    assert dir(agentmail) == sorted(agentmail.__all__)


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'inboks'"):
        agentmail.inboks


def test_reading_one_message_does_not_load_the_database_library() -> None:
    code = "import sys, agentmail; agentmail.parse(b''); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "agentmail.message.parse" in loaded
    assert not {"sqlalchemy", "sqlmodel", "aiosmtplib", "imapclient", "typer"} & set(loaded)
