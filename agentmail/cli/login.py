"""`agentmail login`: OAuth2 for providers that take no password."""

from __future__ import annotations

import webbrowser
from dataclasses import replace
from typing import Annotated, Literal

import typer
from rich.text import Text

from ..errors import ConfigurationError
from ..message.domains import address_key
from ..oauth import ENDPOINTS, DeviceCode, Endpoints, device_login, keep_login, loopback_login
from ..settings import Settings
from ..tokenfile import TokenFile
from .app import app, out, run, settings


@app.command()
def login(
    provider: Annotated[
        Literal["gmail", "outlook"],
        typer.Argument(metavar="PROVIDER", help="gmail opens a browser; outlook shows a code."),
    ],
    address: Annotated[
        str | None, typer.Option("--address", help="The account; AGENTMAIL_ADDRESS when left out.")
    ] = None,
) -> None:
    """Log in with OAuth2, and keep the refresh token.

    Asks your provider, sends no mail.
    """
    found = settings(address=address)
    if not found.address:
        raise ConfigurationError("which account? set AGENTMAIL_ADDRESS, or give --address")
    local, _, domain = found.address.rpartition("@")
    if not (local and domain):
        raise ConfigurationError(f"address {found.address!r} is not local@domain")
    if not found.oauth_client_id:
        raise ConfigurationError(
            "set AGENTMAIL_OAUTH_CLIENT_ID to the application that you registered with your provider "
            "(docs/how-to/log-in-with-oauth.md)"
        )
    file = TokenFile(found.token_file.expanduser())
    run(lambda: _login(provider, found, file))
    out.print(f"logged in as {found.address}; the refresh token is kept for the next start")


async def _login(provider: str, found: Settings, file: TokenFile) -> None:
    endpoints = _endpoints(provider, found)
    secret = found.oauth_client_secret.get_secret_value() if found.oauth_client_secret is not None else ""
    if endpoints.device:
        tokens = await device_login(endpoints, found.oauth_client_id, _show)
    else:
        tokens = await loopback_login(
            endpoints, found.oauth_client_id, _browse, client_secret=secret, login_hint=found.address
        )
    keep_login(file, address_key(found.address), endpoints, found.oauth_client_id, secret, tokens)


def _endpoints(provider: str, found: Settings) -> Endpoints:
    preset = ENDPOINTS[provider]
    return replace(
        preset,
        token=found.oauth_token_url or preset.token,
        device=found.oauth_device_url or preset.device,
        authorize=found.oauth_authorize_url or preset.authorize,
    )


def _show(code: DeviceCode) -> None:
    out.print(Text(code.message), soft_wrap=True)


def _browse(url: str) -> None:
    out.print(Text(f"Opening your browser; if nothing happens, open\n{url}"), soft_wrap=True)
    webbrowser.open(url)
