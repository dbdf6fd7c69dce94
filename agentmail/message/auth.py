"""SPF, DKIM and DMARC verdicts, only from a mail server that the operator trusts (RFC 8601)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Auth(BaseModel):
    """What a trusted server verified about the sender."""

    model_config = ConfigDict(frozen=True)

    server: str
    """The authserv-id that said so."""
    spf: str = "none"
    dkim: str = "none"
    dmarc: str = "none"
    domain: str = ""
    """The From domain that DMARC spoke about."""

    @property
    def verified(self) -> bool:
        """True only when DMARC passed for the domain in From."""
        return self.dmarc == "pass"
