"""Why ours and the stdlib's reading of a mail may differ: `RULES`, each with its reason and a look for proof.

A rule is not "they differ": it looks at the bytes, or works out what the stdlib would have said without that one
fault. The first that explains a difference counts, so what is narrow stands before what is wide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from email.errors import MissingHeaderBodySeparatorDefect
from typing import Any, NamedTuple

from agentmail.message.identifiers import MAX_IDS, MISSING_DOMAIN

from .evidence import (
    ALL,
    BODIES,
    DATE,
    ENCODINGS,
    IDS,
    PEOPLE,
    blanks_at_end,
    century,
    date_forms,
    defect,
    emails_stand_there,
    encodings,
    files,
    flowed,
    from_html,
    id_once,
    ids_stand_there,
    is_8bit,
    letters,
    line_ends,
    named_alike,
    nobody,
    odd_parameters,
    plain_letters,
    redecoded,
    same_people,
    several,
    shown_elsewhere,
    stated,
    stripped,
    synthetic,
    text_of_8bit,
    tidy_header,
    visible,
    without,
    words,
)
from .pair import Pair
from .stdlib import Raised


class Rule(NamedTuple):
    name: str
    fields: Sequence[str]
    why: str
    explains: Callable[[Pair, str, Any, Any], bool]


def _header_block(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """The difference is gone, or another rule explains it, once the block is in order."""
    if pair.is_tidied:
        return False
    other = pair.tidied.theirs[field]
    return bool(mine == other) or any(
        field in rule.fields and rule.explains(pair.tidied, field, mine, other) for rule in RULES
    )


RULES = (
    Rule(
        "part-header-block",
        [*BODIES, "attachments"],
        "The same among the headers of a part.",
        lambda p, f, m, o: any(
            isinstance(d, MissingHeaderBodySeparatorDefect) for part in p.email.walk() for d in part.defects
        ),
    ),
    Rule(
        "synthetic-id",
        ["message_id"],
        "RFC 5256 step 1.A: a message without an id gets one.",
        synthetic,
    ),
    Rule(
        "id-cut",
        ["message_id"],
        "An id whose bracket never closes is none.",
        lambda p, f, m, o: m.endswith(f"@{MISSING_DOMAIN}>") and re.search(r"<[^<>]*@[^<>]*>", text_of_8bit(o)) is None,
    ),
    Rule(
        "header-twice",
        [*IDS],
        "RFC 5322 3.6 allows one; where there are two, the ids of both count.",
        lambda p, f, m, o: len(p.values(f)) > 1 and ids_stand_there(p, f, m),
    ),
    Rule("id-once", IDS, "Repeated ids, and the message's own, are no ancestors.", id_once),
    Rule(
        "id-limit",
        ["references", "in_reply_to"],
        "At most 100, the first and the last.",
        lambda p, f, m, o: len(m) == MAX_IDS and len(o) > MAX_IDS and m == [o[0], *o[1 - MAX_IDS :]],
    ),
    Rule(
        "id-syntax",
        IDS,
        "RFC 5322 4.5.4: phrases, comments and commas between ids; folds and quotes inside; brackets left out; the "
        "encoded words that CPython makes of long ids (python/cpython#79986).",
        lambda p, f, m, o: ids_stand_there(p, f, m),
    ),
    Rule(
        "id-of-a-person",
        ["in_reply_to"],
        'RFC 822: "Message from Ana <ana@x>": an address behind a phrase names a person.',
        lambda p, f, m, o: not m and re.search(r"[^\s<,][^<]*<[A-Za-z._+-]+@[^<>]+>", p.value(f)) is not None,
    ),
    Rule(
        "date-raised",
        ["date"],
        "What is no date is None; the stdlib raises.",
        lambda p, f, m, o: isinstance(o, Raised) and m is None,
    ),
    Rule(
        "date-guessed",
        ["date"],
        "What does not keep to RFC 5322 3.3 or 4.3 may be unknown, where the stdlib guesses.",
        lambda p, f, m, o: m is None and DATE.fullmatch(" ".join(stripped(p.values("date")[0]).split())) is None,
    ),
    Rule(
        "date-century",
        ["date"],
        "RFC 5322 4.3: 50 to 99 is the last century, and three digits count from 1900.",
        century,
    ),
    Rule("date-forms", ["date"], "RFC 5322 4.3: comments, blanks; a leap second; ISO 8601, GMT+0100.", date_forms),
    Rule(
        "date-zone",
        ["date"],
        "A zone with text behind it is a zone; the stdlib drops it and takes the time as UTC.",
        lambda p, f, m, o: re.search(r":\d\d\s+[+-]\d{4}\S", p.value(f)) is not None,
    ),
    Rule(
        "one-line",
        ["subject"],
        "A header is one line without controls: the stdlib keeps folds, line breaks and NUL.",
        tidy_header,
    ),
    Rule(
        "raw-8-bit",
        ["subject", *PEOPLE],
        "RFC 6532: raw bytes are UTF-8 (or Windows-1252); the stdlib shows replacement characters.",
        lambda p, f, m, o: (
            is_8bit(p.value(f))
            and (emails_stand_there(p, f, m) if f != "subject" else letters(m) == letters(text_of_8bit(p.values(f)[0])))
        ),
    ),
    Rule(
        "empty-address",
        PEOPLE,
        "The stdlib gives an address without name and address for an empty place and a group without members.",
        nobody,
    ),
    Rule(
        "comment-is-no-name",
        PEOPLE,
        "RFC 5322 3.2.2: a comment beside a name is none.",
        lambda p, f, m, o: (
            not isinstance(o, Raised) and "(" in p.value(f) and same_people(m, [one for one in o if any(one)])
        ),
    ),
    Rule(
        "name-tidied",
        PEOPLE,
        "Single quotes around a name, controls and unseen characters are no part of it.",
        lambda p, f, m, o: not isinstance(o, Raised) and named_alike(m, o),
    ),
    Rule(
        "bad-address",
        PEOPLE,
        "CVE-2023-27043: what could be read as two addresses, or is none, has no address with us.",
        lambda p, f, m, o: "bad-address" in p.defects and all(emails_stand_there(p, f, [one]) for one in stated(m)),
    ),
    Rule(
        "bracket-wins",
        PEOPLE,
        "An address in front of a bracket is a name, and not a recipient.",
        lambda p, f, m, o: (
            not isinstance(o, Raised) and all(one in [w for _, w in o] for _, one in m) and emails_stand_there(p, f, m)
        ),
    ),
    Rule(
        "stray-mark",
        PEOPLE,
        "A bracket, an @ or a control in a name that nobody quoted: the stdlib ends the name or the address there.",
        lambda p, f, m, o: (
            re.search(r"[<>()\[\]@=\x00-\x1f]", "".join(who for who, _ in m) + re.sub(r"[\r\n\t]", "", p.value(f)))
            is not None
            and emails_stand_there(p, f, m)
        ),
    ),
    Rule(
        "words-raise",
        ["subject", *PEOPLE],
        "The stdlib raises on a charset that it does not have and on bytes that are not of the charset they claim.",
        lambda p, f, m, o: isinstance(o, Raised) and "=?" in p.value(f),
    ),
    Rule(
        "words",
        ["subject", *PEOPLE],
        "Encoded words as every client reads them: letters cut in two, blanks inside, a language, charsets "
        "under the name of their subset, no charset at all.",
        words,
    ),
    Rule("line-ends", BODIES, "Lines of a text end in LF.", line_ends),
    Rule("text-from-html", ["text"], "Without a plain text it is what a person sees of the HTML.", from_html),
    Rule(
        "several-texts",
        BODIES,
        "Several texts that a mail shows one below the other are all of it; the stdlib's recipe takes the first.",
        several,
    ),
    Rule("flowed", ["text"], "RFC 3676: lines that the sender's program broke.", flowed),
    Rule(
        "not-the-text",
        BODIES,
        "Texts of a message inside, of an attachment or of a list's footer are not the message's.",
        shown_elsewhere,
    ),
    Rule(
        "blanks-at-end",
        BODIES,
        "RFC 2045 6.7: blanks at the end of a quoted-printable line are not part of it.",
        blanks_at_end,
    ),
    Rule(
        "unseen-characters",
        BODIES,
        "Characters that nobody sees, NUL and escapes are no text.",
        lambda p, f, m, o: (
            "unseen-characters" in p.defects and isinstance(o, str) and letters(m) == letters(visible(o))
        ),
    ),
    Rule(
        "charset",
        BODIES,
        "Labels mean what browsers take them for (WHATWG); a wrong or missing one is UTF-8 or Windows-1252; a byte "
        "order mark is no text.",
        redecoded,
    ),
    Rule(
        "base64",
        [*BODIES, "attachments"],
        "RFC 2045 6.8: junk is skipped and padding supplied; the stdlib gives the text undecoded.",
        defect("bad-base64"),
    ),
    Rule(
        "uuencode",
        [*BODIES, "attachments"],
        "Uuencoded files in a text are files.",
        defect("uuencoded", "bad-uuencode"),
    ),
    Rule(
        "encoding-name",
        [*BODIES, "attachments"],
        "RFC 2045 6.1: a comment behind the name of an encoding; a misspelt name that can mean only one.",
        lambda p, f, m, o: any(
            re.match(r"(base64|quoted|x-uu|uu).", one) and one not in ENCODINGS for one in encodings(p)
        ),
    ),
    Rule(
        "no-boundary",
        [*BODIES, "attachments"],
        "A boundary that is missing is guessed, one that never comes makes the whole a text.",
        defect("no-boundary", "no-last-boundary"),
    ),
    Rule(
        "content-type",
        [*BODIES, "attachments"],
        "RFC 2045 5.1: a comment in Content-Type; 5.2: one that cannot be read is text.",
        lambda p, f, m, o: (
            "bad-content-type" in p.defects or any("(" in str(part.get("Content-Type", "")) for part in p.email.walk())
        ),
    ),
    Rule(
        "two-content-types",
        [*BODIES, "attachments"],
        "Two that differ: programs show different mails.",
        defect("two-content-types"),
    ),
    Rule(
        "text-kinds",
        [*BODIES, "attachments"],
        "text/markdown, text/enriched and text/richtext are text to read.",
        without("text/markdown", "text/enriched", "text/richtext"),
    ),
    Rule(
        "files",
        ["attachments"],
        "Names are safe on every system, and there is always one; what stands in a message inside is its own.",
        files,
    ),
    Rule(
        "charset-broken",
        BODIES,
        "Bytes that are not of their charset, or are of what Windows makes of KS C 5601: what is ASCII says the same.",
        lambda p, f, m, o: (
            ("bad-charset" in p.defects or any("ks_c" in part.get_content_charset("") for part in p.leaves))
            and isinstance(o, str)
            and abs(len(plain_letters(m)) - len(plain_letters(o))) <= len(p.raw.translate(None, bytes(range(128))))
        ),
    ),
    Rule(
        "jis-lines",
        BODIES,
        "RFC 1468: a line of ISO-2022-JP ends in ASCII, so the escape that is missing is not looked for in the next.",
        lambda p, f, m, o: (
            "bad-charset" in p.defects
            and any(part.get_content_charset("").startswith("iso-2022-jp") for part in p.leaves)
        ),
    ),
    Rule(
        "lone-cr",
        [*BODIES, "attachments"],
        "Among the headers and boundaries of parts a CR alone is a blank, and CR CR LF one line end.",
        lambda p, f, m, o: re.search(rb"\r(?!\n)", p.raw) is not None,
    ),
    Rule(
        "begins-with-a-blank",
        ALL,
        "RFC 5322 2.2.3: what begins with a blank goes on from a header that is not there, so it is text.",
        lambda p, f, m, o: p.raw[:1] in (b" ", b"\t") and "no-headers" in p.defects,
    ),
    Rule(
        "named-text",
        [*BODIES, "attachments"],
        "A name on the first text of a mail makes no file of it.",
        lambda p, f, m, o: any(
            part.get_param("name") and part.get_content_type() in ("text/plain", "text/html") for part in p.email.walk()
        ),
    ),
    Rule(
        "type-tidied",
        [*BODIES, "attachments"],
        "Controls and bytes outside of ASCII are no part of a type.",
        lambda p, f, m, o: any(
            re.search(r"[\x00-\x08\x0e-\x1f\x7f\udc80-\udcff]", str(v))
            for part in p.email.walk()
            for k, v in part.raw_items()
            if k.lower() == "content-type"
        ),
    ),
    Rule(
        "end-at-once",
        [*BODIES, "attachments"],
        "A multipart ends at its last boundary, right behind another one too.",
        lambda p, f, m, o: re.search(rb"--([^\r\n]+)\r?\n--\1", p.raw) is not None,
    ),
    Rule(
        "parameter-tail",
        [*BODIES, "attachments"],
        "What follows the closing quote of a parameter is not part of it.",
        lambda p, f, m, o: any(
            re.search(r'="[^"]*"[^;\s]', str(part.get("Content-Type", ""))) for part in p.email.walk()
        ),
    ),
    Rule(
        "name-8-bit",
        ["attachments"],
        "RFC 6532: raw bytes in a name are UTF-8 or Windows-1252.",
        lambda p, f, m, o: (
            any(is_8bit(str(v)) for part in p.email.walk() for _, v in part.raw_items())
            and not isinstance(o, Raised)
            and [one[2] for one in m] == [one[2] for one in o]
        ),
    ),
    Rule(
        "odd-parameters",
        [*BODIES, "attachments"],
        "A Content-Type or disposition that does not keep to RFC 2045 5.1 is read as far as it goes.",
        odd_parameters,
    ),
    Rule(
        "parameters",
        ["attachments"],
        "RFC 2231: what follows a gap is not part of a name; of two names the first counts; a codec is no charset.",
        defect("bad-parameter", "repeated-parameter", "unknown-charset"),
    ),
    Rule(
        "header-block",
        ALL,
        "The stdlib ends the headers at the first line that is none (RFC 5322 4.5 allows a blank before the colon; a "
        "byte order mark or blank lines in front; a name outside ASCII), and a line at a CR alone.",
        _header_block,
    ),
)
