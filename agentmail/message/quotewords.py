# ruff: noqa: E501  East Asian letters count as two columns each, and the words read best in one piece
"""The words that mail programs put above quoted history, in the languages they speak.

Data only. They are what Gmail, Outlook, Apple Mail, Thunderbird, Yahoo and the like write; a new one is a line here
and a row in the tests.
"""

from __future__ import annotations

import re

WROTE = re.compile(
    r"\bwrote\b|\bwrites\b|\bschrieb(?:en)?\b|\bhat geschrieben\b|\ba écrit\b|\bécrivait\b|\bescribió\b|\bha escrit\b|"
    r"\bescreveu\b|\bha scritto\b|\bschreef\b|\bheeft .{0,80}geschreven\b|\bskrev\b|\bskrifaði\b|\bkirjoitti\b|"
    r"\bnapisał(?:\(a\)|a)?|\bpisze\b|\bnapi?sal(?:\(a\)|a|i)?|\bnapísal(?:\(a\)|a)?|\bpíše\b|\byazdı\b|"
    r"\bпис(?:ал[аи]?|ав|ала)\b|\bнаписал(?:\(а\)|а|и)?|\bнаписав(?:\(-?ла\))?|\bпишет\b|\bпише\b|\bнаписа\b|"
    r"\bírta\b|\ba scris\b|\bnapisa(?:o|la)\b|\bje napisa[ol]\b|\bkirjutas\b|\brašė\b|\bva escriure\b|\bnapisana przez\b|"
    r"\bέγραψε\b|\bđã viết\b|\bmenulis\b|^quoting\b|^zitat von\b|^citando\b|^mensaje citado por\b|"
    r"の?書きました|のメール|からのメッセージ|写道|寫道|写到|님이 작성|님이 쓴|작성:|작성[:：]|이\(가\) 작성|쓴 글|"
    r"كتب\b|كتبت\b|كتابة ما يلي|\bכתב(?:/ה|ה|\(ה\))?|\bמאת\b|เขียนว่า|ने लिखा",
    re.IGNORECASE,
)
"""The verb of an attribution, "On …, X wrote:". Languages that have none there (Russian Gmail, Japanese Gmail) are
told by date, address and colon alone."""

_FROM = (
    "from|von|de|da|van|från|fra|lähettäjä|od|kimden|gönderen|от|от кого|від|від кого|差出人|送信者|发件人|寄件者|寄件人|"
    "보낸 사람|보낸사람|من|מאת|από|feladó|de la|expéditeur|remitente|remetente|mittente|afzender|avsändare|afsender|avsender|"
    "nadawca|odesílatel|odosielateľ"
)
_SENT = (
    "sent|date|gesendet|datum|envoyé|envoyé le|date d'envoi|enviado|enviado el|enviado em|enviada|enviada em|fecha|data|"
    "inviato|verzonden|skickat|sendt|dato|lähetetty|päivämäärä|pvm|wysłano|wysłane|data wysłania|odesláno|odoslané|dátum|"
    "gönderilme|gönderildi|gönderilme tarihi|tarih|отправлено|дата|дата отправки|надіслано|дата надсилання|送信日時|日時|日付|"
    "发送时间|發送時間|传送时间|傳送時間|寄件日期|日期|时间|보낸 날짜|날짜|보낸 시간|تم الإرسال|تاريخ الإرسال|التاريخ|نשלח|נשלח|"
    "בתאריך|תאריך|στάλθηκε|ημερομηνία|elküldve|trimis"
)
_TO = (
    "to|an|à|a|para|aan|till|til|vastaanottaja|do|komu|kime|alıcı|кому|宛先|收件人|收件者|받는 사람|받는사람|إلى|אל|"
    "προς|címzett|către|destinataire|destinatario|pro"
)
_CC = (
    "cc|bcc|kopie|copie|copia|copie à|cópia|kopia|kopi|kopio|dw|do wiadomości|kopie pro|kópia|bilgi|копия|копія|抄送|副本|"
    "참조|نسخة|عותק|עותק|κοιν|másolat|reply-to|antwort an|répondre à|responder a|rispondi a"
)
_SUBJECT = (
    "subject|betreff|objet|asunto|assunto|oggetto|onderwerp|ämne|emne|aihe|temat|předmět|predmet|konu|тема|件名|主题|主旨|"
    "主題|제목|الموضوع|נושא|θέμα|tárgy|subiect|re"
)
LABELS = {
    role: frozenset(words.split("|"))
    for role, words in (("from", _FROM), ("sent", _SENT), ("to", _TO), ("cc", _CC), ("subject", _SUBJECT))
}
"""Names of header lines, lower case, as Outlook and others write them over what they quote."""

ORIGINAL = re.compile(
    r"original (?:message|email|e-mail|appointment|text)|forwarded (?:message|by)|begin forwarded message|reply message|"
    r"replied message|ursprüngliche (?:nachricht|e-mail)|original-?nachricht|originalnachricht|weitergeleitete nachricht|"
    r"anfang der weitergeleiteten (?:e-mail|nachricht)|message (?:d'origine|original|transféré)|courriel original|"
    r"début du message (?:transféré|réexpédié)|mensaje (?:original|reenviado)|inicio del mensaje reenviado|"
    r"mensagem (?:original|encaminhada|reencaminhada)|início da mensagem|messaggio (?:originale|inoltrato|originario)|"
    r"inizio messaggio inoltrato|oorspronkelijk(?:e)? bericht|doorgestuurd bericht|begin doorgestuurd bericht|"
    r"ursprungligt meddelande|originalmeddelande|vidarebefordrat (?:meddelande|brev)|vidarebefordrat mejl|"
    r"oprindelig (?:meddelelse|besked)|videresendt (?:meddelelse|besked|e-post|melding)|opprinnelig melding|"
    r"alkuperäinen viesti|välitetty viesti|edelleenlähetetty viesti|wiadomość oryginalna|oryginalna wiadomość|"
    r"(?:treść )?przekazan(?:ej|a) wiadomo(?:ści|ść)|wiadomość przekazana|původní (?:zpráva|e-mail)|přeposlaná zpráva|"
    r"orijinal (?:mesaj|ileti)|özgün ileti|iletilen (?:mesaj|ileti)|yönlendirilmiş ileti|исходное сообщение|"
    r"пересылаемое сообщение|пересланное сообщение|вихідне повідомлення|переслане повідомлення|початкове повідомлення|"
    r"元のメッセージ|転送メッセージ|オリジナルメッセージ|转发的?(?:邮件|信息)|轉寄的郵件|原始邮件|邮件原件|原始郵件|原始信息|回复的原邮件|"
    r"원본 메시지|원본 메일|원본 이메일|전달된 메시지|الرسالة الأصلية|رسالة معاد توجيهها|رسالة محوّلة|הודעה מקורית|הודעה שהועברה",
    re.IGNORECASE,
)
"""Between dashes, or alone on its line with a colon: everything under it is history."""
