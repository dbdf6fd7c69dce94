"""What the real servers of the tests share: ports, certificates, starting, waiting, ending, users to run as."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

PASSWORD = "secret"


def missing(reason: str) -> NoReturn:
    """Skip for want of a server; where nothing may skip, fail."""
    if os.environ.get("AGENTMAIL_TEST_NO_SKIP") == "1":
        pytest.fail(f"{reason} (AGENTMAIL_TEST_NO_SKIP=1)")
    pytest.skip(reason)


MEMORY = Path("/dev/shm")
"""A disk that is none, on Linux. To make a file there and to delete it costs a fifth."""
ROOM = 4 * 2**30
"""Bytes that have to be free there: there may be one server for each core, and containers often have 64 MB."""


def short_directory(name: str, *, in_memory: bool = False) -> Path:
    """A directory with a short path, since a Unix socket's path ends at 107 bytes, that any user may walk into.

    `in_memory`: where it needs no disk, if there is room.
    """
    roomy = in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM
    path = Path(tempfile.mkdtemp(prefix=f"am-{name}-", dir=MEMORY if roomy else "/tmp"))
    path.chmod(0o755)
    return path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    user: pwd.struct_passwd | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server in the foreground, its output in `log`. It ends with us, even when we are killed."""
    words = ["setpriv", "--pdeathsig", "TERM"]
    if user is not None and os.getuid() == 0:
        words += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    with log.open("ab") as out:
        # A session of its own: Ctrl-C in the terminal is for pytest, which then stops the servers in order.
        return subprocess.Popen(
            [*words, "--", *command], cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=None if environment is None else dict(environment), start_new_session=True,
        )  # fmt: skip


def wait_for_banner(
    port: int, expect: bytes, process: subprocess.Popen[bytes], log: Path, *, seconds: float = 15.0
) -> None:
    """Until the server at this port says hello; its log, if it does not."""
    end, last = time.monotonic() + seconds, b""
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as s:
                s.settimeout(2)
                last = s.recv(512)
                if expect in last:
                    return
        except OSError as exc:
            last = str(exc).encode()
        time.sleep(0.01)
    stop(process)
    written = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise RuntimeError(f"port {port} did not say {expect!r} within {seconds} s: {last!r}\n{written}")


def stop(
    process: subprocess.Popen[bytes] | None, how: signal.Signals = signal.SIGTERM, *, seconds: float = 5.0
) -> None:
    """End a server and wait for it; it and all it started by force when it does not go."""
    if process is None:
        return  # it never started
    process.send_signal(how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def unprivileged() -> pwd.struct_passwd:
    """Whom a server runs as: ourselves, or `nobody` when we are root."""
    return pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())


def give(path: Path, user: str) -> None:
    """Make a tree somebody's."""
    for p in (path, *path.rglob("*")):
        shutil.chown(p, user)


def make_certificates(directory: Path) -> None:
    """`ca.pem`, and `cert.pem` with `key.pem` for localhost signed by it."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    d = directory
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *curve, "-days", "30", "-keyout", f"{d}/ca.key", "-out", f"{d}/ca.pem",
        "-subj", "/CN=agentmail test CA", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    openssl("req", *curve, "-keyout", f"{d}/key.pem", "-out", f"{d}/cert.csr", "-subj", "/CN=localhost")
    (d / "cert.ext").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=CA:FALSE\n"
        "extendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n"
    )
    openssl(
        "x509", "-req", "-in", f"{d}/cert.csr", "-CA", f"{d}/ca.pem", "-CAkey", f"{d}/ca.key", "-CAcreateserial",
        "-days", "30", "-out", f"{d}/cert.pem", "-extfile", f"{d}/cert.ext",
    )  # fmt: skip
