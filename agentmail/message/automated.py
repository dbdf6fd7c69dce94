"""What a machine sent: bounces, auto-replies, lists, other agents."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Automated = Literal["bounce", "auto-reply", "list", "bulk", "agent"]


class FailedRecipient(BaseModel):
    """One recipient of a delivery status notification (RFC 3464 2.3)."""

    model_config = ConfigDict(frozen=True)

    email: str
    action: str = "failed"
    """failed, delayed, delivered, relayed or expanded."""
    status: str = ""
    """The enhanced status code, such as `5.1.1` (RFC 3463)."""
    diagnostic: str = ""


class Bounce(BaseModel):
    """What a bounce says. Anybody can forge one: believe it only when it names a mail that we sent."""

    model_config = ConfigDict(frozen=True)

    message_id: str | None = None
    """The Message-ID of the mail that came back, with angle brackets."""
    recipients: tuple[FailedRecipient, ...] = ()
