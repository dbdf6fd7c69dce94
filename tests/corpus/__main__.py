"""Look at the corpus: `python -m tests.corpus [show NAME… | limits [NAME…] | differ NAME…]`."""

from __future__ import annotations

import json
import sys
from itertools import chain

from tests.corpus.cases import CORE, GETTERS, MAIL, Case, cases
from tests.corpus.differential import differences
from tests.corpus.large import CASES, wild
from tests.corpus.limits import measure, measure_small


def check() -> int:
    wrong = 0
    for number, case in enumerate(cases(), 1):
        found = case.differences()
        wrong += bool(found)
        if found:
            print(case.name, *found, sep="\n")
    print(f"{number} mails, {wrong} differ")
    return int(wrong > 0)


def show(name: str) -> None:
    case = Case(MAIL / f"{name}.eml")
    print(case.raw.decode("utf-8", "backslashreplace"), "", sep="\n")
    message = case.parse()
    for field in [*case.wanted, *sorted(CORE - case.wanted.keys())]:
        if field in GETTERS:
            wanted = case.wanted.get(field)
            got = GETTERS[field](message, wanted if isinstance(wanted, list | dict) else [])
            print(" " if got == wanted else "!", f"{field:15}", json.dumps(got, ensure_ascii=False))
            if got != wanted:
                print("  wanted         ", json.dumps(wanted, ensure_ascii=False))
        else:
            print(" ", f"{field:15}", case.wanted[field])


def limits(names: list[str]) -> int:
    """`wild:5` is the fifth of the wild ones, `mail` all of the small ones."""
    large = [name for name in names or CASES if name != "mail"]
    makers = [(name, (lambda name=name: wild(int(name[5:]))) if name[:5] == "wild:" else CASES[name]) for name in large]
    measured = chain(measure(makers), measure_small((c.name, c.path) for c in cases()) if "mail" in names else ())
    wrong = []
    for one, broken in measured:
        print(f"{one.name:20} {one.size:>12,} B {one.seconds:6.3f} s {one.asked:6.3f} s {one.grown:>13,} B  ", end="")
        print(*one.defects)
        if broken:
            wrong.append(broken)
    print(*wrong, sep="\n", file=sys.stderr)
    return int(bool(wrong))


def differ(name: str) -> None:
    for one in differences((MAIL / f"{name}.eml").read_bytes()):
        print(one)


def main(command: str = "check", *names: str) -> int:
    if command == "limits":
        return limits(list(names))
    if command in ("show", "differ"):
        for name in names:
            {"show": show, "differ": differ}[command](name)
        return 0
    return check()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
