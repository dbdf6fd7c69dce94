"""What happens in the store, told to other programs by HTTP: signed, at least once, and never to a private address."""

from .delivery import Webhooks

__all__ = ["Webhooks"]
