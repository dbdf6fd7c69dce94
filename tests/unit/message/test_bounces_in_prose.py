# ruff: noqa: E501  what servers write on one line stays on one line
"""Bounces that are prose, or nearly so, in the forms of qmail, Exim, Exchange, Gmail, Postfix, Sendmail, Domino and others.

Invented from the forms of the programs. Of each: the id of the mail that came back, and who did not get it.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from agentmail import parse


class Returned(NamedTuple):
    name: str
    raw: str
    message_id: str | None
    recipients: list[tuple[str, str, str]]
    """Address, action, status."""


RETURNED = [
    Returned(
        "qmail",
        """From: MAILER-DAEMON@mx.example
To: bot@y.example
Subject: failure notice
Date: Fri, 20 Nov 2026 09:14:00 +0100

Hi. This is the qmail-send program at mx.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<joe@dest.example>:
192.0.2.1 does not like recipient.
Remote host said: 550 5.1.1 <joe@dest.example>: Recipient address rejected: User unknown
Giving up on 192.0.2.1.

<ann@dest.example>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

Return-Path: <bot@y.example>
Received: (qmail 1 invoked from network); 20 Nov 2026 08:00:00 -0000
Message-ID: <orig-1@y.example>
To: joe@dest.example

hello <other@nowhere.example> failed 550
""",
        "<orig-1@y.example>",
        [("joe@dest.example", "failed", "5.1.1"), ("ann@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "exim",
        """Return-path: <>
X-Failed-Recipients: joe@dest.example
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example>
To: bot@y.example
Subject: Mail delivery failed: returning message to sender

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  joe@dest.example
    host mail.dest.example [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<joe@dest.example>:
    550 5.1.1 User unknown

------ This is a copy of the message, including all the headers. ------

Return-path: <bot@y.example>
Message-ID: <orig-2@y.example>
Subject: Hi
""",
        "<orig-2@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "exim delay",
        """Return-path: <>
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example>
To: bot@y.example
Subject: Warning: message 1abc-000 delayed 24 hours

This message was created automatically by mail delivery software.
A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on mx.example.

The message identifier is:     1abc-000
The subject of the message is: Hi
The date of the message is:    Fri, 20 Nov 2026 09:14:00 +0100

The address to which the message has not yet been delivered is:

  joe@dest.example
    host mail.dest.example [192.0.2.1]
    Delay reason: Connection timed out

No action is required on your part. Delivery attempts will continue for
some time, and this warning may be repeated at intervals if the message
remains undelivered. Eventually the mail delivery software will give up,
and when that happens, the message will be returned to you.
""",
        None,
        [("joe@dest.example", "delayed", "")],
    ),
    Returned(
        "exchange ndr plain",
        """From: Microsoft Exchange <postmaster@corp.example>
To: bot@y.example
Subject: Undeliverable: Hi
X-MS-Exchange-Message-Is-Ndr:
In-Reply-To: <orig-3@y.example>
Content-Type: text/plain

Delivery has failed to these recipients or groups:

joe@dest.example<mailto:joe@dest.example>
The email address you entered couldn't be found. Please check the recipient's email address.

Diagnostic information for administrators:

Generating server: corp.example

joe@dest.example
Remote Server returned '550 5.1.1 RESOLVER.ADR.RecipNotFound; not found'

Original message headers:

Received: from x
Message-ID: <orig-3@y.example>
""",
        "<orig-3@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "exchange 2003",
        """From: postmaster@corp.example
To: bot@y.example
Return-Path: <>
Subject: Delivery Status Notification (Failure)

This is an automatically generated Delivery Status Notification.

Delivery to the following recipients failed.

       joe@dest.example

""",
        None,
        [("joe@dest.example", "failed", "")],
    ),
    Returned(
        "exchange 5.5",
        """From: System Administrator <postmaster@corp.example>
To: bot@y.example
Subject: Undeliverable: Hi

Your message

  To:      joe@dest.example
  Subject: Hi
  Sent:    Fri, 20 Nov 2026 09:14:00 +0100

did not reach the following recipient(s):

joe@dest.example on Fri, 20 Nov 2026 09:15:00 +0100
    The recipient name is not recognized
\tThe MTS-ID of the original message is: c=us;a= ;p=x
    MSEXCH:IMS:X:Y:Z 0 (000C05A6) Unknown Recipient
""",
        None,
        [("joe@dest.example", "failed", "")],
    ),
    Returned(
        "gmail plain",
        """From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
To: bot@y.example
X-Failed-Recipients: joe@dest.example
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)

** Address not found **

Your message wasn't delivered to joe@dest.example because the address couldn't be found, or is unable to receive mail.

The response from the remote server was:
550 5.1.1 The email account that you tried to reach does not exist.

----- Original message -----

Message-ID: <orig-4@y.example>
""",
        "<orig-4@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "postfix plain (no dsn)",
        """From: Mail Delivery System <MAILER-DAEMON@mx.example>
To: bot@y.example
Subject: Undelivered Mail Returned to Sender
Date: Fri, 20 Nov 2026 09:14:00 +0100
Message-ID: <b@mx.example>

This is the mail system at host mx.example.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

                   The mail system

<joe@dest.example>: host mail.dest.example[192.0.2.1] said: 550 5.7.1
    <joe@dest.example>: Relay access denied (in reply to RCPT TO command)

<ann@dest.example> (expanded from <all@y.example>): unknown user: "ann"
""",
        None,
        [("joe@dest.example", "failed", "5.7.1"), ("ann@dest.example", "failed", "")],
    ),
    Returned(
        "sendmail old",
        """From: Mail Delivery Subsystem <MAILER-DAEMON@mx.example>
To: bot@y.example
Subject: Returned mail: see transcript for details

The original message was received at Fri, 20 Nov 2026 09:14:00 +0100
from y.example [192.0.2.9]

   ----- The following addresses had permanent fatal errors -----
<joe@dest.example>
    (reason: 550 5.1.1 <joe@dest.example>... User unknown)

   ----- Transcript of session follows -----
... while talking to mail.dest.example.:
>>> DATA
<<< 550 5.1.1 <joe@dest.example>... User unknown
550 5.1.1 <joe@dest.example>... User unknown
<<< 503 5.0.0 Need RCPT (recipient)

   ----- Original message follows -----

Message-Id: <orig-5@y.example>
""",
        "<orig-5@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "lotus",
        """From: Postmaster@corp.example
To: bot@y.example
Subject: DELIVERY FAILURE: User joe (joe@dest.example) not listed in Domino Directory

Your message

  Subject: Hi

was not delivered to:

  joe@dest.example

because:

  User joe (joe@dest.example) not listed in Domino Directory
""",
        None,
        [("joe@dest.example", "failed", "")],
    ),
    Returned(
        "yahoo",
        """From: MAILER-DAEMON@yahoo.example
To: bot@y.example
Subject: Failure Notice

Sorry, we were unable to deliver your message to the following address.

<joe@dest.example>:
No mx record found for domain=dest.example

--- Below this line is a copy of the message.

Message-ID: <orig-6@y.example>
""",
        "<orig-6@y.example>",
        [("joe@dest.example", "failed", "")],
    ),
    Returned(
        "courier/AOL",
        """From: MAILER-DAEMON@aol.example
To: bot@y.example
Subject: Mail System Error - Returned Mail

This Message was undeliverable due to the following reason:

Your message was not delivered because the destination computer refused
to accept it (the error message is reproduced below).

The following recipients did not receive this message:

<joe@dest.example>

Host dest.example refused: 550 mailbox unavailable
""",
        None,
        [("joe@dest.example", "failed", "5.0.0")],
    ),
    Returned(
        "imail",
        """From: postmaster@mx.example
To: bot@y.example
Subject: Undeliverable Mail

Unknown user: joe@dest.example

RCPT TO generated following response:
550 5.1.1 User unknown

Original message follows.

Message-ID: <orig-7@y.example>
""",
        "<orig-7@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "mailenable",
        """From: Postmaster <postmaster@mx.example>
To: bot@y.example
Subject: Message Delivery Failure

MailEnable: Message could not be delivered to some recipients.
The following recipient(s) could not be reached:

\tRecipient: [SMTP:joe@dest.example]
\tReason: Remote SMTP Server Returned: 550 5.1.1 unknown user

Message headers follow:

Message-ID: <orig-8@y.example>
""",
        "<orig-8@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "zoho",
        """From: mailer-daemon@mail.zoho.example
To: bot@y.example
Subject: Undelivered Mail Returned to Sender

This message was created automatically by mail delivery software.
A message that you sent could not be delivered to one or more of its recipients. This is a permanent error.

joe@dest.example, ERROR CODE :550 - 5.1.1 User unknown

Received:from mail.zoho.example
Message-ID:<orig-9@y.example>
""",
        "<orig-9@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "gmx",
        """From: "GMX Mailer Daemon" <mailer-daemon@gmx.example>
To: bot@y.example
Subject: Mail delivery failed: returning message to sender

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of
its recipients. This is a permanent error. The following address(es)
failed:

joe@dest.example:
SMTP error from remote server for RCPT TO command, host: mx.dest.example (192.0.2.1) reason: 550 5.1.1 unknown


--- The header of the original message is following. ---

Message-ID: <orig-10@y.example>
""",
        "<orig-10@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "dsn inside with weird case",
        """From: Mail Delivery System <MAILER-DAEMON@mx.example>
To: bot@y.example
Subject: Undelivered Mail Returned to Sender
Date: Fri, 20 Nov 2026 09:14:00 +0100
Content-Type: Multipart/Report; Report-Type="delivery-status"; boundary="b"

--b
Content-Type: text/plain

failed

--b
Content-Type: Message/Delivery-Status

Reporting-MTA: dns;mx.example
Arrival-Date: x

Final-Recipient: RFC822;<joe@dest.example>
Action: FAILED
Status: 5.0.0 (permanent failure)
Diagnostic-Code: smtp;550-5.7.26 blocked
 550 5.7.26 see more
--b
Content-Type: Text/RFC822-Headers

Message-Id:
 <orig-11@y.example>
--b--
""",
        "<orig-11@y.example>",
        [("joe@dest.example", "failed", "5.7.26")],
    ),
    Returned(
        "ses",
        """From: MAILER-DAEMON@amazonses.example
To: bot@y.example
Subject: Delivery Status Notification (Failure)
Content-Type: multipart/report; boundary="b"; report-type=delivery-status

--b
Content-Type: text/plain

An error occurred while trying to deliver the mail to the following recipients:
joe@dest.example
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; a1.smtp-out.example

Action: failed
Final-Recipient: rfc822; joe@dest.example
Diagnostic-Code: smtp; 550 5.1.1 user unknown
Status: 5.1.1

--b
Content-Type: message/rfc822

From: bot@y.example
Message-ID: <orig-12@y.example>

hi
--b--
""",
        "<orig-12@y.example>",
        [("joe@dest.example", "failed", "5.1.1")],
    ),
    Returned(
        "german telekom",
        """From: Mail Delivery System <MAILER-DAEMON@mx.example>
To: bot@y.example
Subject: Unzustellbare Nachricht
Return-Path: <>

Ihre Nachricht konnte nicht zugestellt werden:

<joe@dest.example>:
550 5.1.1 unbekannter Benutzer
""",
        None,
        [("joe@dest.example", "failed", "5.1.1")],
    ),
]


@pytest.mark.parametrize("returned", RETURNED, ids=lambda returned: returned.name)
def test_what_came_back_for_whom_and_why(returned: Returned) -> None:
    message = parse(returned.raw.replace("\n", "\r\n").encode())
    assert message.automated == "bounce"
    assert message.bounce is not None
    assert message.bounce.message_id == returned.message_id
    assert [(one.email, one.action, one.status) for one in message.bounce.recipients] == returned.recipients


def test_an_address_that_only_stands_in_the_text_did_not_fail() -> None:
    """A person's answer with "could not be delivered" in it names nobody, and is no bounce."""
    raw = "From: ana@x.example\nTo: bot@y.example\nSubject: Undelivered parcel\n\nIt was not delivered to:\n\nben@x.example\n"
    assert parse(raw.encode()).automated is None
