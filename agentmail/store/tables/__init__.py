"""Every table of the store, on one metadata: what the migrations must add up to."""

from importlib import import_module
from pkgutil import iter_modules

from .base import Row

for _area in iter_modules(__path__):
    import_module(f"{__name__}.{_area.name}")

metadata = Row.metadata
"""Complete once this package is imported: each module in it adds the tables of its area."""
