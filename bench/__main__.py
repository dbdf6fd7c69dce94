"""`python -m bench NAME …`: one measurement. `python -m bench` lists them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).parent
NAMES = sorted(p.stem for p in _HERE.glob("*.py") if '__name__ == "__main__"' in p.read_text() and p.stem[0] != "_")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print("usage: python -m bench NAME [--help]; NAME is one of:", ", ".join(NAMES))
        raise SystemExit(2 if len(sys.argv) > 1 else 0)
    name = sys.argv.pop(1)
    runpy.run_module(f"bench.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
