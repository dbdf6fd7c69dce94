"""Settings as frozen values, and the only code that reads the environment, `.env` and `agentmail.toml`.

The surfaces (cli, mcp_server, console, `Inbox.from_env`) build them once and pass them down.
Precedence: argument > environment `AGENTMAIL_*` > `.env` > `agentmail.toml` > default.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import inspect
import ipaddress
import os
from collections.abc import Awaitable, Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from .errors import AgentMailError, AuthenticationFailed, ConfigurationError, Unreachable
from .message.domains import address_key
from .urls import without_password

Security = Literal["tls", "starttls", "plain"]
Token = Callable[[], str | Awaitable[str]]


class Preset(NamedTuple):
    """Where a provider's servers are (facts of their public documentation, 2026)."""

    imap: tuple[str, int, Security]
    smtp: tuple[str, int, Security]
    domains: tuple[str, ...]
    files_sent: bool
    """The provider files a copy in the Sent mailbox by itself; a second APPEND would show twice."""
    note: str


def _national(name: str, endings: str) -> tuple[str, ...]:
    return tuple(f"{name}.{ending}" for ending in endings.split())


PRESETS: dict[str, Preset] = {
    "gmail": Preset(("imap.gmail.com", 993, "tls"), ("smtp.gmail.com", 465, "tls"),
                    ("gmail.com", "googlemail.com"), True, "app password (needs 2-step verification) or OAuth2"),
    "outlook": Preset(("outlook.office365.com", 993, "tls"), ("smtp.office365.com", 587, "starttls"),
                      ("outlook.com", "hotmail.com", "live.com", "msn.com", "office365.com",
                       *_national("outlook", "at be cl co.th co.id com.ar com.au com.br com.gr cz de dk es fr hu ie in "
                                  "it jp kr lv my ph pt sa sg sk"),
                       *_national("hotmail", "be ca cl co.jp co.kr co.nz co.th co.uk com.ar com.au com.br de dk es fi "
                                  "fr gr it nl no se"),
                       *_national("live", "at be ca cl cn co.uk co.za com.ar com.au com.mx com.pt de dk fi fr hk ie in "
                                  "it jp nl no se")), True,
                      "OAuth2 only: `agentmail login outlook`"),
    "fastmail": Preset(("imap.fastmail.com", 993, "tls"), ("smtp.fastmail.com", 465, "tls"),
                       ("fastmail.com", "fastmail.fm", "fastmail.net", "fastmail.org", "fastmail.to"), False,
                       "app password"),
    "icloud": Preset(("imap.mail.me.com", 993, "tls"), ("smtp.mail.me.com", 587, "starttls"),
                     ("icloud.com", "me.com", "mac.com"), False, "app-specific password"),
    "yahoo": Preset(("imap.mail.yahoo.com", 993, "tls"), ("smtp.mail.yahoo.com", 465, "tls"),
                    ("yahoo.com", "ymail.com", "rocketmail.com", "myyahoo.com",
                     *_national("yahoo", "at be ca co.id co.in co.nz co.th co.uk co.za com.ar com.au com.br com.co "
                                "com.hk com.mx com.my com.ph com.sg com.tr com.tw com.vn de dk es fi fr gr ie in it nl "
                                "no pl ro se")), True, "app password"),
}  # fmt: skip


_ALSO = {
    "imap.gmail.com": ("imap.googlemail.com",),
    "smtp.gmail.com": ("smtp.googlemail.com",),
    "outlook.office365.com": ("imap-mail.outlook.com", "outlook.office.com"),
    "smtp.office365.com": ("smtp-mail.outlook.com", "smtp.office.com"),
}
TOKEN_TIMEOUT = 30.0
"""Seconds that `token=` has at least."""


def _names(host: str) -> tuple[str, ...]:
    """A provider's host, and its other names."""
    return (host, *_ALSO.get(host, ()))


def is_loopback(host: str) -> bool:
    """Whether a password may go to this host without TLS: it never leaves the machine."""
    if host in {"localhost", "localhost.localdomain"}:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Account(BaseModel):
    """One mail account: an address, its IMAP and SMTP servers, and the credentials for both.

    `Account(address="me@gmail.com", password="…")` finds the servers of the providers it knows; any other needs
    `imap_host` and `smtp_host`. `password` never prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    address: str
    """The address agents write from."""
    name: str = ""
    """The name that stands beside it in From."""
    aliases: tuple[str, ...] = ()
    """Further addresses of the same mailbox: removed from reply-all, and counted as ourselves."""
    username: str = ""
    """For both servers; the address when empty."""
    password: SecretStr | None = None
    token: Token | None = Field(default=None, exclude=True, repr=False)
    """Returns a fresh OAuth2 access token; takes the place of the password."""
    provider: str = ""
    """A preset (gmail, outlook, fastmail, icloud, yahoo); found by the domain when empty."""
    imap_host: str = ""
    imap_port: int = Field(default=993, ge=1, le=65535)
    imap_security: Security = "tls"
    smtp_host: str = ""
    smtp_port: int = Field(default=465, ge=1, le=65535)
    smtp_security: Security = "tls"
    smtp_username: str = ""
    """Only when SMTP wants another one than IMAP."""
    smtp_password: SecretStr | None = None
    ca_file: Path | None = None
    """A file of CA certificates to trust besides the system's, for a server with a private CA."""
    allow_plain: bool = False
    """Allow `plain` (no TLS) to a host that is not loopback. The password then crosses the network readable."""
    mailbox: str = "INBOX"
    """The mailbox that new mail arrives in."""
    trusted_authserv: tuple[str, ...] = ()
    """Names under which your own mail server writes Authentication-Results; nobody else's are believed."""
    self_copy: bool = False
    """Send a copy of everything to the account itself (in the envelope only, like Bcc): proof that it went, for servers
    that keep no copy in Sent. After a crash that proof is what keeps a mail from being sent twice."""
    plus_addressing: bool = False
    """Mail to `local+anything@domain` arrives here: each mail then has an envelope sender of its own (VERP), and a
    bounce is matched by the address it comes to, whatever it says. Trap: some providers refuse such a sender."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds to wait for a connection, and for each reply that is not the one after the message body."""

    if TYPE_CHECKING:
        # What it accepts, which is more than what it holds: without this a type checker refuses password="…".
        def __init__(
            self, *, address: str, name: str = "", aliases: Iterable[str] = (), username: str = "",
            password: SecretStr | str | None = None, token: Token | None = None, provider: str = "",
            imap_host: str = "", imap_port: int = 993, imap_security: Security = "tls", smtp_host: str = "",
            smtp_port: int = 465, smtp_security: Security = "tls", smtp_username: str = "",
            smtp_password: SecretStr | str | None = None, ca_file: Path | str | None = None, allow_plain: bool = False,
            mailbox: str = "INBOX", trusted_authserv: Iterable[str] = (), self_copy: bool = False,
            plus_addressing: bool = False, timeout: float = 30.0,
        ) -> None: ...  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _fill_in_servers(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        domain = str(data.get("address", "")).rpartition("@")[2].lower()
        provider = data.get("provider") or next((k for k, p in PRESETS.items() if domain in p.domains), "")
        if provider:
            preset = PRESETS.get(provider)
            if preset is None:
                raise ValueError(f"unknown provider {provider!r}: one of {', '.join(PRESETS)}, or leave it empty")
            data["provider"] = provider
            for side, (host, port, security) in (("imap", preset.imap), ("smtp", preset.smtp)):
                if not data.get(f"{side}_host"):
                    data[f"{side}_host"] = host
                    data.setdefault(f"{side}_port", port)
                    data.setdefault(f"{side}_security", security)
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        local, at, domain = self.address.rpartition("@")
        if not at or not local or not domain or any(c.isspace() for c in self.address):
            raise ValueError(f"address {self.address!r} is not local@domain")
        for side in ("imap", "smtp"):
            host: str = getattr(self, f"{side}_host")
            if not host:
                raise ValueError(
                    f"{side}_host is missing: no preset for {domain}; set it to your provider's {side.upper()} server"
                )
            if getattr(self, f"{side}_security") == "plain" and not (self.allow_plain or is_loopback(host)):
                raise ValueError(
                    f"{side}_security is plain, so the password would cross the network readable: use tls or "
                    f"starttls for {host}, or set allow_plain if you are sure"
                )
        return self

    @property
    def key(self) -> str:
        """The name of this account in the store: its address, lower case, the domain in ASCII."""
        return address_key(self.address)

    @property
    def own_addresses(self) -> frozenset[str]:
        """The address and its aliases, in the form of `key`."""
        return frozenset(map(address_key, (self.address, *self.aliases)))

    @property
    def files_sent(self) -> bool:
        """Whether the submission server files a copy in this account's Sent mailbox by itself. Its name tells, and not
        the domain of the address: who sends by another server has no such copy, and companies have their own domains.
        """
        return any(
            p.files_sent and self.imap_host.lower() in _names(p.imap[0]) and self.smtp_host.lower() in _names(p.smtp[0])
            for p in PRESETS.values()
        )

    async def access_token(self) -> str | None:
        """What `token` gives now; None without one. A function that is not async runs in a thread: it may block.

        Raises:
            AuthenticationFailed, Unreachable, ConfigurationError: as `token` says. Whatever else goes wrong in it is
                Unreachable: most likely it could not ask, and a login that was not tried is not refused.
        """
        if self.token is None:
            return None
        called: tuple[Any, ...] = (self.token, type(self.token).__call__)
        is_async = any(map(inspect.iscoroutinefunction, called))
        try:
            async with asyncio.timeout(max(self.timeout, TOKEN_TIMEOUT)):
                given = self.token() if is_async else await asyncio.to_thread(self.token)
                token = await given if inspect.isawaitable(given) else given
        except AgentMailError:
            raise
        except TimeoutError as exc:
            raise Unreachable(f"{self.key}: token= gave no access token in time") from exc
        except Exception as exc:  # somebody else's code: what it raises may hold a secret, so only its name is told
            raise Unreachable(f"{self.key}: token= raised {type(exc).__name__}; no login was tried") from exc
        if not token or not isinstance(token, str):
            raise AuthenticationFailed(f"{self.key}: token= gave no access token; log in again")
        return token


class Webhook(BaseModel):
    """An endpoint that hears what happens: `[[webhooks]]` in `agentmail.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    """https; http only together with `allow_private`."""
    secrets: tuple[SecretStr, ...] = Field(min_length=1)
    """`whsec_…`: 24 to 64 random bytes in base64. To change it, put the new one in front of the old one, and take the
    old one out when the endpoint knows the new one."""
    events: tuple[str, ...] = ("*",)
    """Kinds, with `*`: `message.*`, `submission.failed`."""
    name: str = ""
    """What its place in the log is kept under; by default made from the URL."""
    allow_private: bool = False
    """Allow http, and addresses that are not on the public internet: loopback, the local network, link-local."""
    ca_file: Path | None = None
    """CA certificates to trust besides the system's."""
    timeout: float = Field(default=15.0, gt=0, le=30)
    """Seconds for one attempt in all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ValueError("webhook url: printable ASCII without blanks")
        parts = urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and self.allow_private):
            raise ValueError("webhook url: https://… (http only with allow_private)")
        if not parts.hostname or parts.username is not None or parts.fragment or parts.port == 0:
            raise ValueError("webhook url: a host, no user name or password in it, no #fragment")
        for secret in self.secrets:
            secret_key(secret.get_secret_value())
        return self

    @property
    def label(self) -> str:
        """Its name: the one given, or the host and a digest of the URL, whose path may be a secret."""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        return self.name or f"{urlsplit(self.url).hostname} {digest}"

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ((name, self.label if name == "url" else value) for name, value in super().__repr_args__())


def secret_key(secret: str) -> bytes:
    """The bytes that a `whsec_…` means. Raises ValueError."""
    coded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("webhook secret: whsec_ and 24 to 64 random bytes in base64")
    return key


class Settings(BaseSettings):
    """What `Inbox.from_env()` and the command read. Every field is also an `AGENTMAIL_*` variable."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTMAIL_", env_file=".env", toml_file="agentmail.toml", extra="ignore", frozen=True,
        hide_input_in_errors=True, env_ignore_empty=True,
    )  # fmt: skip

    address: str = ""
    name: str = ""
    aliases: tuple[str, ...] = ()
    username: str = ""
    password: SecretStr | None = None
    provider: str = ""
    imap_host: str = ""
    imap_port: int | None = None
    imap_security: Security | None = None
    smtp_host: str = ""
    smtp_port: int | None = None
    smtp_security: Security | None = None
    smtp_username: str = ""
    smtp_password: SecretStr | None = None
    ca_file: Path | None = None
    allow_plain: bool = False
    mailbox: str = "INBOX"
    trusted_authserv: tuple[str, ...] = ()
    self_copy: bool = False
    plus_addressing: bool = False
    timeout: float = 30.0
    token_file: Path = Path("~/.config/agentmail/tokens.json")
    """Where `agentmail login` keeps refresh tokens (mode 0600); the system's keyring when `keyring` is installed."""
    oauth_client_id: str = ""
    """Of the application that you registered with your provider, for `agentmail login`."""
    oauth_client_secret: SecretStr | None = None
    oauth_token_url: str = ""
    """Only for a provider without a preset, or for tests."""
    oauth_device_url: str = ""
    oauth_authorize_url: str = ""
    store: str = "sqlite:///agentmail.db"
    """Where the thread store is: `sqlite:///file.db` or `postgresql://user@host/database`."""
    webhooks: tuple[Webhook, ...] = ()
    """Endpoints that `agentmail sync --watch` tells what happens."""
    agent: str = "agent"
    """The name this agent reads and claims under; processes with the same name share the work."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment, `.env` and `agentmail.toml`; what is given as an argument wins.

        Raises:
            ConfigurationError: a value is wrong, or an argument or a key of `agentmail.toml` is no setting.
        """
        _refuse_unknown(given, "settings")
        file = str(cls.model_config["toml_file"])
        try:
            _refuse_unknown(TomlConfigSettingsSource(cls)(), file)
        except (ValueError, OSError) as exc:
            raise ConfigurationError(f"{file}: {exc}") from exc
        try:
            return cls(**{k: v for k, v in given.items() if v is not None})
        except (ValidationError, ValueError, OSError) as exc:
            raise ConfigurationError(f"settings: {plain_reason(exc)}") from exc

    @classmethod
    def sources(cls, **given: Any) -> dict[str, str]:
        """Where each setting that has no default value comes from: `argument`, `environment`, `.env`, or the file."""
        of_file = str(cls.model_config["toml_file"])
        found = dict.fromkeys(TomlConfigSettingsSource(cls)(), of_file)
        found |= dict.fromkeys(DotEnvSettingsSource(cls)(), ".env")
        found |= dict.fromkeys(EnvSettingsSource(cls)(), "environment")
        found |= {name: "argument" for name, value in given.items() if value is not None}
        return {name: source for name, source in found.items() if name in cls.model_fields}

    @classmethod
    def misspelt(cls) -> dict[str, str]:
        """Variables of the environment and of `.env` that look like a setting and are none, and what may be meant.

        They are no error: the environment belongs to other programs too.
        """
        meant: dict[str, str] = {}
        for variable in {*os.environ, *(name.upper() for name in DotEnvSettingsSource(cls).env_vars)}:
            prefix, mark, name = variable.upper().partition("_")
            if prefix == "AGENTMAIL" and mark and name.lower() not in cls.model_fields:
                near = get_close_matches(name.lower(), cls.model_fields, n=1, cutoff=0.75)
                meant |= {variable: f"AGENTMAIL_{near[0].upper()}"} if near else {}
        return meant

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ((name, self.printable(name) if name == "store" else value) for name, value in super().__repr_args__())

    def printable(self, name: str) -> Any:
        """The value of a setting without the secrets in it, as JSON has it; None for what is not set."""
        value = getattr(self, name)
        if isinstance(value, SecretStr):
            return "(set, not shown)"
        if name == "store":
            return without_password(value)
        if name == "webhooks":
            return [hook.label for hook in value]
        return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value

    def account(self) -> Account:
        if not self.address:
            near = "".join(f"; {given} is no setting, {meant} is" for given, meant in self.misspelt().items())
            raise ConfigurationError(
                "no account: set AGENTMAIL_ADDRESS and AGENTMAIL_PASSWORD; `agentmail config` prints what is in force"
                + near
            )
        names = set(Account.model_fields) & set(type(self).model_fields)
        return make_account(**{n: v for n in names if (v := getattr(self, n)) is not None})


def _refuse_unknown(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in Settings.model_fields:
            near = get_close_matches(name, Settings.model_fields, n=1)
            raise ConfigurationError(
                f"{where}: {name!r} is no setting" + (f"; do you mean {near[0]!r}?" if near else "")
            )


def make_account(**fields: Any) -> Account:
    """Build an Account; what is wrong with it becomes one ConfigurationError that names the field."""
    try:
        return Account(**fields)
    except ValidationError as exc:
        raise ConfigurationError(f"account: {plain_reason(exc)}") from exc


def plain_reason(exc: Exception) -> str:
    """A validation error in one line, without the value (it may be a password)."""
    if not isinstance(exc, ValidationError):
        return str(exc)
    return "; ".join(
        ": ".join(x for x in (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) if x)
        for e in exc.errors(include_url=False, include_input=False, include_context=False)
    )
