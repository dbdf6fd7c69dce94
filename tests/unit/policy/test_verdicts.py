"""What a server's answer means for the row and for the whole account, in the words that providers use."""

from __future__ import annotations

import pytest

from agentmail.smtp import Outcome
from agentmail.store.attempts import Result
from agentmail.store.submissions import RecipientState, Submission
from agentmail.verdicts import Stop, judge

DAY, HOUR, MINUTE = 4 * 3600.0, 3600.0, 60.0


def row(*people: str, attempts: int = 1) -> Submission:
    return Submission(
        id=1, account="a@x.test", state="sending", kind="new", origin="program", agent="", key=None, message_id="<a@b>",
        message=1, thread=1, answers=None, mail_from="a@x.test", subject="", size=1, at_most_once=False, reasons=[],
        created_at=0.0, next_at=0.0, expires_at=1e9, attempts=attempts, epoch=1, marker_at=None, looks=0, code=None,
        error="", reply="", sent_at=None, copied=False, decision="", decided_by="", decided_at=None,
        recipients=tuple(map(RecipientState, people or ("ana@x.test",))),
    )  # fmt: skip


def judged(said: str, *, step: str = "dot", attempts: int = 1) -> tuple[Result, Stop | None]:
    code = int(said[:3])
    refused = {"ana@x.test": (code, said[4:])} if step == "rcpt" else {}
    state = "temporary" if code < 500 else "permanent"
    return judge(row(attempts=attempts), Outcome(state, step, code, said[4:], refused))  # type: ignore[arg-type]


OURS = [
    ("550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to x", DAY),
    ("550 5.4.5 Daily SMTP relay limit exceeded for customer. For more information on SMTP relay", DAY),
    ("550 5.4.5 Daily sending quota exceeded - gsmtp", DAY),
    ("550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients", DAY),
    ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message", DAY),
    ("554 5.2.0 The message can't be submitted because the sender's submission quota was exceeded.", DAY),
    ("550 5.7.233 your tenant exceeded its daily limit for external recipients (tenant rate limit)", DAY),
    ("554 User bob has exceeded its 24-hour sending limit. Messages to 250 recipients out of 250 allowed", DAY),
    ("454 Throttling failure: Daily message quota exceeded.", DAY),
    ("554 Message rejected: Sending paused for this account. For more information, please check the inbox", DAY),
    ("550 Mail send limit for this account exceeded", DAY),
    ("554 5.7.1 <ana@x.test>: Recipient address rejected: You have exceeded your Outmail quota.", DAY),
    ("554 5.7.1 <ana@x.test>: Recipient address rejected: Policy Rejection-SENDER_QUOTA_REJECTION", DAY),
    ("450 4.7.1 <ana@x.test>: Recipient address rejected: Policy Rejection- Quota Exceeded.", DAY),
    ("550 Domain x.test has exceeded the max emails per hour (313/250 (125%)) allowed. Message discarded.", HOUR),
    ("550 Domain x.test has exceeded the max defers and failures per hour (5/5 (100%)) allowed. Message discarded.",
     HOUR),
    ("550 5.7.1 <ana@x.test>: Recipient address rejected: Number messages per hour exceeded", HOUR),
    ("454 Throttling failure: Maximum sending rate exceeded.", MINUTE),
    ("432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending", MINUTE),
    ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", MINUTE),
    ("421 4.4.2 Message submission rate for this client has exceeded the configured limit", MINUTE),
    ("421 too many messages in this connection", MINUTE),
    ("550 Too many messages. Try again in 92 seconds.", MINUTE),
    ("450 4.7.1 Error: too much mail from 192.0.2.1", MINUTE),
    ("550 5.4.6 mail rate exceeded limit", MINUTE),
    ("451 4.7.1 <a@x.test>: Sender address rejected: Rate limit reached", MINUTE),
]  # fmt: skip


@pytest.mark.parametrize(("said", "rest"), OURS)
@pytest.mark.parametrize("step", ["mail", "rcpt", "dot"])
def test_a_limit_of_ours_rests_the_account_and_fails_nothing(said: str, rest: float, step: str) -> None:
    result, stop = judged(said, step=step)
    assert stop is not None
    assert ("queued", "limit", rest) == (result.state, stop.cause, stop.rest)
    assert not result.recipients


OTHERS = [
    "552 5.2.3 Your message exceeded Google's message size limits. Visit https://support.google.com/x to view our size",
    "552 5.3.4 Message size exceeds fixed limit",
    "552 5.2.3 message size limit exceeded",
    "554 5.2.3 the maximum size limit was exceeded",
    "552 5.2.2 <ana@x.test>: Recipient address rejected: Mailbox quota exceeded",
    "552 5.2.2 <ana@x.test> Quota exceeded (mailbox for user is full)",
    "552 <ana@x.test>... Mail quota exceeded",
    "452 4.2.2 The email account that you tried to reach is over quota",
    "550 5.2.122 The recipient has exceeded their limit for the number of messages they can receive per hour",
    "452 4.2.2 Recipient mailbox has exceeded its storage limit",
    "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message later",
    "554 5.4.14 Hop count exceeded - possible mail loop",
    "452 4.5.3 Too many recipients",
    "550 5.1.1 user unknown",
    "550 5.7.1 header line length limit exceeded",
    "550 5.7.1 This message is likely unsolicited mail",
]  # fmt: skip


@pytest.mark.parametrize("said", OTHERS)
@pytest.mark.parametrize("step", ["rcpt", "dot"])
def test_what_is_wrong_with_one_mail_rests_nobody(said: str, step: str) -> None:
    """It would come again and again, and each time all the others would wait."""
    result, stop = judged(said, step=step)
    assert stop is None
    assert ("queued" if said[0] == "4" else "failed") == result.state


def test_a_limit_that_some_recipients_met_fails_none_of_them() -> None:
    limit = (550, "5.4.5 Daily user sending limit exceeded")
    people = ("ana@x.test", "bob@x.test", "eve@x.test")
    refused = {"bob@x.test": limit, "eve@x.test": (550, "5.1.1 no such user")}
    result, stop = judge(row(*people), Outcome("sent", "dot", 250, "ok", refused))
    assert stop is not None
    assert "queued" == result.state
    assert {"ana@x.test": "sent", "bob@x.test": "pending", "eve@x.test": "failed"} == {
        a: r.state for a, r in result.recipients.items()
    }
    refused["ana@x.test"] = limit
    code, text = min(refused.values())
    result, stop = judge(row(*people), Outcome("permanent", "rcpt", code, text, refused))
    assert stop is not None
    assert ("queued", {"eve@x.test": "failed"}) == (
        result.state, {a: r.state for a, r in result.recipients.items()},
    )  # fmt: skip


def test_a_mail_that_meets_a_limit_each_time_lets_the_others_go_first() -> None:
    assert [0.0, 0.0, 1200.0, 2400.0] == [judged("550 Too many messages.", attempts=n)[0].delay for n in (1, 2, 3, 4)]
