"""Which agent a new thread goes to. Pure decisions; the store remembers them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence

from .message.models import Message, Value


class Route(Value):
    """A rule: a new thread whose first message fits every field that is given goes to `agent`."""

    agent: str
    to: str = ""
    """An address in To or Cc, `local@` for any domain, or a plus address: `support+billing@example.org`."""
    subject: str = ""
    """Words that the subject contains, in any case."""
    from_domain: str = ""
    label: str = ""
    """A label of the thread."""

    def fits(self, message: Message, labels: Sequence[str] = ()) -> bool:
        to = self.to.casefold()
        if to and not any(a.key == to or (to.endswith("@") and a.key.startswith(to)) for a in message.recipients):
            return False
        if self.subject and not re.search(re.escape(self.subject.casefold()), message.subject.casefold()):
            return False
        if self.from_domain and (message.sender is None or message.sender.domain != self.from_domain.casefold()):
            return False
        return not self.label or self.label in labels


Choice = Callable[[Message], str | Awaitable[str | None] | None]
"""A route of your own: the agent's name for this message, or None to ask the next one."""


async def choose(routes: Sequence[Route | Choice], message: Message, labels: Sequence[str] = ()) -> str | None:
    """The first route that fits decides; None when none does."""
    for route in routes:
        if isinstance(route, Route):
            if route.fits(message, labels):
                return route.agent
        else:
            found = route(message)
            agent = await found if inspect.isawaitable(found) else found
            if agent:
                return agent
    return None
