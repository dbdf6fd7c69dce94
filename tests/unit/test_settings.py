"""Settings are read once, say what is wrong by name, and never print a secret."""

import ast
import asyncio
import inspect
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from agentmail import errors, settings
from agentmail.settings import PRESETS, Account, Settings, make_account
from agentmail.urls import without_password

SECRET = "canary-7f3a"


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"AGENTMAIL_{name.upper()}", raising=False)


def test_a_known_provider_needs_address_and_password_only() -> None:
    account = make_account(address="me@gmail.com", password=SECRET)
    assert ("imap.gmail.com", 993, "tls") == (account.imap_host, account.imap_port, account.imap_security)
    assert ("smtp.gmail.com", 465, "tls") == (account.smtp_host, account.smtp_port, account.smtp_security)
    assert account.files_sent


@pytest.mark.parametrize(
    ("domain", "provider"),
    [("Gmail.com", "gmail"), ("hotmail.co.uk", "outlook"), ("live.nl", "outlook"), ("outlook.de", "outlook"),
     ("yahoo.fr", "yahoo"), ("fastmail.fm", "fastmail"), ("me.com", "icloud")],
)  # fmt: skip
def test_a_provider_is_known_by_its_national_domains_too(domain: str, provider: str) -> None:
    assert provider == make_account(address=f"me@{domain}").provider


@pytest.mark.parametrize("domain", ["yahoo.co.jp", "gmail.com.example.org", "notgmail.com", "mail.yahoo.com"])
def test_what_only_looks_like_a_provider_is_not_taken_for_it(domain: str) -> None:
    """A password would go to somebody else. Yahoo in Japan is another company with servers of its own."""
    with pytest.raises(errors.ConfigurationError, match="imap_host is missing"):
        make_account(address=f"me@{domain}", password=SECRET)


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ({"address": "me@gmail.com"}, True),
        ({"address": "me@company.example", "provider": "gmail"}, True),
        ({"address": "me@company.example", "imap_host": "imap.gmail.com", "smtp_host": "smtp.googlemail.com"}, True),
        ({"address": "me@x.example", "imap_host": "Outlook.Office365.com", "smtp_host": "smtp.office365.com"}, True),
        ({"address": "me@gmail.com", "smtp_host": "email-smtp.eu-west-1.amazonaws.com"}, False),
        ({"address": "me@company.example", "imap_host": "imap.company.example", "smtp_host": "smtp.gmail.com"}, False),
        ({"address": "me@fastmail.com"}, False),
        ({"address": "me@icloud.com"}, False),
    ],
)
def test_who_files_the_sent_copy_is_told_by_the_servers(given: dict[str, str], files: bool) -> None:
    """One copy: none of ours beside the provider's, and one of ours where another server submits."""
    assert files == make_account(**given).files_sent


async def test_a_token_may_be_any_function() -> None:
    class Async:
        async def __call__(self) -> str:
            return "object"

    async def coroutine() -> str:
        return "coroutine"

    def blocks() -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()  # the loop goes on while it blocks
        return "function"

    def awaitable() -> Awaitable[str]:
        return coroutine()

    tokens = [coroutine, blocks, awaitable, Async()]
    found = [await make_account(address="me@gmail.com", token=token).access_token() for token in tokens]
    assert ["coroutine", "function", "coroutine", "object"] == found
    assert await make_account(address="me@gmail.com").access_token() is None


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (lambda: 1 / 0, errors.Unreachable),
        (lambda: None, errors.AuthenticationFailed),
        (lambda: "", errors.AuthenticationFailed),
        (lambda: asyncio.sleep(60), errors.Unreachable),
    ],
)
async def test_what_goes_wrong_in_a_token_is_one_of_our_errors(
    token: Any, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be anybody's code: its time is limited, and what it raises is not told, for it may hold a secret."""
    monkeypatch.setattr(settings, "TOKEN_TIMEOUT", 0.05)
    with pytest.raises(error):
        await make_account(address="me@gmail.com", token=token, timeout=0.05).access_token()


@pytest.mark.parametrize("provider", PRESETS)
def test_a_preset_may_serve_a_domain_of_your_own(provider: str) -> None:
    account = make_account(address="me@example.org", provider=provider)
    assert PRESETS[provider].imap == (account.imap_host, account.imap_port, account.imap_security)
    assert PRESETS[provider].smtp == (account.smtp_host, account.smtp_port, account.smtp_security)


def test_what_is_given_wins_over_the_preset() -> None:
    account = make_account(
        address="me@gmail.com", smtp_host="relay.example.org", smtp_port=587, smtp_security="starttls"
    )
    assert ("relay.example.org", 587, "starttls") == (account.smtp_host, account.smtp_port, account.smtp_security)
    assert account.imap_host == "imap.gmail.com"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"address": "me"}, "not local@domain"),
        ({"address": "a b@example.org"}, "not local@domain"),
        ({"address": "me@example.org"}, "imap_host is missing"),
        ({"address": "me@example.org", "imap_host": "i"}, "smtp_host is missing"),
        ({"address": "me@gmail.com", "provider": "gmial"}, "unknown provider 'gmial'"),
        ({"address": "me@gmail.com", "imap_port": 0}, "imap_port"),
        ({"address": "me@gmail.com", "imap_security": "plain"}, "password would cross the network readable"),
        ({"address": "me@gmail.com", "imap_securty": "tls"}, "imap_securty"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=says) as caught:
        make_account(password=SECRET, **given)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_plain_is_for_this_machine(host: str) -> None:
    assert make_account(address="a@b.c", imap_host=host, imap_security="plain", smtp_host=host, smtp_security="plain")


def test_plain_elsewhere_must_be_asked_for() -> None:
    assert make_account(address="a@b.c", imap_host="h", imap_security="plain", smtp_host="h", allow_plain=True)


def test_secrets_never_print() -> None:
    account = make_account(address="me@gmail.com", password=SECRET, smtp_password=SECRET, token=lambda: SECRET)
    settings = Settings.load(password=SECRET, smtp_password=SECRET)
    for value in (account, settings):
        assert SECRET not in repr(value) + str(value) + value.model_dump_json() + str(value.model_dump())


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agentmail.toml").write_text(
        'agent = "toml"\nname = "toml"\naddress = "toml@gmail.com"\nstore = "toml"'
    )
    assert Settings.load().agent == "toml"
    (tmp_path / ".env").write_text("AGENTMAIL_AGENT=dotenv\nAGENTMAIL_NAME=dotenv\nAGENTMAIL_ADDRESS=dotenv@gmail.com")
    monkeypatch.setenv("AGENTMAIL_AGENT", "environment")
    monkeypatch.setenv("AGENTMAIL_NAME", "environment")
    settings = Settings.load(agent="argument")
    assert ("argument", "environment", "dotenv@gmail.com", "toml") == (
        settings.agent, settings.name, settings.address, settings.store)  # fmt: skip


def test_an_account_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ADDRESS": "Me@Example.org", "PASSWORD": SECRET, "IMAP_HOST": "imap.example.org",
                        "SMTP_HOST": "smtp.example.org", "SMTP_PORT": "587", "SMTP_SECURITY": "starttls",
                        "ALIASES": '["sales@example.org"]'}.items():  # fmt: skip
        monkeypatch.setenv(f"AGENTMAIL_{name}", value)
    account = Settings.load().account()
    assert account.key == "me@example.org"
    assert account.own_addresses == {"me@example.org", "sales@example.org"}
    assert (account.smtp_port, account.smtp_security) == (587, "starttls")
    assert account.password is not None
    assert account.password.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("IMAP_PORT", "many", "imap_port"), ("SMTP_SECURITY", "ssl", "smtp_security"), ("TIMEOUT", "-1", "timeout")],
)
def test_a_bad_variable_is_named(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMAIL_ADDRESS", "me@gmail.com")
    monkeypatch.setenv(f"AGENTMAIL_{name}", value)
    with pytest.raises(errors.ConfigurationError, match=says):
        Settings.load().account()


def test_without_an_account_the_error_says_what_to_set() -> None:
    with pytest.raises(errors.ConfigurationError, match="AGENTMAIL_ADDRESS"):
        Settings.load().account()


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/settings.md").read_text("utf-8")
    assert [n for n in Settings.model_fields if f"| `{n}` |" not in page] == []
    missing = set(Account.model_fields) - set(Settings.model_fields) - {"token"}
    assert missing == set()


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("postgresql://me:canary-7f3a@db.example/x", "postgresql://me:***@db.example/x"),
        ("postgresql://me:canary-7f3a@b/c?d@db.example/x", "postgresql://me:***@db.example/x"),
        ("postgresql://db.example/x?user=me&sslpassword=canary-7f3a&a=b",
         "postgresql://db.example/x?user=me&sslpassword=***&a=b"),
        ("me:canary-7f3a@db.example/x", "me:***@db.example/x"),
        ("host=db.example password=canary-7f3a dbname=x", "host=db.example password=*** dbname=x"),
        ("password = 'canary-7f3a x' host=db.example", "password = *** host=db.example"),
        ("postgresql://me@db.example/x", "postgresql://me@db.example/x"),
        ("sqlite:////home/a:b@c/agentmail.db", "sqlite:////home/a:b@c/agentmail.db"),
    ],
)  # fmt: skip
def test_a_database_url_is_printed_without_its_password(url: str, printed: str) -> None:
    assert printed == without_password(url)
    assert printed == Settings.load(store=url).printable("store")


def test_settings_print_no_secret_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a password, in the URL of the store, in the path of a webhook."""
    found = Settings.load(
        password=SECRET, store=f"postgresql://me:{SECRET}@db.example/x",
        webhooks=[{"url": f"https://h.example/{SECRET}", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}],
    )  # fmt: skip
    shown = [repr(found), str(found), str([found.printable(name) for name in Settings.model_fields])]
    assert [text for text in shown if SECRET in text or "whsec" in text] == []


def test_a_setting_that_is_none_is_named_with_the_one_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.ConfigurationError, match="settings: 'adress' is no setting; do you mean 'address'"):
        Settings.load(adress="us@example.org")
    (tmp_path / ".env").write_text("AGENTMAIL_PASWORD=x\n")
    monkeypatch.setenv("AGENTMAIL_ADRESS", "us@example.org")
    monkeypatch.setenv("AGENTMAIL_SOMETHING_OF_ANOTHER_PROGRAM", "x")
    assert Settings.misspelt() == {"AGENTMAIL_ADRESS": "AGENTMAIL_ADDRESS", "AGENTMAIL_PASWORD": "AGENTMAIL_PASSWORD"}
    with pytest.raises(errors.ConfigurationError, match="AGENTMAIL_ADRESS is no setting, AGENTMAIL_ADDRESS is"):
        Settings.load().account()
    for content, said in (("adress = 'x'", "do you mean 'address'"), ("address = ", "agentmail.toml: Invalid value")):
        (tmp_path / "agentmail.toml").write_text(content)
        with pytest.raises(errors.ConfigurationError, match=said):
            Settings.load()


def test_each_setting_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agentmail.toml").write_text("address = 'file@example.org'\nname = 'File'\nagent = 'file'\n")
    (tmp_path / ".env").write_text("AGENTMAIL_ADDRESS=env@example.org\nAGENTMAIL_NAME=Env\n")
    monkeypatch.setenv("AGENTMAIL_ADDRESS", "us@example.org")
    monkeypatch.setenv("AGENTMAIL_STORE", "sqlite:///environment.db")
    found = Settings.load(store="sqlite:///given.db", agent=None)
    assert ("us@example.org", "Env", "file", "sqlite:///given.db") == (
        found.address, found.name, found.agent, found.store,
    )  # fmt: skip
    assert {
        "address": "environment", "name": ".env", "agent": "agentmail.toml", "store": "argument",
    } == Settings.sources(store="sqlite:///given.db", agent=None)  # fmt: skip


def test_what_an_account_accepts_is_written_for_type_checkers() -> None:
    """`Account(password="…")` is what the docs say; its field is a SecretStr, which a checker would ask for."""
    [account] = [
        node for node in ast.parse(inspect.getsource(settings)).body
        if isinstance(node, ast.ClassDef) and node.name == "Account"
    ]  # fmt: skip
    [typed] = [node for node in account.body if isinstance(node, ast.If)]
    [init] = typed.body
    assert isinstance(init, ast.FunctionDef)
    defaults = {
        argument.arg: None if default is None else ast.literal_eval(default)
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    }
    assert defaults == {
        name: None if field.is_required() else field.default for name, field in Account.model_fields.items()
    }
    Account(address="us@gmail.com", aliases=["sales@example.org"], password="x", ca_file="/etc/ca.pem")
