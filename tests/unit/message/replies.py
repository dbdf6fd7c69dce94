# ruff: noqa: E501  what programs write on one line stays on one line
"""Replies as mail programs write them, in the languages they speak, and what of each is new.

Invented from the forms of the programs, not taken from anybody's mail. Read by the tests and by bench/quotes.py.
"""

from __future__ import annotations

from typing import NamedTuple


class Reply(NamedTuple):
    name: str
    text: str
    html: str | None
    new: str


ANSWER = "Yes, Tuesday suits me.\n\nAna"
QUOTE = "> Shall we meet on Tuesday?\n>\n> Ben"

ATTRIBUTIONS = {
    "en gmail": "On Tue, May 5, 2026 at 10:00 AM Ben Okri <ben@example.org> wrote:",
    "en gmail wrapped": "On Tue, May 5, 2026 at 10:00 AM Ben Okri of the Long Department Name\n<ben@example.org> wrote:",
    "en thunderbird": "On 5/5/26 10:00, Ben Okri wrote:",
    "en apple": "On May 5, 2026, at 10:00 AM, Ben Okri <ben@example.org> wrote:",
    "en mutt": "* Ben Okri <ben@example.org> [2026-05-05 10:00]:",
    "en yahoo": "On Tuesday, May 5, 2026 at 10:00:00 AM GMT+2, Ben Okri <ben@example.org> wrote:",
    "en proton": "On Tuesday, May 5th, 2026 at 10:00 AM, Ben Okri <ben@example.org> wrote:",
    "en gnus": "Ben Okri <ben@example.org> writes:",
    "de gmail": "Am Di., 5. Mai 2026 um 10:00 Uhr schrieb Ben Okri <ben@example.org>:",
    "de thunderbird": "Am 05.05.26 um 10:00 schrieb Ben Okri:",
    "de apple": "Am 05.05.2026 um 10:00 schrieb Ben Okri <ben@example.org>:",
    "de short": "Ben Okri <ben@example.org> schrieb am Di., 5. Mai 2026, 10:00:",
    "fr gmail": "Le mar. 5 mai 2026 à 10:00, Ben Okri <ben@example.org> a écrit :",
    "fr thunderbird": "Le 05/05/2026 à 10:00, Ben Okri a écrit :",
    "fr apple": "Le 5 mai 2026 à 10:00, Ben Okri <ben@example.org> a écrit :",
    "es gmail": "El mar, 5 may 2026 a las 10:00, Ben Okri (<ben@example.org>) escribió:",
    "es thunderbird": "El 5/5/26 a las 10:00, Ben Okri escribió:",
    "pt gmail": "Em ter., 5 de mai. de 2026 às 10:00, Ben Okri <ben@example.org> escreveu:",
    "pt portugal": "Ben Okri <ben@example.org> escreveu (terça, 5/05/2026 à(s) 10:00):",
    "it gmail": "Il giorno mar 5 mag 2026 alle ore 10:00 Ben Okri <ben@example.org> ha scritto:",
    "it thunderbird": "Il 05/05/2026 10:00, Ben Okri ha scritto:",
    "nl gmail": "Op di 5 mei 2026 om 10:00 schreef Ben Okri <ben@example.org>:",
    "nl apple": "Op 5 mei 2026, om 10:00 heeft Ben Okri <ben@example.org> het volgende geschreven:",
    "sv gmail": "Den tis 5 maj 2026 kl 10:00 skrev Ben Okri <ben@example.org>:",
    "sv apple": "5 maj 2026 kl. 10:00 skrev Ben Okri <ben@example.org>:",
    "da gmail": "Den tirs. 5. maj 2026 kl. 10.00 skrev Ben Okri <ben@example.org>:",
    "da apple": "Den 5. maj 2026 kl. 10.00 skrev Ben Okri <ben@example.org>:",
    "nb gmail": "tir. 5. mai 2026 kl. 10:00 skrev Ben Okri <ben@example.org>:",
    "nb thunderbird": "Den 05.05.2026 10:00, skrev Ben Okri:",
    "fi gmail": "ti 5. toukok. 2026 klo 10.00 Ben Okri (ben@example.org) kirjoitti:",
    "fi thunderbird": "Ben Okri kirjoitti 5.5.2026 klo 10.00:",
    "pl gmail": "wt., 5 maj 2026 o 10:00 Ben Okri <ben@example.org> napisał(a):",
    "pl thunderbird": "W dniu 5.05.2026 o 10:00, Ben Okri pisze:",
    "cs gmail": "út 5. 5. 2026 v 10:00 odesílatel Ben Okri <ben@example.org> napsal:",
    "cs thunderbird": "Dne 05. 05. 26 v 10:00 Ben Okri napsal(a):",
    "tr gmail": "Ben Okri <ben@example.org>, 5 May 2026 Sal, 10:00 tarihinde şunu yazdı:",
    "tr apple": "Ben Okri <ben@example.org> şunları yazdı (5 May 2026 10:00):",
    "ru gmail": "вт, 5 мая 2026 г. в 10:00, Ben Okri <ben@example.org>:",
    "ru thunderbird": "05.05.2026 10:00, Ben Okri пишет:",
    "ru apple": "5 мая 2026 г., в 10:00, Ben Okri <ben@example.org> написал(а):",
    "ru yandex": '05.05.2026, 10:00, "Ben Okri" <ben@example.org>:',
    "uk gmail": "вт, 5 трав. 2026 р. о 10:00 Ben Okri <ben@example.org> пише:",
    "uk apple": "5 трав. 2026 р. о 10:00 Ben Okri <ben@example.org> написав(-ла):",
    "ja gmail": "2026年5月5日(火) 10:00 Ben Okri <ben@example.org>:",
    "ja apple": "2026/05/05 10:00、Ben Okri <ben@example.org>のメール:",
    "ja thunderbird": "On 2026/05/05 10:00, Ben Okri wrote:",
    "zh gmail": "Ben Okri <ben@example.org> 于2026年5月5日周二 10:00写道：",
    "zh apple": "在 2026年5月5日，10:00，Ben Okri <ben@example.org> 写道：",
    "zh taiwan": "Ben Okri <ben@example.org> 於 2026年5月5日 週二 上午10:00寫道：",
    "ko gmail": "2026년 5월 5일 (화) 오전 10:00, Ben Okri <ben@example.org>님이 작성:",
    "ko apple": "2026. 5. 5. 오전 10:00, Ben Okri <ben@example.org> 작성:",
    "ar gmail": "في الثلاثاء، 5 مايو 2026 في 10:00 ص تمت كتابة ما يلي بواسطة Ben Okri <ben@example.org>:",
    "ar apple": "في ٥ مايو ٢٠٢٦، الساعة ١٠:٠٠، كتب Ben Okri <ben@example.org>:",
    "he gmail": "\u202bבתאריך יום ג׳, 5 במאי 2026 ב-10:00 מאת \u202aBen Okri\u202c\u200f <\u202aben@example.org\u202c\u200f>:\u202c",
    "he apple": "ב-5 במאי 2026, בשעה 10:00, Ben Okri <ben@example.org> כתב/ה:",
    "de gmail, wrapped inside the brackets": "Am Di., 5. Mai 2026 um 10:00 Uhr schrieb Ben Okri von der Abteilung <\nben@example.org>:",
    "cs apple": "5. 5. 2026 v 10:00, Ben Okri <ben@example.org>:",
    "pl apple": "Wiadomość napisana przez Ben Okri <ben@example.org> w dniu 5 maj 2026, o godz. 10:00:",
    "ru mail.ru": "Вторник, 5 мая 2026, 10:00 +03:00 от Ben Okri <ben@example.org>:",
    "ja gmail in the morning": "2026年5月5日(火) 午前10:00 Ben Okri <ben@example.org>:",
    "ko thunderbird": "2026-05-05 오전 10:00에 Ben Okri 이(가) 쓴 글:",
    "en horde": "Quoting Ben Okri <ben@example.org>:",
    "de horde": "Zitat von Ben Okri <ben@example.org>:",
    "hr gmail": "uto, 5. svi 2026. u 10:00 Ben Okri <ben@example.org> napisao je:",
}

HEADER_BLOCKS = {
    "en": ("From", "Sent", "To", "Subject"),
    "en date": ("From", "Date", "To", "Cc", "Subject"),
    "de": ("Von", "Gesendet", "An", "Cc", "Betreff"),
    "fr": ("De", "Envoyé", "À", "Cc", "Objet"),
    "es": ("De", "Enviado el", "Para", "CC", "Asunto"),
    "pt": ("De", "Enviada em", "Para", "Assunto"),
    "it": ("Da", "Inviato", "A", "Oggetto"),
    "nl": ("Van", "Verzonden", "Aan", "CC", "Onderwerp"),
    "sv": ("Från", "Skickat", "Till", "Kopia", "Ämne"),
    "da": ("Fra", "Sendt", "Til", "Emne"),
    "nb": ("Fra", "Sendt", "Til", "Kopi", "Emne"),
    "fi": ("Lähettäjä", "Lähetetty", "Vastaanottaja", "Kopio", "Aihe"),
    "pl": ("Od", "Wysłano", "Do", "DW", "Temat"),
    "cs": ("Od", "Odesláno", "Komu", "Kopie", "Předmět"),
    "tr": ("Kimden", "Gönderildi", "Kime", "Konu"),
    "tr older": ("Gönderen", "Gönderilme Tarihi", "Alıcı", "Konu"),
    "ru": ("От", "Отправлено", "Кому", "Копия", "Тема"),
    "uk": ("Від", "Надіслано", "Кому", "Тема"),
    "ja": ("差出人", "送信日時", "宛先", "件名"),
    "zh": ("发件人", "发送时间", "收件人", "抄送", "主题"),
    "zh taiwan": ("寄件者", "寄件日期", "收件者", "主旨"),
    "ko": ("보낸 사람", "보낸 날짜", "받는 사람", "참조", "제목"),
    "ar": ("من", "تم الإرسال", "إلى", "الموضوع"),
    "he": ("מאת", "נשלח", "אל", "נושא"),
}

DIVIDERS = {
    "en": "-----Original Message-----",
    "en forward": "---------- Forwarded message ---------",
    "en apple forward": "Begin forwarded message:",
    "de": "-----Ursprüngliche Nachricht-----",
    "de older": "-------- Original-Nachricht --------",
    "fr": "-----Message d'origine-----",
    "es": "-----Mensaje original-----",
    "pt": "-----Mensagem original-----",
    "it": "-----Messaggio originale-----",
    "nl": "-----Oorspronkelijk bericht-----",
    "sv": "-----Ursprungligt meddelande-----",
    "da": "-----Oprindelig meddelelse-----",
    "nb": "-----Opprinnelig melding-----",
    "fi": "-----Alkuperäinen viesti-----",
    "pl": "-----Wiadomość oryginalna-----",
    "cs": "-----Původní zpráva-----",
    "tr": "-----Orijinal Mesaj-----",
    "ru": "-----Исходное сообщение-----",
    "ru forward": "-------- Пересылаемое сообщение --------",
    "uk": "-----Вихідне повідомлення-----",
    "ja": "-----元のメッセージ-----",
    "zh": "------------------ 原始邮件 ------------------",
    "zh taiwan": "-----原始郵件-----",
    "ko": "-----원본 메시지-----",
    "ar": "-----الرسالة الأصلية-----",
    "he": "-----הודעה מקורית-----",
}

DEVICE_LINES = {
    "en": "Sent from my iPhone",
    "en outlook": "Get Outlook for Android<https://aka.ms/example>",
    "en proton": "Sent with Proton Mail secure email.",
    "de": "Von meinem iPhone gesendet",
    "de older": "Gesendet von meinem Samsung Galaxy Smartphone.",
    "fr": "Envoyé de mon iPhone",
    "es": "Enviado desde mi iPhone",
    "pt": "Enviado do meu iPhone",
    "it": "Inviato da iPhone",
    "nl": "Verstuurd vanaf mijn iPhone",
    "sv": "Skickat från min iPhone",
    "da": "Sendt fra min iPhone",
    "nb": "Sendt fra min iPad",
    "fi": "Lähetetty iPhonesta",
    "pl": "Wysłane z iPhone'a",
    "cs": "Odesláno z iPhonu",
    "tr": "iPhone'umdan gönderildi",
    "ru": "Отправлено с iPhone",
    "uk": "Надіслано з iPhone",
    "ja": "iPhoneから送信",
    "zh": "发自我的iPhone",
    "zh taiwan": "從我的iPhone傳送",
    "ko": "나의 iPhone에서 보냄",
    "ar": "أُرسلت من الـ iPhone",
    "he": "נשלח מה-iPhone שלי",
}


def _block(labels: tuple[str, ...], bold: str = "") -> str:
    values = ("Ben Okri <ben@example.org>", "Tuesday, May 5, 2026 10:00", "Ana Ruiz", "Cleo Sand", "Tuesday")
    if len(labels) == 4:
        values = (*values[:3], values[4])
    return "\n".join(f"{bold}{label}:{bold} {value}" for label, value in zip(labels, values, strict=True))


def _html_block(labels: tuple[str, ...]) -> str:
    return _block(labels, "*").replace("<", "&lt;").replace(">", "&gt;").replace("\n", "<br>").replace("*", "")


OLD = "Shall we meet on Tuesday?\n\nBen"

PLAIN = [
    *(Reply(f"attribution {name}", f"{ANSWER}\n\n{line}\n\n{QUOTE}\n", None, ANSWER) for name, line in ATTRIBUTIONS.items()),
    *(
        Reply(f"bottom-posted {name}", f"{line}\n{QUOTE}\n\n{ANSWER}\n", None, ANSWER)
        for name, line in ATTRIBUTIONS.items()
        if "wrapped" not in name
    ),
    *(
        Reply(f"outlook {name}", f"{ANSWER}\n\n{'_' * 32}\n{_block(labels)}\n\n{OLD}\n", None, ANSWER)
        for name, labels in HEADER_BLOCKS.items()
    ),
    *(
        Reply(f"outlook bold {name}", f"{ANSWER}\n\n{_block(labels, '*')}\n\n{OLD}\n", None, ANSWER)
        for name, labels in HEADER_BLOCKS.items()
    ),
    *(
        Reply(f"divider {name}", f"{ANSWER}\n\n{line}\n{_block(HEADER_BLOCKS['en'])}\n\n{OLD}\n", None, ANSWER)
        for name, line in DIVIDERS.items()
    ),
    *(
        Reply(f"divider alone {name}", f"{ANSWER}\n\n{line}\n\n{OLD}\n", None, ANSWER)
        for name, line in DIVIDERS.items()
    ),
    *(
        Reply(f"phone {name}", f"{ANSWER}\n\n{line}\n\n{ATTRIBUTIONS['en gmail']}\n\n{QUOTE}\n", None, ANSWER)
        for name, line in DEVICE_LINES.items()
    ),
    Reply("signature", f"{ANSWER}\n\n-- \nAna Ruiz\nExample Ltd\n+34 600 000 000\n", None, ANSWER),
    Reply("signature over the quote", f"{ANSWER}\n\n-- \nAna Ruiz\n\n{ATTRIBUTIONS['en gmail']}\n{QUOTE}\n", None, ANSWER),
    Reply("signature under a bottom post", f"{ATTRIBUTIONS['de thunderbird']}\n{QUOTE}\n\n{ANSWER}\n\n-- \nAna Ruiz\n", None, ANSWER),
    Reply(
        "inline",
        "On Tue, May 5, 2026 at 10:00 AM Ben Okri <ben@example.org> wrote:\n\n> Where?\n\nIn Rome.\n\n> When?\n\nAt noon.\n\n> Ben\n",
        None,
        "In Rome.\n\nAt noon.",
    ),
    Reply("inline under a greeting", f"Hi Ben,\n\n{ATTRIBUTIONS['en thunderbird']}\n> Where?\nIn Rome.\n", None, "Hi Ben,\n\nIn Rome."),
    *(
        Reply(f"app without quote marks {name}", f"{ANSWER}\n\n{ATTRIBUTIONS[name]}\n\n{OLD}\n", None, ANSWER)
        for name in ("en gmail", "ru gmail", "ja gmail", "ja gmail in the morning", "cs apple", "pl apple", "ru mail.ru")
    ),
    Reply("no quote at all", f"{ANSWER}\n", None, ANSWER),
    Reply("a sentence with wrote", "On Monday Ben wrote that he agrees:\nwe go ahead.\n", None, "On Monday Ben wrote that he agrees:\nwe go ahead."),
    Reply("a list with a colon", "From our side:\n- date: Tuesday\n- room: 4\n", None, "From our side:\n- date: Tuesday\n- room: 4"),
    Reply("a journey", "Please book:\n\nFrom: Madrid\nTo: Rome\nDate: 5 May 2026\nPassengers: 2\n\nThanks", None,
          "Please book:\n\nFrom: Madrid\nTo: Rome\nDate: 5 May 2026\nPassengers: 2\n\nThanks"),
    Reply("a delivery in German", "Bitte liefern:\n\nVon: Berlin\nAn: Hamburg\nDatum: 5.5.2026\n\nDanke", None,
          "Bitte liefern:\n\nVon: Berlin\nAn: Hamburg\nDatum: 5.5.2026\n\nDanke"),
    Reply("headers without a subject", f"{ANSWER}\n\nFrom: Ben Okri <ben@example.org>\nSent: Tuesday\nTo: Ana\n\n{OLD}\n", None, ANSWER),
    Reply("a rule in the text", "First part\n\n-----\n\nSecond part\n", None, "First part\n\n-----\n\nSecond part"),
    Reply("a double dash in a sentence", "It is -- I think -- fine.\n", None, "It is -- I think -- fine."),
    Reply("a long text under two dashes", "Intro\n\n--\n" + "a line of the text\n" * 20, None, "Intro\n\n--\n" + "a line of the text\n" * 19 + "a line of the text"),
    Reply("nothing but a quote", f"{QUOTE}\n", None, QUOTE),
    Reply("nothing but a forward", f"---------- Forwarded message ---------\n{_block(HEADER_BLOCKS['en date'])}\n\n{OLD}\n", None,
          f"---------- Forwarded message ---------\n{_block(HEADER_BLOCKS['en date'])}\n\n{OLD}"),
    Reply("nothing but a signature", "-- \nAna Ruiz\n", None, "Ana Ruiz"),
    Reply("a mailing list's footer", f"{ANSWER}\n\n{'_' * 47}\nTalk mailing list\nTalk@example.org\nhttps://example.org/talk\n", None, ANSWER),
    Reply("a list's footer with its address", f"{ANSWER}\n\n{'_' * 47}\nTalk mailing list <Talk@example.org>\nhttps://example.org/talk\n", None, ANSWER),
    Reply("left out", f"Hi Ben,\n\n{ATTRIBUTIONS['en gmail']}\n\n[snip]\n\n> Where?\n\nIn Rome.\n", None, "Hi Ben,\n\nIn Rome."),
    Reply("with initials", f"{ATTRIBUTIONS['en gmail']}\n\nBO> Where?\n\nIn Rome.\n", None, "In Rome."),
    Reply("help desk", f"{ANSWER}\n\n##- Please type your reply above this line -##\n\nTicket 4 was opened.\n", None, ANSWER),
    Reply("zoho", f"{ANSWER}\n\n---- On Tue, 05 May 2026 10:00:00 +0200 Ben Okri <ben@example.org> wrote ----\n\n{OLD}\n", None, ANSWER),
]

_HTML_OLD = "Shall we meet on Tuesday?<br><br>Ben"

HTML = [
    Reply(
        "gmail",
        "",
        '<div dir="ltr">Yes, Tuesday suits me.<div><br></div><div>Ana</div></div><br><div class="gmail_quote gmail_quote_container">'
        '<div dir="ltr" class="gmail_attr">On Tue, May 5, 2026 at 10:00\u202fAM Ben &lt;<a href="mailto:b@x.example">b@x.example</a>&gt; wrote:<br></div>'
        f'<blockquote class="gmail_quote" style="margin:0px 0px 0px 0.8ex">{_HTML_OLD}</blockquote></div>',
        ANSWER,
    ),
    Reply(
        "gmail inline",
        "",
        '<div dir="ltr"><div class="gmail_quote"><div dir="ltr" class="gmail_attr">On Tue, Ben wrote:<br></div>'
        '<blockquote class="gmail_quote">Where?</blockquote><div>In Rome.</div><blockquote class="gmail_quote">When?</blockquote>'
        "<div>At noon.</div></div></div>",
        "In Rome.\n\nAt noon.",
    ),
    Reply(
        "gmail with signature",
        "",
        '<div dir="ltr">Yes, Tuesday suits me.<br><br>Ana<br clear="all"><div><br></div><span class="gmail_signature_prefix">-- </span><br>'
        '<div dir="ltr" class="gmail_signature" data-smartmail="gmail_signature">Ana Ruiz<br>Example Ltd</div></div><br>'
        '<div class="gmail_quote"><div class="gmail_attr">Le mar. 5 mai 2026 à 10:00, Ben a écrit :<br></div>'
        f'<blockquote class="gmail_quote">{_HTML_OLD}</blockquote></div>',
        ANSWER,
    ),
    Reply(
        "gmail forward with a note",
        "",
        '<div dir="ltr">Yes, Tuesday suits me.<br><br>Ana<br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">---------- Forwarded '
        f"message ---------<br>From: Ben<br>Date: Tue<br>Subject: x<br>To: Ana<br></div><br><div>{_HTML_OLD}</div></div></div>",
        ANSWER,
    ),
    Reply(
        "outlook for windows",
        "",
        '<div class="WordSection1"><p class="MsoNormal">Yes, Tuesday suits me.<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p>'
        '<p class="MsoNormal">Ana<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p><div><div style="border:none;border-top:solid '
        '#E1E1E1 1.0pt;padding:3.0pt 0in 0in 0in"><p class="MsoNormal"><b>Von:</b> Ben Okri &lt;ben@example.org&gt; <br><b>Gesendet:</b> '
        "Dienstag, 5. Mai 2026 10:00<br><b>An:</b> Ana<br><b>Betreff:</b> Dienstag<o:p></o:p></p></div></div>"
        f'<p class="MsoNormal">{_HTML_OLD}</p></div>',
        ANSWER,
    ),
    Reply(
        "outlook on the web",
        "",
        '<div class="elementToProof" style="font-size:12pt">Yes, Tuesday suits me.</div><div><br></div><div>Ana</div>'
        '<div id="appendonsend"></div><hr style="display:inline-block;width:98%" tabindex="-1">'
        '<div id="divRplyFwdMsg" dir="ltr"><font face="Calibri"><b>From:</b> Ben<br><b>Sent:</b> Tuesday<br><b>To:</b> Ana<br><b>Subject:</b> x</font>'
        f"<div>&nbsp;</div></div><div>{_HTML_OLD}</div>",
        ANSWER,
    ),
    Reply(
        "outlook mobile",
        "",
        '<div dir="auto">Yes, Tuesday suits me.<br><br>Ana</div><div id="ms-outlook-mobile-signature"><div><br></div>Get <a href="https://aka.ms/x">'
        'Outlook for iOS</a></div><div id="mail-editor-reference-message-container"><hr><div id="divRplyFwdMsg"><b>From:</b> Ben<br></div>'
        f"<div>{_HTML_OLD}</div></div>",
        ANSWER,
    ),
    Reply(
        "apple mail",
        "",
        "<html><body style='word-wrap: break-word'>Yes, Tuesday suits me.<div><br></div><div>Ana<br><div><br><blockquote type=\"cite\"><div>"
        f'On 5 May 2026, at 10:00, Ben &lt;b@x.example&gt; wrote:</div><br class="Apple-interchange-newline"><div>{_HTML_OLD}</div></blockquote>'
        "</div><br></div></body></html>",
        ANSWER,
    ),
    Reply(
        "iphone",
        "",
        '<html><body dir="auto">Yes, Tuesday suits me.<div><br></div><div>Ana<br><br><div id="AppleMailSignature" dir="ltr">Sent from my iPhone</div>'
        f'<div dir="ltr"><br><blockquote type="cite">On 5 May 2026, at 10:00, Ben wrote:<br><br></blockquote></div><blockquote type="cite">'
        f'<div dir="ltr">{_HTML_OLD}</div></blockquote></div></body></html>',
        ANSWER,
    ),
    Reply(
        "iphone without a signature mark",
        "",
        '<html><body dir="auto">Yes, Tuesday suits me.<div><br></div><div>Ana<br><br><div dir="ltr">Von meinem iPhone gesendet</div><div dir="ltr"><br>'
        f'<blockquote type="cite">Am 05.05.2026 um 10:00 schrieb Ben:<br><br>{_HTML_OLD}</blockquote></div></div></body></html>',
        ANSWER,
    ),
    Reply(
        "thunderbird below",
        "",
        '<html><body><div class="moz-cite-prefix">On 5/5/26 10:00, Ben wrote:<br></div><blockquote type="cite" cite="mid:a@b">'
        f"{_HTML_OLD}</blockquote><p>Yes, Tuesday suits me.</p><p>Ana</p></body></html>",
        ANSWER,
    ),
    Reply(
        "thunderbird, typed into the element of the attribution",
        "",
        '<html><body><div class="moz-cite-prefix">Yes, Tuesday suits me.</div><div class="moz-cite-prefix"><br></div><div class="moz-cite-prefix">Ana</div>'
        '<div class="moz-cite-prefix"><br></div><div class="moz-cite-prefix">On 5/5/26 10:00, Ben wrote:<br></div>'
        f'<blockquote type="cite" cite="mid:a@b">{_HTML_OLD}</blockquote></body></html>',
        ANSWER,
    ),
    Reply(
        "thunderbird, typed above the attribution in its element",
        "",
        '<html><body><div class="moz-cite-prefix">Yes, Tuesday suits me.<br><br>Ana<br><br>On 5/5/26 10:00, Ben wrote:<br></div>'
        f'<blockquote type="cite" cite="mid:a@b">{_HTML_OLD}</blockquote></body></html>',
        ANSWER,
    ),
    Reply(
        "thunderbird inline with signature",
        "",
        '<html><body><div class="moz-cite-prefix">Am 05.05.26 um 10:00 schrieb Ben:<br></div><blockquote type="cite" cite="mid:a@b">Where?</blockquote>'
        '<p>In Rome.</p><blockquote type="cite" cite="mid:a@b">When?</blockquote><p>At noon.</p><pre class="moz-signature" cols="72">-- \nAna Ruiz</pre></body></html>',
        "In Rome.\n\nAt noon.",
    ),
    Reply(
        "yahoo",
        "",
        '<div class="ydp1">Yes, Tuesday suits me.<br><br>Ana</div><div class="ydp1"><br></div><div id="ydp9yahoo_quoted_1" class="ydp9yahoo_quoted yahoo_quoted">'
        f"<div>On Tuesday, May 5, 2026 at 10:00:00 AM GMT+2, Ben &lt;b@x.example&gt; wrote:</div><div><br></div><div>{_HTML_OLD}</div></div>",
        ANSWER,
    ),
    Reply(
        "proton",
        "",
        '<div style="font-family: Arial">Yes, Tuesday suits me.<br><br>Ana</div><div class="protonmail_signature_block"><div class="protonmail_signature_block-proton">'
        'Sent with <a href="https://proton.example">Proton Mail</a></div></div><div class="protonmail_quote"> On Tuesday, May 5th, 2026 at 10:00 AM, Ben '
        f'&lt;b@x.example&gt; wrote:<br> <blockquote class="protonmail_quote" type="cite">{_HTML_OLD}</blockquote><br></div>',
        ANSWER,
    ),
    Reply(
        "zimbra",
        "",
        f'<div>Yes, Tuesday suits me.<br><br>Ana</div><hr id="zwchr" data-marker="__DIVIDER__"><div data-marker="__HEADERS__"><b>From: </b>"Ben"<br></div><div>{_HTML_OLD}</div>',
        ANSWER,
    ),
    Reply(
        "gmx",
        "",
        f'<div>Yes, Tuesday suits me.<br><br>Ana</div><div name="quote" style="margin:10px 5px 5px 10px"><div><b>Gesendet:</b> Dienstag<br><b>Von:</b> Ben</div><div name="quoted-content">{_HTML_OLD}</div></div>',
        ANSWER,
    ),
    Reply(
        "fastmail",
        "",
        f'<html><body><div>Yes, Tuesday suits me.<br></div><div><br></div><div>Ana<br></div><div>On Tue, 5 May 2026, at 10:00 AM, Ben wrote:<br></div><blockquote type="cite" id="qt">{_HTML_OLD}</blockquote></body></html>',
        ANSWER,
    ),
    Reply(
        "yandex",
        "",
        f'<div>Yes, Tuesday suits me.<br><br>Ana</div><div>05.05.2026, 10:00, "Ben" &lt;b@x.example&gt;:</div><blockquote><p>{_HTML_OLD}</p></blockquote>',
        ANSWER,
    ),
    Reply(
        "qq",
        "",
        f'<div>Yes, Tuesday suits me.<br><br>Ana</div><div><br></div><div style="font-size:12px">------------------&nbsp;原始邮件&nbsp;------------------</div><div><b>发件人:</b>&nbsp;Ben;</div><div>{_HTML_OLD}</div>',
        ANSWER,
    ),
    Reply(
        "samsung",
        "",
        f'<html><body>Yes, Tuesday suits me.<br><br>Ana<div><br></div><div><div style="font-size:75%">Sent from my Galaxy</div></div><div><br></div><div>-------- Original message --------</div><div>From: Ben &lt;b@x.example&gt; </div><div>Date: 5/5/26 </div><div>To: Ana </div><div>Subject: x </div><div>{_HTML_OLD}</div></body></html>',
        ANSWER,
    ),
    Reply(
        "zoho with signature",
        "",
        '<div><div>Yes, Tuesday suits me.<br><br>Ana</div><div><br></div><div id="Zm-_Id_-Sgn"><div>Ana Ruiz<br>Example</div></div><div class="zmail_extra">'
        f'<div>---- On Tue, 05 May 2026 10:00:00 +0200 <b>Ben&lt;b@x.example&gt;</b> wrote ---<br></div><blockquote id="blockquote_zmail">{_HTML_OLD}</blockquote></div></div>',
        ANSWER,
    ),
    Reply(
        "em client with signature",
        "",
        '<div>Yes, Tuesday suits me.</div><div><br></div><div>Ana</div><div id="signature_old"><div>Ana Ruiz<br>Example</div></div><div>------ Original Message ------</div>'
        f'<div>From "Ben" &lt;b@x.example&gt;</div><div>To "Ana"</div><blockquote cite="x@y" type="cite" class="cite2">{_HTML_OLD}</blockquote>',
        ANSWER,
    ),
    Reply(
        "mailspring with signature",
        "",
        '<div>Yes, Tuesday suits me.<br><br>Ana</div><br><signature id="1"><div>Ana Ruiz</div></signature><div class="gmail_quote_attribution">On May 5 2026, at 10:00 am, '
        f'Ben wrote:</div><blockquote class="gmail_quote">{_HTML_OLD}</blockquote>',
        ANSWER,
    ),
    Reply("a poem", "", "<p>Read this:</p><blockquote><p>So much depends</p></blockquote><p>Ana</p>", "Read this:\n\nSo much depends\n\nAna"),
    Reply("a newsletter", "", "<table><tr><td><h1>News</h1><p>Hello all.</p></td></tr></table>", "News\n\nHello all."),
    Reply("nothing but a forward", "", '<div class="gmail_quote"><div class="gmail_attr">---------- Forwarded message ---------<br>From: Ben<br></div><p>Old</p></div>',
          "---------- Forwarded message ---------\nFrom: Ben\n\nOld"),
]

REPLIES = [*PLAIN, *HTML]
