"""`agentmail login outlook` against a local endpoint: the token is kept for the owner alone, and printed nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

REFRESH = "canary-refresh-token"


class Endpoint(BaseHTTPRequestHandler):
    """A device login that a person confirms at the second question."""

    asked = 0

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.path == "/device":
            answer = {"device_code": "d", "user_code": "ABCD-EFGH", "verification_uri": "http://x/", "interval": 0.01}
        else:
            Endpoint.asked += 1
            assert form["device_code"] == ["d"]
            answer = (
                {"error": "authorization_pending"}
                if Endpoint.asked < 2
                else {"access_token": "canary-access", "refresh_token": REFRESH, "expires_in": 3600}
            )
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_device_login_keeps_the_refresh_token(endpoint: str, tmp_path: Path) -> None:
    kept = tmp_path / "tokens.json"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AGENTMAIL_")} | {
        "AGENTMAIL_ADDRESS": "Agent@outlook.com",
        "AGENTMAIL_OAUTH_CLIENT_ID": "client",
        "AGENTMAIL_OAUTH_TOKEN_URL": f"{endpoint}/token",
        "AGENTMAIL_OAUTH_DEVICE_URL": f"{endpoint}/device",
        "AGENTMAIL_TOKEN_FILE": str(kept),
    }
    done = subprocess.run(
        [sys.executable, "-m", "agentmail", "login", "outlook"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ABCD-EFGH" in done.stdout
    assert "canary" not in done.stdout + done.stderr
    assert json.loads(kept.read_text())["agent@outlook.com"]["refresh_token"] == REFRESH
    assert kept.stat().st_mode & 0o777 == 0o600


def test_without_a_client_id_it_says_what_to_set(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AGENTMAIL_")}
    done = subprocess.run(
        [sys.executable, "-m", "agentmail", "login", "outlook", "--address", "agent@outlook.com"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "AGENTMAIL_OAUTH_CLIENT_ID" in done.stderr


def test_an_address_that_is_none_is_no_account(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AGENTMAIL_")}
    done = subprocess.run(
        [sys.executable, "-m", "agentmail", "login", "outlook", "--address", "nonsense"],
        cwd=tmp_path, env=environment | {"AGENTMAIL_OAUTH_CLIENT_ID": "client"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "is not local@domain" in done.stderr
