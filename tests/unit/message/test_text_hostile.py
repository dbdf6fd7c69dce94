"""No body costs more than its size: hostile text and HTML in a process with a limit, and how the cost grows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest

from agentmail.message.html import visible
from agentmail.message.markup import prepare
from tests.corpus.limits import slowness

BODIES: dict[str, Callable[[int], str]] = {
    "depth": lambda n: "<div>" * n + "x",
    "depth by closing what is not open": lambda n: "<div></span>" * n,
    "depth behind a title that looks like a comment": lambda n: "<title><!--</title>" + "<div>" * n,
    "depth inside of svg": lambda n: "<svg><title>" + "<div>" * n,
    "depth inside of select": lambda n: "<select><div>" * n,
    "depth in a template": lambda n: "<template>" * n,
    "depth by tables": lambda n: "<table><tr><td>" * n,
    "inline tags": lambda n: "<b>x</b>" * n,
    "unclosed inline tags": lambda n: "<b>" * n,
    "unclosed fonts under paragraphs": lambda n: "".join(f"<font size={size}>" for size in range(60)) + "<p>x" * n,
    "misnested": lambda n: "<b><p></b></p>" * n,
    "links in links": lambda n: "<a href=x>" * n,
    "unclosed comments": lambda n: "<!--" * n,
    "unclosed tags": lambda n: "<a " * n,
    "unclosed quotes": lambda n: '<a b="' * n,
    "less-than signs": lambda n: "<" * n,
    "entities": lambda n: "&amp;&#x41;&notanentity" * n,
    "attributes": lambda n: "<a " + " ".join(f"a{number}=1" for number in range(n)) + ">x</a>",
    "paragraphs with many attributes": lambda n: ("<p " + " ".join(f"a{at}" for at in range(900)) + ">x") * (n // 900),
    "text thrown out of a table": lambda n: "<table>" + "x<b>y</b>" * n,
    "wide table": lambda n: "<table>" + "<tr><td>a<td>b" * n,
    "lists": lambda n: "<ul><li>" * 300 + "<li>x" * n,
    "scripts": lambda n: "<script><!--<script></script>" * n,
    "style comments": lambda n: "<style>" + "/*" * n + "</style>x",
    "style blocks": lambda n: "<style>" + "@media x{" * n + "</style>x",
    "rules": lambda n: "<style>" + "".join(f".c{number}{{display:none}}" for number in range(n)) + "</style>x",
    "rules with many ancestors": lambda n: (
        "<style>" + "div div div div b{display:none}" * n + "</style>" + "<div>" * 300 + "<b>x</b>" * n
    ),
    "universal rules": lambda n: "<style>" + "*{left:0}" * n + "</style>" + "<b>x</b>" * n,
    "declarations": lambda n: '<p style="' + "a:(" * n + '">x',
    "escapes": lambda n: '<p style="' + "\\61" * n + '">x',
    "data": lambda n: '<img src="data:image/png;base64,' + "A" * n * 20 + '">',
    "NUL": lambda n: "\x00" * n,
    "zero width": lambda n: "a\u200b" * n,
    "emoji": lambda n: "😀\u200d" * n,
    "spaces": lambda n: " " * n * 10 + "x",
}

TEXTS: dict[str, Callable[[int], str]] = {
    "On without wrote": lambda n: "On and on it goes <a@b.example> 10:00\n" * n,
    "On in one line": lambda n: "On " + "x " * n + "wrote:\n",
    "On with a colon": lambda n: "On 5/5/2026 10:00 it was:\nx\n" * n,
    "wrote": lambda n: "wrote " * n,
    "quotes": lambda n: "yes\n" + "> no\n" * n,
    "quote depth": lambda n: "yes\n" + ">" * n + " no\n",
    "spaces": lambda n: "yes" + " " * n * 10 + "x",
    "blank lines": lambda n: "yes" + "\n" * n * 10 + "x",
    "signatures": lambda n: "-- \nx\n" * n,
    "signature of a phone": lambda n: "Sent from my phone\n" * n,
    "headers": lambda n: "From: a\nSent: b\n" * n,
    "dashes": lambda n: "-" * n + "\n" + "_" * n,
    "original message": lambda n: "-- original message\n" * n,
    "addresses": lambda n: "a@" * n + "\n" + "a.b" * n + "@",
    "dates": lambda n: "2026-05-05 10:00 " * n,
    "colons": lambda n: ":" * n + "\n" + "a:\n" * n,
    "pipes": lambda n: "| " * n,
    "bidi": lambda n: "\u202e" * n,
    "a book": lambda n: "A line of a very long text.\n" * n,
    "joiners": lambda n: "a\u200c" * n * 10,
    "list footers": lambda n: ("_" * 47 + "\nx mailing list\n") * n,
}

OTHERS: dict[str, tuple[str, Callable[[int], str]]] = {
    "Authentication-Results, comments": ("auth", lambda n: "mx.example; " + "(" * n),
    "Authentication-Results, quotes": ("auth", lambda n: "mx.example; " + '"\\' * n),
    "Authentication-Results, statements": ("auth", lambda n: "mx.example; " + "dmarc=pass;" * n),
    "calendar lines": ("calendar", lambda n: "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:x\n" + "ATTENDEE:mailto:a@b.c\n" * n),
    "calendar folds": ("calendar", lambda n: "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:x\nSUMMARY:a\n" + " b\n" * n),
    "calendar components": ("calendar", lambda n: "BEGIN:VCALENDAR\n" + "BEGIN:VEVENT\nUID:x\n" * n),
    "calendar zones": ("calendar", lambda n: "BEGIN:VCALENDAR\n" + "BEGIN:VTIMEZONE\nTZID:Z\nEND:VTIMEZONE\n" * n),
    "delivery status blocks": ("bounce", lambda n: "Final-Recipient: rfc822; a@b.example\n\n" * n),
    "delivery status folds": ("bounce", lambda n: "Final-Recipient: rfc822; a@b.c\nDiagnostic-Code: x\n" + " y\n" * n),
    "bounce in prose": ("prose", lambda n: "<a@b.example>:\nfailed\n" * n),
    "bounce in one line": ("prose", lambda n: "a" * 60 + "@" + "b" * n + " failed"),
}

PROGRAM = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
sys.setrecursionlimit(300)
from agentmail.message import auth, automated, calendar, text
from tests.unit.message import test_text_hostile as cases
class Part:
    content_type = "message/delivery-status"
    def __init__(self, content): self.content = content
RUN = {
    "html": lambda body: text.visible(body),
    "new": lambda body: text.new_text_of(body),
    "new html": lambda body: text.new_text_of("x", body),
    "auth": lambda body: auth.verdict([("Authentication-Results", body), ("From", "a@b")], {"mx.example"}, "b"),
    "calendar": lambda body: calendar.invitation(body.encode(), None),
    "bounce": lambda body: automated.classify([], [Part(body.encode())]),
    "prose": lambda body: automated.classify([("X-Failed-Recipients", "")], [], body),
}
what, names, sizes = json.loads(sys.argv[1])
bodies = {**cases.BODIES, **cases.TEXTS, **{name: made for name, (_, made) in cases.OTHERS.items()}}
for name in names:
    RUN[what](bodies[name](10))
    spent = []
    for size in sizes:
        made = bodies[name](size)
        started = time.process_time()
        RUN[what](made)
        spent.append(time.process_time() - started)
    # Not ru_maxrss: that is the peak of the process which started this one, when that was bigger.
    peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps([name, spent, peak]), flush=True)
"""

CASES: dict[str, list[str]] = {"html": list(BODIES), "new html": list(BODIES)[::4], "new": list(TEXTS)}
for _name, (_what, _) in OTHERS.items():
    CASES.setdefault(_what, []).append(_name)


@pytest.mark.slow
@pytest.mark.parametrize("what", CASES)
def test_cost_stays_small_and_grows_with_the_size(what: str) -> None:
    """A second or two at most, 300 MB at most, and the cost grows with the size, not with its square."""
    results, error = _spent(what, CASES[what])
    finished = [name for name, _, _ in results]
    assert CASES[what] == finished, f"stopped at {CASES[what][len(finished)]!r}: {error[-2_000:]}"
    for _ in range(2):  # CPU time on a busy machine doubles now and then: the least of three runs counts
        if not (slow := _slow(results)):
            break
        again = {name: one for name, *one in _spent(what, [name for name, _ in slow])[0]}
        results = [
            (name, list(map(min, spent, again[name][0])) if name in again else spent, peak)
            for name, spent, peak in results
        ]
    assert [] == _slow(results)
    assert results[-1][2] < 300


def _spent(what: str, names: list[str]) -> tuple[list[tuple[str, list[float], float]], str]:
    """`(name, CPU seconds for each size, peak memory)` of each case that came to an end, and what stderr says."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([what, names, [5_000, 20_000, 80_000]])],
        capture_output=True,
        text=True,
        check=False,
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()], done.stderr


def _slow(results: list[tuple[str, list[float], float]]) -> list[tuple[str, list[float]]]:
    # Quadratic growth is sixteen times a step. Below 50 ms the clock tells nothing.
    most = 2.0 * slowness()
    return [
        (name, spent)
        for name, spent, _ in results
        if max(spent) > most or any(after > 8 * max(before, 0.05) for before, after in pairwise(spent))
    ]


def test_the_parser_sees_no_depth_that_it_cannot_take() -> None:
    """However the nesting is disguised, the scan sees it."""
    for name in ("depth", "depth by closing what is not open", "depth inside of select"):
        assert not prepare(BODIES[name](1_000)).safe, name
    assert prepare("<div>" * 300 + "</div>" * 300).safe


def test_too_deep_html_is_still_text() -> None:
    """Refused by the scan, read without a tree: words stay, what style attributes hide goes, and it is flagged."""
    body = "<p>Hello <b>there</b></p><p style='display:none'>hidden <i>words</i></p><p>End &amp; done</p>"
    html = "<div>" * 1_000 + body
    seen = visible(html)
    assert ["Hello there", "End & done"] == [line for line in seen.text.split("\n") if line]
    assert seen.uncertain
    assert 11 <= seen.hidden_characters <= 13


def test_an_inlined_picture_of_megabytes_leaves_the_text() -> None:
    seen = visible('<img src="data:image/png;base64,' + "A" * 3_000_000 + '"><p>Hello</p>')
    assert ("Hello", False) == (seen.text, seen.uncertain)


def test_more_than_a_megabyte_is_cut_and_said() -> None:
    seen = visible("<p>word</p>" * 300_000)
    assert seen.uncertain
    assert seen.text.startswith("word\n\nword")
