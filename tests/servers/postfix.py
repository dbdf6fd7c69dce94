"""A private Postfix that delivers test.local to the tests' Dovecot, and refuses on request."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from agentmail.settings import Account

from .dovecot import Dovecot
from .process import free_port, short_directory, spawn, stop, wait_for_banner

MAIN = """\
compatibility_level = 3.6
queue_directory = {d}/spool
data_directory = {d}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.test.local
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
maillog_file = {d}/mail.log
maillog_file_prefixes = {d}
biff = no
append_dot_mydomain = no
recipient_delimiter = +
message_size_limit = 2000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = test.local
virtual_mailbox_maps = static:any
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
lmtp_destination_recipient_limit = 1
default_transport = error:5.7.1 no delivery outside of the tests
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 5s
smtpd_tls_cert_file = {d}/cert.pem
smtpd_tls_key_file = {d}/key.pem
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_session_cache_database =
smtp_tls_session_cache_database =
lmtp_tls_session_cache_database =
smtpd_sasl_type = dovecot
smtpd_sasl_path = unix:{auth}
smtpd_client_connection_count_limit = 50
smtpd_sender_restrictions = check_sender_access texthash:{d}/sender_access
smtpd_recipient_restrictions = check_recipient_access texthash:{d}/rcpt_access,
  permit_mynetworks, reject_unauth_destination
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
header_checks = regexp:{d}/header_checks
smtpd_error_sleep_time = 0
in_flow_delay = 0
address_verify_map =
"""
MASTER = """\
{smtp} inet n - n - - smtpd
{submission} inet n - n - - smtpd
  -o syslog_name=submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=check_recipient_access,texthash:{d}/rcpt_access,permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
{smtps} inet n - n - - smtpd
  -o syslog_name=smtps
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=check_recipient_access,texthash:{d}/rcpt_access,permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
{slow} inet n - n - - smtpd
  -o syslog_name=slow
  -o smtpd_end_of_data_restrictions=sleep,3
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
RECIPIENTS = """\
temp450@test.local 450 4.2.0 mailbox busy, try later
temp451@test.local 451 4.3.0 local error, try later
full452@test.local 452 4.3.1 insufficient storage
perm550@test.local 550 5.1.1 no such user here
perm554@test.local 554 5.7.1 policy
bye421@test.local 421 4.3.2 shutting down
"""
SENDERS = "badsender@test.local 550 5.7.1 sender refused\ntempsender@test.local 451 4.3.0 sender deferred\n"
HEADERS = (
    "/^Subject:.*REJECT550/ REJECT 5.7.1 content refused after DATA\n"
    "/^Subject:.*DISCARD/ DISCARD silently\n/^Subject:.*HOLD/ HOLD\n"
)


class Postfix:
    """A running Postfix. `smtp` (no login), `submission` (STARTTLS), `smtps` and `slow` (3 s after the dot) are ports.

    Recipients such as `temp450@test.local`, senders such as `badsender@test.local`, and subjects with `REJECT550`,
    `DISCARD` or `HOLD` get what their names say.
    """

    host = "localhost"

    def __init__(self, dovecot: Dovecot) -> None:
        self.dovecot = dovecot
        self.directory = short_directory("postfix")
        self._process: subprocess.Popen[bytes] | None = None
        self.smtp, self.submission, self.smtps, self.slow = (free_port() for _ in range(4))

    @staticmethod
    def available() -> bool:
        return Path("/usr/lib/postfix/sbin/master").exists()

    @staticmethod
    def allowed() -> bool:
        return os.getuid() == 0  # master(8) starts its daemons as the user postfix

    def start(self) -> None:
        d = self.directory
        ports = {"smtp": self.smtp, "submission": self.submission, "smtps": self.smtps, "slow": self.slow}
        for name in ("spool", "data"):
            (d / name).mkdir()
        shutil.chown(d / "data", "postfix")
        for name in ("cert.pem", "key.pem"):
            shutil.copy(self.dovecot.directory / name, d)
        (d / "main.cf").write_text(MAIN.format(d=d, lmtp=self.dovecot.lmtp, auth=self.dovecot.auth_socket))
        (d / "master.cf").write_text(MASTER.format(d=d, **ports))
        (d / "rcpt_access").write_text(RECIPIENTS)
        (d / "sender_access").write_text(SENDERS)
        (d / "header_checks").write_text(HEADERS)
        for path in d.iterdir():  # Postfix waits until its files are 2 s old
            if path.is_file():
                os.utime(path, (time.time() - 60,) * 2)
        spool = d / "spool"  # what `postfix check` would make, which takes 2 s
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace",
                     "private"):  # fmt: skip
            (spool / name).mkdir(0o700)
            shutil.chown(spool / name, "postfix")
        for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            (spool / name).mkdir()
            shutil.chown(spool / name, "postfix", "postdrop")
            (spool / name).chmod(mode)
        (spool / "pid").mkdir()
        self._process = spawn(["/usr/lib/postfix/sbin/master", "-c", str(d), "-d"], d / "out")
        wait_for_banner(self.smtp, b"220", self._process, d / "mail.log")

    def stop(self) -> None:
        stop(self._process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def account(self, address: str, security: str = "tls", **given: Any) -> Account:
        """The Account of a Dovecot user, sending through this Postfix."""
        port = {"tls": self.smtps, "starttls": self.submission, "plain": self.smtp}[security]
        return self.dovecot.account(
            address, **{"smtp_host": self.host, "smtp_port": port, "smtp_security": security, **given}
        )
