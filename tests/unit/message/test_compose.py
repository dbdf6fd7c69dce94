"""A reply, a forward, a new message: what stands on the wire, for parents of good will."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentmail.errors import BadInput
from agentmail.message.compose import check_address, forward, new, read_address, reply
from agentmail.message.models import Address, Attachment, Draft, Message
from agentmail.message.parse import parse

from . import strict

NOW = datetime(2026, 5, 14, 9, 30, tzinfo=UTC)
BOT = Address(name="Support", email="bot@example.com")
ANA = Address(name="Ana Ruiz", email="ana@example.org")
FIXED = {"sender": BOT, "now": NOW, "token": bytes(range(17))}
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "reply_headers.json").read_text(encoding="utf-8"))


def _parent(**more) -> Message:
    return Message(**{"message_id": "<p@example.org>", "sender": ANA, "to": (BOT,), "subject": "Invoice 17",
                      "text": "Where is it?\n", "sent_at": NOW, **more})  # fmt: skip


def _wire(outgoing) -> strict.Part:
    return strict.read(outgoing.raw)


# -- the chain


@pytest.mark.parametrize("case", [c for c in VECTORS if "parents" not in c["parent"]], ids=lambda c: c["name"])
def test_in_reply_to_and_references_by_rfc_5322(case):
    names = {"message_id": "Message-ID", "references": "References", "in_reply_to": "In-Reply-To"}
    raw = "".join(f"{names[k]}: {v}\r\n" for k, v in case["parent"].items()) + "From: ana@example.org\r\n\r\nHi\r\n"
    wire = _wire(reply(parse(raw.encode()), "ok", **FIXED))
    expected = case["expected"]
    assert (expected["in_reply_to"] or []) == (strict.ids(wire["In-Reply-To"]) if "In-Reply-To" in wire.names() else [])
    references = strict.ids(wire["References"]) if "References" in wire.names() else []
    if isinstance(expected["references"], str):  # the rule of news, in words: the first and the last two must stay
        given = [*case["parent"]["references"].split(), case["parent"]["message_id"]]
        assert 50 == len(references)
        assert [given[0], *given[-49:]] == references
    else:
        assert (expected["references"] or []) == references


def test_an_id_of_exchange_online_stays_whole():
    """80 characters: Python's own writer turns it into encoded words, and Outlook loses the thread."""
    exchange = "<BL0PR12MB23407D3418F13ABDC01D6826AF390@BL0PR12MB2340.namprd12.prod.outlook.com>"
    raw = reply(_parent(message_id=exchange, references=("<a@x>", exchange[:-5] + "x.com>")), "ok", **FIXED).raw
    assert f"\r\nIn-Reply-To: {exchange}\r\n".encode() in raw
    assert f"\r\nReferences: <a@x>\r\n {exchange[:-5]}x.com>\r\n {exchange}\r\n".encode() in raw


def test_a_parent_without_an_id_of_its_own_is_not_named():
    parent = parse(b"From: ana@example.org\r\nReferences: <a@x>\r\nSubject: x\r\n\r\nHi\r\n")
    assert parent.message_id.endswith("@missing.invalid>")
    wire = _wire(reply(parent, "ok", **FIXED))
    assert "In-Reply-To" not in wire.names()
    assert "<a@x>" == wire["References"]


def test_the_message_id_is_ours_and_new_each_time():
    first, second = (reply(_parent(), "ok", sender="bot@bücher.example") for _ in range(2))
    assert first.message_id != second.message_id
    assert first.message_id.endswith("@xn--bcher-kva.example>")
    assert first.message_id == _wire(first)["Message-ID"]


def test_a_message_id_that_was_made_before_is_kept():
    assert "<own@example.com>" == reply(_parent(), "ok", message_id="<own@example.com>", **FIXED).message_id


# -- to whom


def test_reply_goes_to_the_sender_and_to_nobody_else():
    outgoing = reply(_parent(cc=(Address(email="cc@example.org"),)), "ok", **FIXED)
    assert ("ana@example.org",) == outgoing.envelope.rcpt_to
    assert "Ana Ruiz <ana@example.org>" == _wire(outgoing)["To"]


def test_reply_to_is_honoured():
    desk = Address(email="desk@example.org")
    assert ("desk@example.org",) == reply(_parent(reply_to=(desk,)), "ok", **FIXED).envelope.rcpt_to


def test_a_reply_to_that_is_us_or_nonsense_falls_back_to_the_sender():
    for wish in (BOT, Address(email="BOT@example.com"), Address(email="no address"), Address(name="x")):
        assert ("ana@example.org",) == reply(_parent(reply_to=(wish,)), "ok", **FIXED).envelope.rcpt_to


def test_reply_all_leaves_out_ourselves_under_every_name_and_everybody_twice():
    people = [Address(email=e) for e in ("x@example.org", "Alias@Example.com", "ANA@example.org", "X@example.org")]
    outgoing = reply(_parent(cc=tuple(people)), "ok", reply_all=True, own_addresses=["alias@example.com"], **FIXED)
    assert ("ana@example.org", "x@example.org") == outgoing.envelope.rcpt_to
    assert "x@example.org" == _wire(outgoing)["Cc"]


def test_a_reply_to_our_own_mail_goes_to_whom_that_went():
    ours = _parent(sender=BOT, to=(ANA,), outgoing=True)
    assert ("ana@example.org",) == reply(ours, "And …", **FIXED).envelope.rcpt_to


def test_nobody_to_answer_is_said():
    with pytest.raises(BadInput, match="nobody to write to"):
        reply(_parent(sender=None), "ok", **FIXED)


def test_blind_copies_stand_in_the_envelope_only():
    draft = Draft(to=(ANA,), bcc=(Address(email="boss@example.net"),), subject="Hello", text="Hi")
    outgoing = new(draft, **FIXED)
    assert ("ana@example.org", "boss@example.net") == outgoing.envelope.rcpt_to
    assert b"boss" not in outgoing.raw


def test_a_mail_to_blind_copies_alone_has_a_to_that_says_nothing():
    outgoing = new(Draft(bcc=(ANA,), subject="Hello", text="Hi"), **FIXED)
    assert "undisclosed-recipients:;" == _wire(outgoing)["To"]


# -- subject, marks, order of headers


@pytest.mark.parametrize(
    ("subject", "answer"),
    [
        ("Invoice 17", "Re: Invoice 17"),
        ("Re: Invoice 17", "Re: Invoice 17"),
        ("AW: RE: SV: Invoice 17", "Re: Invoice 17"),
        ("[list] Invoice  17", "Re: [list] Invoice  17"),
        ("Grüße", "Re: Grüße"),
        ("日本語" * 60, "Re: " + "日本語" * 60),
        ("=?utf-8?q?not_decoded_twice?=", "Re: =?utf-8?q?not_decoded_twice?="),
        ("x" * 900, "Re: " + "x" * 900),
    ],
)
def test_the_subject_has_one_re_and_stays_as_it_was(subject, answer):
    wire = _wire(reply(_parent(subject=subject), "ok", **FIXED))
    assert answer == strict.decoded(wire["Subject"])
    assert wire["Subject"].startswith("Re: ")


def test_an_agent_says_that_it_is_one_unless_told_otherwise():
    wire = _wire(reply(_parent(), "ok", **FIXED))
    assert "auto-replied" == wire["Auto-Submitted"]
    assert "AutoReply" in wire["X-Auto-Response-Suppress"]
    assert "NDR" not in wire["X-Auto-Response-Suppress"].split(", ")  # bounces are wanted
    assert "auto-generated" == _wire(new(Draft(to=(ANA,), text="x"), **FIXED))["Auto-Submitted"]
    assert "Auto-Submitted" not in _wire(reply(_parent(), "ok", automatic=False, **FIXED)).names()


def test_hops_between_agents_are_counted():
    first = reply(_parent(), "ok", **FIXED)
    second = reply(parse(first.raw), "ok", sender="other@example.net", now=NOW)
    assert "hop=2" in _wire(second)["X-Agentmail-Loop"]


def test_the_same_words_give_the_same_bytes():
    assert reply(_parent(), "ok", **FIXED).raw == reply(_parent(), "ok", **FIXED).raw


# -- bodies


def test_text_alone_also_goes_as_html_and_markdown_stays_what_it_is():
    wire = _wire(reply(_parent(), "**Hi** <Ana>,\n\n  two & more:\nhttps://example.org/?a=1&b=2.\n", **FIXED))
    plain, html = wire.leaves()
    assert "multipart/alternative" == wire.content_type
    assert b"**Hi** <Ana>,\r\n\r\n  two & more:\r\nhttps://example.org/?a=1&b=2.\r\n" == plain.content()
    assert b"**Hi** &lt;Ana&gt;,<br>" in html.content()
    assert b'<a href="https://example.org/?a=1&amp;b=2">https://example.org/?a=1&amp;b=2</a>.' in html.content()
    assert b"&nbsp; two &amp; more" in html.content()


def test_html_alone_also_goes_as_text():
    plain, html = _wire(reply(_parent(), html="<p>Good <b>day</b></p>", **FIXED)).leaves()
    assert "Good day" == plain.content().decode().strip()
    assert "<p>Good <b>day</b></p>" == html.content().decode().strip()


@pytest.mark.parametrize(
    "text",
    [
        "From the start\n.\n..\n.x\n",
        "space at the end \nand tab\t\n",
        "x" * 5_000,
        "ä" * 5_000,
        "日本語\n" * 300,
        "a\x0bb\x0cc\x1b[31m\x85\u2028\u2029\n",
        "a\rb\r\nc\n\rd",
        "\r\n.\r\nMAIL FROM:<v@x>\r\n",
        "\n.\r\n\n\n.\n",
        "--=_\n--\n",
    ],
)
def test_any_text_arrives_as_it_was_written(text):
    """SMTP smuggling lives on bare CR and LF; mbox and dots change lines; none of that reaches the wire."""
    outgoing = reply(_parent(), text, html="<p>x</p>", **FIXED)
    plain = _wire(outgoing).leaves()[0].content().decode()
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert expected.removesuffix("\n") == plain.replace("\r\n", "\n").removesuffix("\n")
    assert not any(line.startswith(b"From ") for line in outgoing.raw.split(b"\r\n"))
    assert b"\r\n.\r\n" not in outgoing.raw


def test_quoting_looks_like_gmails_and_keeps_the_original_markup_out():
    parent = _parent(text="Where is it?\n> older\n", html='<img src="https://track.example/x.gif"><script>1</script>')
    plain, html = _wire(reply(parent, "Here.", quote=True, **FIXED)).leaves()
    line = "On Thu, May 14, 2026 at 9:30 AM Ana Ruiz <ana@example.org> wrote:"
    expected = f"Here.\r\n\r\n{line}\r\n> Where is it?\r\n>> older\r\n"
    assert expected == plain.content().decode()
    assert b'<blockquote class="gmail_quote"' in html.content()
    assert b"track.example" not in html.content()
    assert b"<script" not in html.content()


def test_what_we_quote_is_known_as_a_quote():
    answered = parse(reply(_parent(), "Here it is.\n\nBest", quote=True, **FIXED).raw)
    assert "Here it is.\n\nBest" == answered.new_text


def test_attachments_and_images_in_the_html():
    logo = Attachment(name="logo.png", content_type="image/png", content=b"\x89PNG", content_id="logo", inline=True)
    bill = Attachment(name="Rechnung März.pdf", content_type="application/pdf", content=bytes(range(256)) * 9)
    lost = Attachment(name="x.png", content_type="image/png", content=b"x", content_id="nowhere", inline=True)
    outgoing = reply(_parent(), html='<img src="cid:logo">', attachments=[logo, bill, lost], **FIXED)
    wire = _wire(outgoing)
    assert "multipart/mixed" == wire.content_type
    assert ["multipart/alternative", "application/pdf", "image/png"] == [p.content_type for p in wire.parts]
    related = wire.parts[0].parts[1]
    assert ["text/html", "image/png"] == [p.content_type for p in related.parts]
    assert "<logo>" == related.parts[1]["Content-ID"]
    assert bill.content == wire.parts[1].content()
    assert bill.name == wire.parts[1].parameter("Content-Disposition", "filename")
    assert [bill.content, logo.content, lost.content] == sorted(
        (a.content for a in parse(outgoing.raw).attachments), key=lambda c: -len(c)
    )


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("multipart/mixed; boundary=x", "application/octet-stream"),
        ("message/rfc822", "application/octet-stream"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("nonsense", "application/octet-stream"),
        ("text/html\r\nX: y", "application/octet-stream"),
    ],
)
def test_a_content_type_is_a_type_or_nothing(given, written):
    file = Attachment(name="a.bin", content_type=given, content=b"x")
    assert written == _wire(reply(_parent(), "ok", attachments=[file], **FIXED)).parts[1].content_type


def test_forward_takes_the_attachments_along_and_names_no_ancestor():
    raw = reply(_parent(), "the file", attachments=[Attachment(name="a.pdf", content=b"pdf")], **FIXED).raw
    stored = parse(raw)
    stored = stored.model_copy(
        update={"attachments": tuple(a.model_copy(update={"content": None}) for a in stored.attachments)}
    )
    with pytest.raises(BadInput, match="has no content"):
        forward(stored, to=["b@example.org"], **FIXED)
    wire = _wire(forward(stored, to=["b@example.org"], text="FYI", original_raw=raw, **FIXED))
    assert "Fwd: Re: Invoice 17" == wire["Subject"]
    assert not {"In-Reply-To", "References"} & set(wire.names())
    assert b"pdf" == wire.parts[1].content()
    text = wire.leaves()[0].content().decode()
    assert text.startswith("FYI\r\n\r\n---------- Forwarded message ---------\r\nFrom: Support <bot@example.com>\r\n")
    assert "the file" in text
    whole = _wire(forward(stored, to=["b@example.org"], original_raw=raw, whole=True, **FIXED))
    assert raw == whole.parts[1].content()


# -- what the caller gives and cannot be written


@pytest.mark.parametrize(
    "address",
    [
        "", "a", "@x.org", "a@", "a b@x.org", "a@b@c.org", "a@x.org\r\nRCPT TO:<v@x>", "a@x.org>", "<a@x.org>",
        "a\x00@x.org",
        "a@-x.org", "a@x..org", "a@x.org.", "a@" + "x" * 64 + ".org", "a" * 65 + "@x.org", "a@[::1", "a,b@x.org",
        "a@x_y z.org", '"a\nb"@x.org', "a@\u200bx.org", "(c)a@x.org", "a@☃.org", "a\u2028@x.org", "a@x.org\x85",
        "a;b@x.org",
        "a@" + ".".join(["long"] * 60),
    ],
)  # fmt: skip
def test_an_address_that_smtp_could_misread_is_refused(address):
    with pytest.raises(BadInput):
        check_address(address)
    with pytest.raises(BadInput):
        new(Draft(to=(Address(email=address),), text="x"), **FIXED)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("a.b+c@Example.org", "a.b+c@Example.org"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@straße.example", "a@xn--strae-oqa.example"),
        ("a@例え。テスト", "a@xn--r8jz45g.xn--zckzah"),
        ('"a b"@x.org', '"a b"@x.org'),
        ("a..b.@docomo.example", '"a..b."@docomo.example'),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@localhost", "a@localhost"),
    ],
)
def test_an_address_as_it_goes_on_the_wire(address, written):
    assert written == check_address(address)


def test_an_address_that_needs_smtputf8_is_refused_unless_the_server_has_it():
    with pytest.raises(BadInput, match="SMTPUTF8"):
        new(Draft(to=(Address(email="jürgen@bücher.example"),), text="x"), **FIXED)
    outgoing = new(Draft(to=(Address(name="Jürgen", email="jürgen@bücher.example"),), text="ü"), utf8=True, **FIXED)
    assert ("jürgen@xn--bcher-kva.example",) == outgoing.envelope.rcpt_to
    head, _, body = outgoing.raw.partition(b"\r\n\r\n")
    assert "<jürgen@xn--bcher-kva.example>".encode() in head
    assert body.isascii()


@pytest.mark.parametrize("bad", ["\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x85", "\u2028", "\x1b", "\ud800"])
def test_a_control_character_in_what_the_caller_gives_is_refused(bad):
    with pytest.raises(BadInput, match="subject"):
        new(Draft(to=(ANA,), subject=f"Hello{bad}Bcc: v@x", text="x"), **FIXED)
    with pytest.raises(BadInput, match="name"):
        new(Draft(to=(Address(name=f"A{bad}B", email="a@x.org"),), text="x"), **FIXED)
    with pytest.raises(BadInput):
        read_address(f"A{bad}B <a@x.org>")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"text": ""}, "nothing to send"),
        ({"text": None}, "nothing to send"),
        ({"text": "a\x00b"}, "text contains U\\+0000 at character 1"),
        ({"text": "a", "html": "<p>\udc80"}, "html contains U\\+DC80"),
        ({"text": "a", "message_id": "<a b@x>"}, "Message-ID"),
        ({"text": "a", "message_id": "<a@x>\r\nX: y"}, "Message-ID"),
        ({"text": "a", "attachments": [Attachment(name="a.pdf")]}, "'a.pdf' has no content"),
        ({"text": "a", "now": datetime(2026, 1, 1)}, "time zone"),
        ({"text": "a", "sender": "nobody"}, "is not one address"),
        ({"text": "a", "to": [Address(email=f"a{i}@x.org") for i in range(501)]}, "501 recipients"),
    ],
)
def test_other_things_that_cannot_be_written(more, sentence):
    with pytest.raises(BadInput, match=sentence):
        reply(_parent(), **{**FIXED, **more})


FOOTER = "Written by a machine.\nAsk for a person: help@example.org"


@pytest.mark.parametrize("quote", [True, False])
@pytest.mark.parametrize("body", [{"text": "Here."}, {"html": "<p>Here.</p>"}, {"text": "Here.", "html": "<p>H</p>"}])
def test_the_footer_stands_below_what_is_said_and_above_what_is_quoted(body, quote):
    parent = _parent(text=f"Where is it?\n\n{FOOTER}\n")
    answer = reply(parent, **body, quote=quote, footer=FOOTER, **FIXED)
    plain, html = (leaf.content().decode().replace("\r\n", "\n") for leaf in _wire(answer).leaves())
    assert plain.startswith(f"Here.\n\n{FOOTER}\n")
    assert quote == ("> Written by a machine." in plain)
    own = html.partition("gmail_quote")[0]
    assert 1 == own.count("Written by a machine.<br>\nAsk for a person: help@example.org")
    assert 1 + quote == html.count("Written by a machine.")


def test_a_footer_that_is_there_is_not_added():
    text = f"Here.\n\n{FOOTER}"
    plain, html = _wire(reply(_parent(), text, footer=FOOTER, **FIXED)).leaves()
    assert 1 == plain.content().count(b"Written by a machine.")
    assert 1 == html.content().count(b"Written by a machine.")


def test_a_footer_is_text_and_not_markup():
    answer = reply(_parent(), html="<html><body><p>x</p></body></html>", footer="a < b & c", **FIXED)
    plain, html = (leaf.content().decode() for leaf in _wire(answer).leaves())
    assert "a < b & c" in plain
    assert "<div>a &lt; b &amp; c</div>" in html
    assert html.rstrip().endswith("</body></html>")
    with pytest.raises(BadInput, match="footer"):
        reply(_parent(), "x", footer="a\x00b", **FIXED)


@pytest.mark.parametrize("footer", [None, "", " \n"])
def test_no_footer_changes_nothing(footer):
    assert reply(_parent(), "x", **FIXED) == reply(_parent(), "x", footer=footer, **FIXED)
