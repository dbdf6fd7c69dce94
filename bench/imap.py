"""What receiving costs: fetch and parse beside imap_tools; everything up to the store beside mbsync and its like.

    python -m bench.imap fetch  [--messages 2000] [--rtt 0.02] [--floor]  # needs Dovecot; imap_tools comes into .cache/
    python -m bench.imap ingest [--messages 5000]                # and `sh bench/peers.sh sync`

`--floor` in the first is a loop in Python that reads the same answer and looks at nothing but its end.
`floor` in the second is a loop in Python that fetches as we do and writes each message to a file.

Every figure is one process on one server with the same mail; the order changes each round. CPU is this process's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentmail.settings import Account

from .corpus import generate

HANGS = 10
"""Seconds that getmail waits for what does not come."""
CACHE = Path(".cache/bench-imap")
NAIVE = """
import sys, time, email, email.policy, imaplib, json
import imap_tools
how, host, port, user, count = sys.argv[1:6]
began, cpu, number = time.perf_counter(), time.process_time(), 0
with imap_tools.MailBoxUnencrypted(host, int(port)).login(user, "secret") as box:
    if how == "bulk":
        for m in box.fetch(mark_seen=False, bulk=200):
            m.text, m.subject, m.from_, m.attachments; number += 1
    else:
        for uid in box.uids():
            data = box.client.uid("fetch", uid, "(BODY.PEEK[])")[1]
            m = email.message_from_bytes(data[0][1], policy=email.policy.default)
            m["Subject"], m["From"], m["To"], m["Date"], m["Message-ID"], m["References"]
            body = m.get_body(("plain", "html")); body and body.get_content(); number += 1
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"messages": number, "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu,
                  "rss": int(peak) / 1024}))
"""

RECEIVED = """
import sys, time, json, socket
host, port, user, count = sys.argv[1:5]
began, cpu = time.perf_counter(), time.process_time()
with socket.create_connection((host, int(port))) as sock:
    end, buffer = b"", bytearray(65_536)
    view = memoryview(buffer)
    for n, command in enumerate(("", f"LOGIN {user} secret", "EXAMINE INBOX",
                                 "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")):
        if command:
            sock.sendall(f"t{n} {command}\\r\\n".encode())
        while not end.rpartition(b"\\r\\n")[0].rpartition(b"\\r\\n")[2].startswith(b"t%d " % n if n else b"* OK"):
            size = sock.recv_into(view)
            end = end[-2_000:] + bytes(view[max(0, size - 2_000):size])
        end = b""
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"messages": int(count), "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu,
                  "rss": int(peak) / 1024}))
"""


def _peer() -> str:
    """A Python with imap_tools, made once."""
    python = CACHE / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(CACHE / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "imap-tools==1.16.0"], check=True)
    return str(python)


@contextlib.contextmanager
def _dovecot(messages: int) -> Iterator[tuple[Any, str]]:
    """The tests' server, with mail in it."""
    from tests.servers.dovecot import Dovecot

    server = Dovecot()
    server.start()
    try:
        user = server.new_user("bench")
        box = server.directory / "home" / user / "Maildir"
        server.deliver(user, b"Subject: first\r\n\r\nmakes the mailbox\r\n")
        owner = box.stat()
        for n, mail in enumerate(generate(messages - 1, seed=3)):
            path = box / "cur" / f"{1_600_000_000 + n}.M{n}P1.bench:2,"
            path.write_bytes(mail.raw.replace(b"\r\n", b"\n"))
            os.chown(path, owner.st_uid, owner.st_gid)
        warm = (
            "import imaplib, sys; c = imaplib.IMAP4(sys.argv[1], int(sys.argv[2])); c.login(sys.argv[3], 'secret');"
            "c.select(readonly=True); c.uid('fetch', '1:*', '(RFC822.SIZE BODY.PEEK[])')"
        )
        subprocess.run([sys.executable, "-c", warm, server.host, str(server.imap), user], check=True)
        yield server, user
    finally:
        server.stop()


def fetch(messages: int, rtt: float, rounds: int, *, floor: bool) -> None:
    python = _peer()
    with _dovecot(messages) as (server, user):
        account = server.account(user, "plain", timeout=60.0)
        port = str(server.imap)
        proxy = None
        if rtt:
            command = [sys.executable, "-m", "bench.delay", port, str(rtt)]
            proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert proxy.stdout is not None
            port = proxy.stdout.readline().strip()
            account = account.model_copy(update={"imap_host": "127.0.0.1", "imap_port": int(port)})
        here = [sys.executable, "-m", "bench.fetched", str(account.imap_host), port, user]
        peers = {
            "agentmail": here,
            "agentmail, no parsing": [*here, "raw"],
            "imap_tools bulk 200": [python, "-c", NAIVE, "bulk", "127.0.0.1", port, user, "0"],
        }
        if not rtt:  # at 20 ms it takes a minute a run, and proves nothing
            peers["naive loop"] = [python, "-c", NAIVE, "naive", "127.0.0.1", port, user, "0"]
        if floor:
            peers["floor: only receiving"] = [sys.executable, "-c", RECEIVED, "127.0.0.1", port, user, str(messages)]
        results: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
        for turn in range(rounds):
            for name in list(peers)[:: -1 if turn % 2 else 1]:
                done = subprocess.run(peers[name], capture_output=True, text=True, check=True)
                results[name].append(json.loads(done.stdout))
        if proxy is not None:
            proxy.kill()
            proxy.wait()
    for name, runs in results.items():
        rate = statistics.median(r["messages"] / r["seconds"] for r in runs)
        cpu = statistics.median(r["cpu"] / r["messages"] for r in runs) * 1e6
        wall = statistics.median(r["seconds"] / o["seconds"] for r, o in zip(runs, results["agentmail"], strict=True))
        used = statistics.median(r["cpu"] / o["cpu"] for r, o in zip(runs, results["agentmail"], strict=True))
        print(f"{name:22} {rate:8.0f} messages/s {cpu:7.0f} us CPU/message {max(r['rss'] for r in runs):5.0f} MB; "
              f"agentmail is {wall:.2f} x by wall, {used:.2f} x by CPU")  # fmt: skip


def _peers(server: Any, user: str, here: str) -> dict[str, list[str]]:
    """Commands of the tools that are installed (`sh bench/peers.sh sync`), each with its defaults, on the same disk."""
    rc = Path(here, "mbsync.rc")
    rc.write_text(f"IMAPStore far\nHost {server.host}\nPort {server.imap}\nUser {user}\nPass secret\nSSLType None\n\n"
                  f"MaildirStore near\nInbox {here}/m\n\nChannel c\nFar :far:\nNear :near:\nSync Pull\nCreate Near\n"
                  f"SyncState {here}/\n")  # fmt: skip
    Path(here, "offlineimap.rc").write_text(
        f"[general]\naccounts = a\nmetadata = {here}/meta\nui = quiet\n[Account a]\nlocalrepository = l\n"
        f"remoterepository = r\n[Repository l]\ntype = Maildir\nlocalfolders = {here}/o\n[Repository r]\ntype = IMAP\n"
        f"remotehost = {server.host}\nremoteport = {server.imap}\nremoteuser = {user}\nremotepass = secret\nssl = no\n"
        "starttls = no\nauth_mechanisms = PLAIN\nreadonly = True\n"
    )
    for name in ("cur", "new", "tmp"):
        Path(here, "g", name).mkdir(parents=True)
    Path(here, "getmail.rc").write_text(
        f"[retriever]\ntype = SimpleIMAPRetriever\nserver = {server.host}\nport = {server.imap}\nusername = {user}\n"
        f'password = secret\nmailboxes = ("INBOX",)\ntimeout = {HANGS}\n'
        f"[destination]\ntype = Maildir\npath = {here}/g/\n"
        "[options]\nread_all = false\ndelete = false\nverbose = 0\n"
    )
    # It will not run as root, and has its files for itself.
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    commands = {
        "mbsync": ["mbsync", "-c", str(rc), "-q", "c"],
        "offlineimap": ["offlineimap", "-o", "-c", f"{here}/offlineimap.rc"],
        "getmail": [*as_nobody, "getmail", "--getmaildir", here, "--rcfile", f"{here}/getmail.rc"],
    }
    if as_nobody:
        for path in (Path(here), *Path(here).rglob("*")):
            os.chown(path, 65534, 65534)
    return {name: command for name, command in commands.items() if shutil.which(name)}


def _ours(account: Account, here: str) -> tuple[list[str], dict[str, str]]:
    """The whole command, as the others are: start of Python included."""
    settings = {"address": account.address, "password": "secret", "imap_host": account.imap_host,
                "imap_port": account.imap_port, "imap_security": "plain", "smtp_host": account.imap_host,
                "smtp_port": 9, "smtp_security": "plain", "store": f"sqlite:///{here}/s.db"}  # fmt: skip
    env = {f"AGENTMAIL_{name.upper()}": str(value) for name, value in settings.items()}
    return [str(Path(sys.executable).with_name("agentmail")), "sync", "--all", "--json"], env


def _floor(server: Any, user: str, here: str) -> list[str]:
    """What nobody who fetches with Python can leave out: our connection, and a file for each message, no more."""
    Path(here, "cur").mkdir()
    fetched = str(Path(__file__).with_name("fetched.py"))
    return [sys.executable, fetched, server.host, str(server.imap), user, "files"]


def _done(command: list[str], here: str, env: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a tool to its end; and how often it had to be started again.

    getmail forks a child for each message and waits for it by a condition that nobody tells when the child ended before
    the waiting began (getmailcore/baseclasses.py, _wait_for_child): then it waits for its whole time-out, and gives up.
    It goes on where it was when it is started again.
    """
    again = 0
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(".cache/bytecode").resolve()), **env}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # or a checkout would be compiled anew at each start
    while True:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=here, env=env)
        if done.returncode == 0 or "waiting child pid" not in done.stderr + done.stdout or again == 200:
            return done, again
        again += 1


def _found(name: str, here: str, said: str) -> int:
    if name == "agentmail":
        return int(json.loads(said.splitlines()[-1])["messages"])
    return sum(1 for p in Path(here).rglob("*") if p.parent.name in {"cur", "new"})


def ingest(messages: int, rounds: int, only: str) -> None:
    """Fetched, parsed, threaded and stored, beside tools that write what they fetched to a Maildir."""
    runs: dict[str, list[tuple[float, float]]] = {}
    with _dovecot(messages) as (server, user):
        with tempfile.TemporaryDirectory(dir=".cache") as directory:  # compiles
            (program, *_), env = _ours(server.account(user, "plain"), str(Path(directory).resolve()))
            _done([program, "sync", "--json"], directory, env)
        for turn in range(rounds):
            names = [n for n in ("agentmail", "mbsync", "offlineimap", "getmail", "floor") if n in only.split(",")]
            for name in names[:: -1 if turn % 2 else 1]:
                with tempfile.TemporaryDirectory(dir=".cache") as directory:
                    here, env = str(Path(directory).resolve()), dict[str, str]()
                    if name == "agentmail":
                        command, env = _ours(server.account(user, "plain"), here)
                    elif name == "floor":
                        command = _floor(server, user, here)
                    elif (command := _peers(server, user, here).get(name, [])) == []:
                        continue
                    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                    done, again = _done(command, here, env)
                    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
                    if done.returncode:
                        print(f"{name} failed: {(done.stderr or done.stdout).strip()[-200:]}")
                        continue
                    if again:
                        print(f"{name} lost sight of a child of its own {again} times, which cost it {HANGS} s each")
                    found = _found(name, here, done.stdout)
                    assert found >= messages, (name, found)
                    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                    runs.setdefault(name, []).append((took, used))
    for name, figures in runs.items():
        took, used = (statistics.median(f[i] for f in figures) for i in (0, 1))
        ratios = [theirs[0] / ours[0] for theirs, ours in zip(figures, runs.get("agentmail", ()), strict=False)]
        ratio = f"; agentmail is {statistics.median(ratios):.2f} x" if ratios else ""
        print(f"{name:12} {messages / took:7.0f} messages/s {took:6.1f} s {used / messages * 1e6:6.0f} us CPU/message"
              f"{ratio}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fetch", "ingest"])
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rtt", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="agentmail,mbsync,offlineimap,getmail,floor",
                        help="ingest: these, by commas")  # fmt: skip
    parser.add_argument("--floor", action="store_true", help="fetch: also what receiving alone takes")
    given = parser.parse_args()
    if given.what == "fetch":
        fetch(given.messages, given.rtt, given.rounds, floor=given.floor)
    else:
        ingest(given.messages, given.rounds, given.only)


if __name__ == "__main__":
    main()
