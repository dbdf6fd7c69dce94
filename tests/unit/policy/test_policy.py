"""One value decides: every rule, what holds it, what lets it through."""

from __future__ import annotations

import re
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail import policy as policy_module
from agentmail.lookalikes import look_alike
from agentmail.message.auth import Auth
from agentmail.message.domains import address_key
from agentmail.message.models import Address, Message
from agentmail.policy import WAYS, Counts, Policy, Situation, decide, hop_of, resembles
from tests.corpus.limits import slowness

ANA, BOB, NEW = "ana@acme.test", "bob@acme.test", "new@elsewhere.test"
OWN = frozenset({"agent@ours.test"})


def tool(*recipients: str, **more: Any) -> Situation:
    return Situation(**{"origin": "tool", "recipients": recipients or (ANA,), "own": OWN, "wrote": {ANA}} | more)


def message(sender: str = ANA, **more: Any) -> Message:
    return Message(id="m7", sender=Address(email=sender), to=(Address(email="agent@ours.test"),), **more)


def rules(policy: Policy, situation: Situation) -> dict[str, str]:
    return {r.rule: r.action for r in decide(policy, situation).reasons}


def test_the_policy_is_one_frozen_value() -> None:
    policy = Policy(allow=("@acme.test",))
    with pytest.raises(Exception, match="frozen"):
        policy.allow = ()  # type: ignore[misc]
    assert policy == Policy.model_validate_json(policy.model_dump_json())
    with pytest.raises(Exception, match="extra"):
        Policy(per_minute=3)  # type: ignore[call-arg]


def test_the_defaults_of_the_contract() -> None:
    wanted = {
        "send": "auto", "reply_to": "participants", "new_recipients": "hold", "cross_read": "hold",
        "people_added_by_outsiders": "hold", "max_recipients": 10, "per_hour": 30, "per_day": 200, "max_unanswered": 2,
        "attachments": "thread", "remote_images": False, "max_link_length": 300, "answer_automatic": False,
        "mark_automatic": True, "footer": None, "per_thread_day": 10,
    }  # fmt: skip
    assert wanted == {k: v for k, v in Policy().model_dump().items() if k in wanted}


# -- who chose the people ---------------------------------------------------------------------------------------------


def test_program_code_may_write_to_anyone() -> None:
    assert "allow" == decide(Policy(), Situation(origin="program", recipients=(NEW,), own=OWN)).action


def test_checked_programs_are_held_like_tools() -> None:
    s = Situation(origin="program", recipients=(NEW,), own=OWN)
    assert {"new_recipients": "hold"} == rules(Policy(programs="checked"), s)


@pytest.mark.parametrize(("action", "expected"), [("hold", "hold"), ("deny", "deny"), ("allow", "allow")])
def test_new_recipients(action: Any, expected: str) -> None:
    decision = decide(Policy(new_recipients=action), tool(ANA, NEW))
    assert expected == decision.action
    if expected != "allow":
        assert [NEW] == [r.address for r in decision.reasons]
        assert "grant" in str(decision)


@pytest.mark.parametrize(
    "more",
    [{"known": {NEW}}, {"granted": {NEW}}, {"wrote": {NEW}}, {"own": {NEW}}, {"approved": True}],
)
def test_what_makes_somebody_not_new(more: dict[str, Any]) -> None:
    assert "allow" == decide(Policy(), tool(NEW, **more)).action


@pytest.mark.parametrize("entry", [NEW, "@elsewhere.test", "NEW@elsewhere.test"])
def test_the_allow_list(entry: str) -> None:
    assert "allow" == decide(Policy(allow=(entry,)), tool(NEW)).action


@pytest.mark.parametrize("address", ["x@sub.elsewhere.test", "x@notelsewhere.test", "elsewhere.test@evil.test"])
def test_a_domain_on_a_list_is_that_domain_only(address: str) -> None:
    assert "hold" == decide(Policy(allow=("@elsewhere.test",)), tool(address)).action


@pytest.mark.parametrize("more", [{"origin": "program"}, {"approved": True}, {"granted": {NEW}}])
def test_the_deny_list_is_for_everybody(more: dict[str, Any]) -> None:
    assert "deny" == decide(Policy(deny=("@elsewhere.test",), allow=(NEW,)), tool(NEW, **more)).action


@pytest.mark.parametrize(
    "entry", ["evil.test", "*@evil.test", "@", "x@", "Eve <eve@evil.test>", "a b@evil.test", "@.evil"]
)
@pytest.mark.parametrize("name", ["allow", "deny"])
def test_an_entry_that_would_match_nobody_is_refused(name: str, entry: str) -> None:
    """Who writes deny=("evil.test",) believes that nothing goes there."""
    with pytest.raises(ValueError, match="@domain"):
        Policy(**{name: (entry,)})  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ['"eve"@evil.test', '"e.v-e+x"@evil.test'])
def test_quotes_make_nobody_else(address: str) -> None:
    """RFC 5321 4.1.2: they are the same mailbox."""
    bare = address.replace('"', "")
    assert {"deny": "deny"} == rules(Policy(deny=(bare,)), tool(address, wrote={address}))
    assert {"deny": "deny"} == rules(Policy(deny=(address,)), tool(bare, wrote={bare}))
    assert {"new_recipients": "hold"} == rules(Policy(allow=("eve@evil.test",)), tool('"eve x"@evil.test'))


def test_people_added_by_outsiders() -> None:
    assert {"people_added_by_outsiders": "hold"} == rules(Policy(), tool(ANA, BOB, named={BOB}))
    assert {} == rules(Policy(), tool(ANA, BOB, named={BOB}, wrote={ANA, BOB}))


def test_reply_to_that_leads_elsewhere() -> None:
    lured = message(reply_to=(Address(email=NEW),))
    assert "reply_to" in rules(Policy(), tool(NEW, kind="reply", answers=lured, known={NEW}))
    assert "reply_to" not in rules(Policy(reply_to="anyone"), tool(NEW, kind="reply", answers=lured, known={NEW}))
    colleague = message(reply_to=(Address(email=BOB),))
    assert {} == rules(Policy(), tool(BOB, kind="reply", answers=colleague, known={BOB}))


@pytest.mark.parametrize(
    ("sender", "to", "expected"),
    [("ana@news.acme.test", BOB, set()), (ANA, "x@desk.acme.test", set()), (ANA, "x@notacme.test", {"reply_to"}),
     (ANA, "x@acme.test.evil.test", {"reply_to"}), (ANA, "x@test", {"reply_to"})],
)  # fmt: skip
def test_reply_to_within_an_organisation(sender: str, to: str, expected: set[str]) -> None:
    asked = message(sender, reply_to=(Address(email=to),))
    assert expected == set(rules(Policy(), tool(to, kind="reply", answers=asked, known={to}))) - {"look_alike"}


def test_a_forged_sender_is_nobody_we_know() -> None:
    forged = message(auth=Auth(server="mx.ours.test", dmarc="fail"))
    assert {"new_recipients": "hold"} == rules(Policy(), tool(ANA, kind="reply", answers=forged))


def test_reply_all_has_a_width() -> None:
    many = tuple(f"p{i}@acme.test" for i in range(11))
    assert {"max_recipients": "hold"} == rules(Policy(), tool(*many, wrote=set(many)))


def test_after_reading_other_threads() -> None:
    assert {"cross_read": "hold"} == rules(Policy(), tool(ANA, read_elsewhere=("t9",)))
    assert {} == rules(Policy(allow=("@acme.test",)), tool(ANA, read_elsewhere=("t9",)))


def test_everything_may_be_held() -> None:
    assert {"send": "hold"} == rules(Policy(send="draft"), tool())
    assert "allow" == decide(Policy(send="hold"), Situation(recipients=(NEW,))).action


# -- look-alikes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "known"),
    [("acrne.test", "acme.test"), ("exarnple.com", "example.com"), ("examp1e.com", "example.com"),
     ("example.co", "example.com"), ("exampel.com", "example.com"), ("exаmple.com", "example.com"),
     ("xn--exmple-4nf.com", "example.com"), ("éxample.com", "example.com"), ("micro-soft.com", "microsoft.com"),
     ("rnicrosoft.com", "microsoft.com"), ("paypaI.com".lower(), "paypal.com"), ("vvhatsapp.com", "whatsapp.com"),
     ("example.com.evil.test", "example.com"), ("login.example.com.evil.test", "example.com")],
)  # fmt: skip
def test_look_alikes(domain: str, known: str) -> None:
    if domain == "example.co":
        assert look_alike(domain, {known}) is None  # another top-level domain: too many honest ones
        return
    assert known == look_alike(domain, {known})
    assert "look_alike" in rules(Policy(), tool(f"x@{domain}", wrote={f"y@{known}"}))


@pytest.mark.parametrize(
    "domain",
    [
        "example.com",
        "other.org",
        "acme.example",
        "a.b",
        "mail.example.com",
        "example.com.br",
        "notexample.com.evil.test",
    ],
)
def test_not_look_alikes(domain: str) -> None:
    assert None is look_alike(domain, {"example.com", "acme.test", "b.c"})


@pytest.mark.parametrize(
    ("domain", "known"),
    [("mıcrosoft.com", "microsoft.com"), ("paypaɩ.com", "paypal.com"), ("аррӏе.com", "apple.com"),
     ("һotmail.com", "hotmail.com"), ("ѕtrіре.com", "stripe.com"), ("ԝikiрedia.org", "wikipedia.org"),
     ("amazοn.com", "amazon.com"), ("łinkedin.com", "linkedin.com"), ("ɢoogle.com", "google.com"),
     ("facebооk.com", "facebook.com"), ("straße-bank.com", "strasse-bank.com"), ("paypalς.com", "paypals.com"),
     ("clelta.com", "delta.com"), ("acme.com-login.test", "acme.com"), ("www.acme.com-secure.net", "acme.com"),
     ("mail.acrne.co.uk", "mail.acme.co.uk"), ("acmecorq.co.uk", "acmecorp.co.uk"),
     ("contos0.onmicrosoft.com", "contoso.onmicrosoft.com"), ("contosa.onmicrosoft.com", "contoso.onmicrosoft.com")],
)  # fmt: skip
def test_look_alikes_in_other_letters(domain: str, known: str) -> None:
    assert known == look_alike(address_key(f"x@{domain}")[2:], {known})


@pytest.mark.parametrize(
    ("domain", "known"),
    [("acme.lt", "acme.it"), ("acme.al", "acme.ai"), ("acmecorp.nl", "acmecorp.ni"),  # one company, two countries
     ("uk.acme.com", "us.acme.com"), ("mx1.acme.com", "mx2.acme.com"), ("shop1.acme.co.uk", "shop2.acme.co.uk"),
     ("mail.com", "gmail.com"), ("ymail.com", "gmail.com"), ("gmail.com", "mail.com"), ("email.com", "gmail.com"),
     ("acme.com", "mail.acme.com"), ("acme.de", "acme.com"), ("acme-bank.com", "acme.com"),
     ("hotmail.fr", "hotmail.com"), ("outlook.de", "outlook.es"), ("live.com", "line.com")],
)  # fmt: skip
def test_ordinary_pairs_are_no_look_alikes(domain: str, known: str) -> None:
    assert None is look_alike(domain, {known})


def test_whoever_is_around_can_be_imitated() -> None:
    """Not only those that this very mail goes to: mostly it goes to the imitator alone."""
    s = tool("ana@acrne.test", wrote={"ana@acrne.test"}, known={"ana@acrne.test"})
    assert {} == rules(Policy(), s)
    assert {"look_alike": "hold"} == rules(Policy(), s.model_copy(update={"around": frozenset({"acme.test"})}))
    assert {"look_alike": "hold"} == rules(Policy(allow=("Bob@ACME.test",)), s)


@pytest.mark.parametrize(
    ("to", "expected"),
    [("agent@ours.test", {}), ("Agent+orders@Ours.test", {}), ("support@ours.test", {"not_addressed": "hold"}),
     ("", {"not_addressed": "hold"})],
)  # fmt: skip
@pytest.mark.parametrize("origin", ["program", "tool"])
def test_mail_that_names_us_nowhere(to: str, expected: dict[str, str], origin: str) -> None:
    asked = Message(id="m7", sender=Address(email=ANA), to=(Address(email=to),) if to else ())
    s = tool(kind="reply", answers=asked, origin=origin)
    assert expected == rules(Policy(not_addressed="hold"), s)
    assert {} == rules(Policy(), s)
    assert {} == rules(Policy(not_addressed="hold"), s.model_copy(update={"approved": True}))


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["-----BEGIN OPENSSH PRIVATE KEY-----", "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a" * 36, "xoxb-123456789012-abc",
     "AIza" + "b" * 35, "sk_live_" + "c" * 24, "sk-" + "d" * 40,
     "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk", "-----BEGIN PGP PRIVATE KEY BLOCK-----",
     "AGE-SECRET-KEY-1" + "Q" * 58, "glpat-" + "a" * 20, "xapp-1-A0123456789-12345-ab", "GOCSPX-" + "a" * 28,
     "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXX", "ya29.a0" + "b" * 40, "sk_test_" + "c" * 24,
     "whsec_" + "d" * 32, "sk-proj-" + "a-_" * 16, "sk-ant-api03-" + "e-_" * 16, "sk-or-v1-" + "0a" * 32,
     "hf_" + "g" * 34, "npm_" + "h" * 36, "gsk_" + "i" * 52, "dop_v1_" + "0a" * 32, "shpat_" + "0a" * 16,
     "pypi-AgEIcHlwaS5vcmc" + "j" * 60, "SG." + "k" * 22 + "." + "l" * 43, "110201543:AA" + "m" * 33,
     "AccountKey=" + "n" * 86 + "==", "postgres://app:s3cr3t@db.test/x", "mongodb+srv://u:p4ss@c0.test"],
)  # fmt: skip
def test_secrets(text: str) -> None:
    assert {"secrets": "hold"} == rules(Policy(), tool(text=f"here it is: {text} bye"))
    assert text not in str(decide(Policy(), tool(text=text)))


@pytest.mark.parametrize(
    "text",
    ["Our key account is AKI.", "sk-learn is a library", "I begin a private key party",
     "xoxo-love-and-kisses-from-ana", "https://shop.test/sk-ako-si-vybrat-spravny-notebook-pre-pracu",
     "SG. is short for Sergeant.", "call 110201543:AAA", "http://x.test:8080/@ana", "https://ana@x.test/path",
     "at 12:30 http://x.test, a@b.test", "the npm_config_registry", "8f14e45f-ceea-467f-9a36-dedd4bea2543",
     "sha256:" + "0a" * 32],
)  # fmt: skip
def test_no_secrets(text: str) -> None:
    assert {} == rules(Policy(), tool(text=text))


@pytest.mark.parametrize(
    "html", ['<img src="http://x.test/a">', "<IMG alt=x SRC=//x.test>", '<p style="background:url(https://x/y)">'],
)  # fmt: skip
def test_remote_images(html: str) -> None:
    assert {"remote_images": "hold"} == rules(Policy(), tool(html=html))
    assert {} == rules(Policy(remote_images=True), tool(html=html))
    assert {} == rules(Policy(), tool(html='<img src="cid:logo">'))


@pytest.mark.parametrize(
    "html",
    ['<img alt="<" srcset="https://x.test/a 1x, b.png 2x">', '<img srcset="cid:a, https://x.test/b 2x">',
     "<table background=//x.test/a>", '<video poster="https://x.test/a">', '<img src="&#104;ttps:&#x2f;/x.test/a">',
     "<style>@import 'https://x.test/a.css';</style>", '<link rel=stylesheet href="https://x.test/a.css">',
     '<svg><image href="//x.test/a"/></svg>', "<img src='\n https://x.test/a'>", "<object data=https://x.test/a>"],
)  # fmt: skip
def test_what_is_fetched_is_not_only_an_image(html: str) -> None:
    assert {"remote_images": "hold"} == rules(Policy(), tool(html=html))


@pytest.mark.parametrize(
    "html",
    ['<a href="https://x.test/a.png">look</a>', '<img data-src="https://x.test/a" src="cid:b">', "the src is 7",
     "&lt;img src=&quot;https://x.test/a&quot;&gt;", '<img src="data:image/png;base64,//x">', "see https://x.test",
     "<base target=_blank>", "curl (https://x.test)"],
)  # fmt: skip
def test_what_nobody_fetches(html: str) -> None:
    assert {} == rules(Policy(), tool(html=html))


@pytest.mark.parametrize("piece", ["src=", "src='", 'src="', "url( ", "<link ", " ", "@import ", "![", "src = "])
def test_looking_for_it_takes_no_time(piece: str) -> None:
    """Each of these grew with the square of the length in some way of writing the patterns."""
    began = process_time()
    rules(Policy(max_link_length=10**9), tool(html=piece * (100_000 // len(piece))))
    assert process_time() - began < 5 * slowness()


def test_long_links_carry_data() -> None:
    assert {"max_link_length": "hold"} == rules(Policy(), tool(text="https://x.test/?q=" + "a" * 300))
    assert {} == rules(Policy(), tool(text="https://x.test/" + "a" * 200))


def test_attachments_of_other_threads() -> None:
    assert {"attachments": "hold"} == rules(Policy(), tool(attachments_elsewhere=("salaries.xlsx",)))
    assert {} == rules(Policy(attachments="mailbox"), tool(attachments_elsewhere=("salaries.xlsx",)))
    assert {"attachments": "hold"} == rules(Policy(attachments="none"), tool(attachments_unknown=("a.txt",)))


# -- loops: for programs too ------------------------------------------------------------------------------------------


def reply(answers: Message | None = None, **more: Any) -> Situation:
    given = {"kind": "reply", "recipients": (ANA,), "own": OWN, "answers": answers or message()}
    return Situation(**given | more)


@pytest.mark.parametrize("kind", ["bounce", "auto-reply", "list", "bulk"])
def test_machines_are_not_answered(kind: Any) -> None:
    assert "deny" == decide(Policy(), reply(message(automated=kind))).action
    assert "allow" == decide(Policy(answer_automatic=True), reply(message(automated=kind))).action


def test_agents_may_talk_to_each_other() -> None:
    assert "allow" == decide(Policy(), reply(message(automated="agent"))).action


@pytest.mark.parametrize("header", ["List-Id", "List-Post"])
def test_agents_do_not_talk_over_a_list(header: str) -> None:
    """Each of its members may be one."""
    posted = message(automated="agent", headers=((header, "<team.acme.test>"),))
    assert "deny" == decide(Policy(), reply(posted)).action


def test_a_null_sender_is_not_answered() -> None:
    empty = (("Return-Path", "<>"),)
    assert "deny" == decide(Policy(), reply(message(automated="agent", headers=empty))).action
    assert "deny" == decide(Policy(), reply(message(headers=(("Return-Path", "<>"),)))).action
    assert "allow" == decide(Policy(), reply(message(headers=(("Return-Path", "<ana@acme.test>"),)))).action


@pytest.mark.parametrize(
    "address",
    ["no-reply@x.test", "noreply@x.test", "do_not_reply@x.test", "news-noreply@x.test", "noreply+7@x.test",
     "mailer-daemon@x.test", "postmaster@x.test", "owner-list@x.test", "list-request@x.test", "list-bounces@x.test",
     "bounce@x.test", "bounces+7@x.test", "do-not-respond@x.test", "noresponse@x.test", "auto-reply@x.test",
     "autoresponder@x.test"],
)  # fmt: skip
def test_nobody_reads_these(address: str) -> None:
    assert "deny" == decide(Policy(), reply(recipients=(address,))).action


@pytest.mark.parametrize(
    "address",
    [
        "nora.reply@x.test",
        "casino-reply-desk@x.test",
        "requests@x.test",
        "owner@x.test",
        "bouncer@x.test",
        "auto@x.test",
        "response@x.test",
    ],
)
def test_somebody_reads_these(address: str) -> None:
    assert "allow" == decide(Policy(), reply(recipients=(address,))).action


def test_never_to_ourselves_alone() -> None:
    assert "deny" == decide(Policy(), reply(recipients=("agent@ours.test",))).action
    assert "allow" == decide(Policy(), reply(recipients=("agent@ours.test", ANA))).action


@pytest.mark.parametrize(
    ("counts", "rule"),
    [({"thread_10_minutes": 5}, "per_thread_10_minutes"), ({"thread_day": 10}, "per_thread_day"),
     ({"person_day": {ANA: 10}}, "per_person_day"), ({"replies_hour": 200}, "replies_per_hour"),
     ({"domain_hour": {"acme.test": 60}}, "replies_per_domain_hour")],
)  # fmt: skip
def test_caps(counts: dict[str, Any], rule: str) -> None:
    assert {rule: "hold"} == rules(Policy(), reply(counts=Counts(**counts)))
    below = {k: {a: n - 1 for a, n in v.items()} if isinstance(v, dict) else v - 1 for k, v in counts.items()}
    assert {} == rules(Policy(), reply(counts=Counts(**below)))
    assert {} == rules(Policy(), Situation(kind="new", recipients=(ANA,), counts=Counts(**counts)))


def test_a_person_may_double_the_cap_of_a_person() -> None:
    assert {} == rules(Policy(), reply(counts=Counts(person_day={ANA: 15}), approved=True))
    assert {"per_person_day": "hold"} == rules(Policy(), reply(counts=Counts(person_day={ANA: 20}), approved=True))


def test_the_same_again_and_again() -> None:
    assert {"loop:same-again": "hold"} == rules(Policy(), reply(same_again=3))
    assert {} == rules(Policy(), reply(same_again=2))


@pytest.mark.parametrize(
    ("value", "hops"), [("abc;hop=6", 6), ("abc; hop=5", 5), ("", 0), ("hop=9", 0), ("x;hop=-1", 0)]
)
def test_hops(value: str, hops: int) -> None:
    looped = message(headers=(("X-Agentmail-Loop", value),), automated="agent")
    assert hops == hop_of(looped)
    assert ("hold" if hops > 5 else "allow") == decide(Policy(), reply(looped)).action


def test_tools_have_rates_and_wait_for_answers() -> None:
    assert {"per_hour": "hold"} == rules(Policy(), tool(counts=Counts(tool_hour=30)))
    assert {"per_day": "hold"} == rules(Policy(), tool(counts=Counts(tool_day=200)))
    assert {"max_unanswered": "hold"} == rules(Policy(), tool(counts=Counts(unanswered=2)))


def test_an_answer_to_very_many_is_held_for_programs_too() -> None:
    """Others wrote the list, whoever wrote the program."""
    many = tuple(f"p{i}@acme.test" for i in range(51))
    for origin in ("program", "tool"):
        wide = Situation(origin=origin, kind="reply", recipients=many, own=OWN, wrote=frozenset(many))
        assert "hold" == rules(Policy(), wide)["max_reply_all"]
        assert "max_reply_all" not in rules(Policy(max_reply_all=51), wide)
        assert "max_reply_all" not in rules(Policy(), wide.model_copy(update={"approved": True}))
        assert "max_reply_all" not in rules(Policy(), wide.model_copy(update={"kind": "new"}))


def test_every_rule_says_what_would_allow_it() -> None:
    """A rule without a way out would be a dead end for whoever reads it; a way without a rule is a leftover."""
    source = Path(policy_module.__file__).read_text()
    used = set(re.findall(r'rule="([^"]+)"', source)) | set(re.findall(r'_cap\("([^"]+)"', source))
    assert used == set(WAYS)


# -- properties -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("html", [
    "<p>AKIA<b>IOSF</b>ODNN7EXAMPLE</p>", "&#65;KIAIOSFODNN7EXAMPLE", "&#x41;KIA<!-- -->IOSFODNN7EXAMPLE",
    "AKIA<span style='x'></span>IOSFODNN7EXAMPLE", "AKIA&#8203;IOSFODNN7EXAMPLE", "AKIA&shy;IOSFODNN7EXAMPLE",
    "<a title='>'>AKIA</a>IOSFODNN7EXAMPLE", "AKIA<b title='>'></b>IOSFODNN7EXAMPLE", "AKIA<b o'b>IOSFODNN7EXAMPLE",
    "AKIA<!-->IOSFODNN7EXAMPLE<!-- -->", "AKIA<!--->IOSFODNN7EXAMPLE<!-- -->", "AKIA<!-- --!>IOSFODNN7EXAMPLE<!-- -->",
    "AKIA<!--!> -->IOSFODNN7EXAMPLE", "AKIA<!-- > -->IOSFODNN7EXAMPLE",
])  # fmt: skip
def test_a_secret_is_read_as_its_reader_sees_it(html: str) -> None:
    """Markup in the middle of it changes nothing for who copies it out of the mail."""
    assert {"secrets": "hold"} == rules(Policy(), tool(text="here it is", html=html))


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\u2060", "\ufeff", "\u200d"])
def test_what_nobody_sees_hides_no_secret(hidden: str) -> None:
    assert {"secrets": "hold"} == rules(Policy(), tool(text=f"AKIA{hidden}IOSFODNN{hidden}7EXAMPLE"))


def test_reading_what_a_reader_sees_takes_no_time() -> None:
    start = process_time()
    for html in ("<" * 200_000, "<a" * 100_000, "&" * 200_000, "<!--" * 50_000, "\u200b" * 200_000, "<a b='" * 40_000,
                 "<a b='>" * 30_000, "<!-->" * 40_000, "<a '" + "'>" * 50_000):  # fmt: skip
        rules(Policy(), tool(html=html))
    assert process_time() - start < 5 * slowness()


addresses = st.sampled_from([ANA, BOB, NEW, "x@acrne.test", "no-reply@acme.test", "agent@ours.test"])
situations = st.builds(
    Situation,
    origin=st.sampled_from(["program", "tool"]),
    kind=st.sampled_from(["new", "reply", "forward"]),
    recipients=st.lists(addresses, min_size=1, max_size=4).map(tuple),
    own=st.just(OWN),
    wrote=st.frozensets(addresses),
    named=st.frozensets(addresses),
    known=st.frozensets(addresses),
    granted=st.frozensets(addresses),
    same_again=st.integers(0, 4),
    approved=st.booleans(),
    counts=st.builds(Counts, thread_day=st.integers(0, 12), tool_hour=st.integers(0, 40), unanswered=st.integers(0, 4)),
)


@given(situations)
def test_a_decision_is_deterministic_and_says_why(s: Situation) -> None:
    decision = decide(Policy(), s)
    assert decision == decide(Policy(), s)
    assert (decision.action == "allow") == (not decision.reasons)
    for reason in decision.reasons:
        assert f"({reason.rule}). {WAYS[reason.rule]}" in reason.text
        assert (reason.address or "") in reason.text


@given(situations, addresses)
def test_denying_somebody_never_lets_more_through(s: Situation, address: str) -> None:
    rank = ["allow", "hold", "deny"]
    before = rank.index(decide(Policy(), s).action)
    assert before <= rank.index(decide(Policy(deny=(address,)), s).action)


@given(situations)
def test_a_tool_never_gets_what_a_program_does_not(s: Situation) -> None:
    rank = ["allow", "hold", "deny"]
    program, model = (s.model_copy(update={"origin": o}) for o in ("program", "tool"))
    assert rank.index(decide(Policy(), program).action) <= rank.index(decide(Policy(), model).action)


@given(st.text(max_size=200))
def test_a_text_resembles_itself(text: str) -> None:
    assert resembles(text, text)


def test_numbers_and_a_word_do_not_make_another_text() -> None:
    one = "Your ticket 4711 was received. We will come back to you within 24 hours. Do not answer this message."
    assert resembles(one, one.replace("4711", "4712").replace("24", "48"))
    assert not resembles(one, "Thanks, Tuesday at ten is fine for me. See you then!")
