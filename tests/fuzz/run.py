"""`make fuzz`: look for bytes that break a promise, guided by coverage, for ten minutes.

    python -m tests.fuzz.run [--seconds 600] [--target parse|compose]

A find is written to `.cache/fuzz/` and printed; it belongs into `tests/corpus/mail/` with what must come out of it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOUND = ROOT / ".cache" / "fuzz"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz parse(), or parse() of what compose made.")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--target", choices=("parse", "compose"), default="parse")
    chosen = parser.parse_args()
    seconds = chosen.seconds
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit("atheris is missing: pip install atheris (it has wheels for CPython 3.11 to 3.13 on Linux)")
    seeds = FOUND / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "tests" / "corpus" / "mail").glob("*.eml")):
        (seeds / path.name).write_bytes(path.read_bytes())
    with atheris.instrument_imports(include=["agentmail.message"]):
        from tests.fuzz.target import check, written
    options = [f"-max_total_time={seconds}", "-timeout=5", "-max_len=8192", f"-artifact_prefix={FOUND}/", str(seeds)]
    atheris.Setup([sys.argv[0], *options], check if chosen.target == "parse" else written)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
