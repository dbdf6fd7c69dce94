"""A private Dovecot: IMAP, STARTTLS, IMAPS and LMTP, from a directory of its own, with users made on the fly."""

from __future__ import annotations

import grp
import os
import re
import shutil
import smtplib
import subprocess
import time
from itertools import count
from pathlib import Path
from typing import Any

from agentmail.settings import Account

from .process import (
    PASSWORD,
    free_port,
    give,
    make_certificates,
    short_directory,
    spawn,
    stop,
    unprivileged,
    wait_for_banner,
)

CONFIGURATION = """\
base_dir = {d}/run
state_dir = {d}/state
log_path = {d}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
default_internal_user = {user}
default_login_user = {user}
default_internal_group = {group}
ssl = yes
ssl_cert = <{d}/cert.pem
ssl_key = <{d}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
# A file for each user: one file for all is read again once a second at most, too late for a user just made.
passdb {{
  driver = passwd-file
  args = username_format=%Lu {d}/users/%Lu
}}
userdb {{
  driver = passwd-file
  args = username_format=%Lu {d}/users/%Lu
  default_fields = uid={uid} gid={gid} home={d}/home/%Lu
}}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/Maildir
mail_plugins = quota
plugin {{
  quota = count:User quota
  quota_rule = *:storage=1G
  quota_vsizes = yes
}}
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
  mailbox Sent {{
    auto = create
    special_use = \\Sent
  }}
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
  mailbox Junk {{
    auto = create
    special_use = \\Junk
  }}
  mailbox Archive {{
    auto = create
    special_use = \\Archive
  }}
}}
protocol imap {{
  mail_max_userip_connections = 100
  imap_max_line_length = 64k
{imap}
}}
protocol lmtp {{
  postmaster_address = postmaster@test.local
  auth_username_format = %Lu
}}
recipient_delimiter = +
lda_mailbox_autocreate = yes
service imap-login {{
  chroot =
  process_min_avail = 1
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {imaps_port}
    ssl = yes
  }}
}}
# Dovecot makes every login wait after some bad ones, good logins too, for up to 15 s.
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp_port}
  }}
}}
service auth {{
  unix_listener {d}/auth.sock {{
    mode = 0666
  }}
}}
"""


class Dovecot:
    """A running Dovecot. `imap`, `imaps` and `lmtp` are ports; every user's password is `secret`."""

    host = "localhost"

    def __init__(self, *, prefix: str = "", separator: str = "/", imap_settings: str = "") -> None:
        self.directory = short_directory("dovecot")
        self.imap, self.imaps, self.lmtp = free_port(), free_port(), free_port()
        self.ca = self.directory / "ca.pem"
        self.auth_socket = self.directory / "auth.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix, self._separator, self._imap_settings = prefix, separator, imap_settings
        self._names = count(1)

    @staticmethod
    def available() -> bool:
        return all(Path(p).exists() for p in ("/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp"))

    def start(self) -> None:
        d, user = self.directory, unprivileged()
        for name in ("state", "home", "users"):
            (d / name).mkdir()
        make_certificates(d)
        (d / "dovecot.conf").write_text(
            CONFIGURATION.format(
                d=d, user=user.pw_name, group=grp.getgrgid(user.pw_gid).gr_name, uid=user.pw_uid, gid=user.pw_gid,
                separator=self._separator, prefix=self._prefix, imap=self._imap_settings,
                imap_port=self.imap, imaps_port=self.imaps, lmtp_port=self.lmtp,
            )
        )  # fmt: skip
        if os.getuid() == 0:
            give(d / "home", user.pw_name)
        self.run()

    def run(self) -> None:
        """Start the daemons; after `halt`, start them again with the same mail."""
        d = self.directory
        shutil.rmtree(d / "run", ignore_errors=True)  # stale sockets there cost a 5 s retry
        (d / "run").mkdir()
        self._process = spawn(["/usr/sbin/dovecot", "-F", "-c", str(d / "dovecot.conf")], d / "out")
        wait_for_banner(self.imap, b"* OK", self._process, d / "dovecot.log")
        wait_for_banner(self.lmtp, b"220", self._process, d / "dovecot.log")

    def halt(self) -> None:
        """Stop the daemons; the mail stays."""
        stop(self._process)

    def stop(self) -> None:
        """The end: nothing runs, nothing is left on disk."""
        stop(self._process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def new_user(self, name: str = "user", password: str = PASSWORD) -> str:
        """Make a user; its address."""
        address = f"{name}{next(self._names)}@test.local"
        (self.directory / "users" / address).write_text(f"{address}:{{PLAIN}}{password}::::::\n")
        return address

    def account(self, address: str, security: str = "tls", **given: Any) -> Account:
        """The Account for IMAP; SMTP leads nowhere unless it is given."""
        port = self.imaps if security == "tls" else self.imap
        return Account(
            **{
                "address": address, "password": PASSWORD, "ca_file": self.ca, "timeout": 10.0,
                "imap_host": self.host, "imap_port": port, "imap_security": security,
                "smtp_host": self.host, "smtp_port": 9, "smtp_security": "starttls", **given,
            }
        )  # fmt: skip

    def deliver(self, address: str, *raws: bytes, sender: str = "somebody@example.org") -> None:
        """Hand messages to LMTP, as a mail server would."""
        with smtplib.LMTP("127.0.0.1", self.lmtp) as lmtp:
            for raw in raws:
                lmtp.sendmail(sender, [address], raw)

    def doveadm(self, *words: str) -> str:
        """Run doveadm, for what a client cannot do: `doveadm("kick", user)`, `doveadm("mailbox", "update", …)`."""
        command = ["/usr/bin/doveadm", "-c", str(self.directory / "dovecot.conf"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def messages(self, address: str, mailbox: str = "INBOX") -> list[bytes]:
        """What Dovecot stores, oldest first, lines ended by CRLF, read past IMAP."""
        home = self.directory / "home" / address / "Maildir"
        box = home if mailbox == "INBOX" else home / f".{mailbox}"
        files = [p for name in ("cur", "new") for p in (box / name).glob("*")]

        def arrival(path: Path) -> tuple[int, int, str]:
            seconds, _, rest = path.name.partition(".")  # 1700000000.M123456P42.host
            micros = re.match(r"M(\d+)", rest)
            return int(seconds), int(micros[1]) if micros else 0, path.name

        # Maildir keeps lines as Unix does; IMAP and SMTP know CRLF only (RFC 3501 2.6).
        return [p.read_bytes().replace(b"\n", b"\r\n") for p in sorted(files, key=arrival)]

    def wait_for(self, address: str, number: int = 1, mailbox: str = "INBOX", *, seconds: float = 10.0) -> list[bytes]:
        """The messages, as soon as there are `number` of them: a mail server in front answers before it delivers."""
        end = time.monotonic() + seconds
        while len(found := self.messages(address, mailbox)) < number:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(found)} of {number} messages in {mailbox} of {address} after {seconds} s")
            time.sleep(0.01)
        return found
