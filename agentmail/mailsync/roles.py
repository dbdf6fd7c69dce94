"""Which mailbox is Sent, Junk, Trash …: by SPECIAL-USE (RFC 6154), else by its name. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Protocol

ROLES = {
    "sent": r"\sent", "drafts": r"\drafts", "junk": r"\junk", "trash": r"\trash", "archive": r"\archive",
    "all": r"\all",
}  # fmt: skip
"""Our word -> the attribute, lower case: some servers write `\\sent`."""

_NAMES = {
    "sent": """sent; sent items; sent mail; sent messages; [gmail]/sent mail; [google mail]/sent mail; gesendet;
        gesendete elemente; gesendete objekte; gesendete nachrichten; envoyés; éléments envoyés; messages envoyés;
        enviados; elementos enviados; mensajes enviados; itens enviados; mensagens enviadas; inviati; posta inviata;
        elementi inviati; verzonden; verzonden items; verzonden berichten; skickat; skickade objekt; sendt;
        sendte elementer; sendt post; lähetetyt; wysłane; elementy wysłane; odeslané; odeslaná pošta; elküldött;
        отправленные; исходящие; надіслані; gönderilmiş öğeler; gönderilmiş postalar; 送信済み; 送信済みメール;
        送信済みアイテム; 已发送; 已发送邮件; 已傳送郵件; 寄件備份; 보낸편지함; 보낸 편지함; 보낸 메일함; trimise;
        elemente trimise; elküldött elemek; odoslané; odoslaná pošta; poslano; poslana pošta; изпратени; saadetud;
        enviats; απεσταλμένα; απεσταλμένα στοιχεία; gönderilenler; đã gửi; thư đã gửi; terkirim; item terkirim;
        الرسائل المرسلة; العناصر المرسلة; البريد المرسل; דואר שנשלח; פריטים שנשלחו; ส่งแล้ว; จดหมายที่ส่ง""",
    "drafts": "drafts; draft; entwürfe; brouillons; borradores; rascunhos; bozze; concepten; черновики; 下書き; 草稿",
    "junk": """junk; junk e-mail; junk email; spam; bulk mail; bulk; [gmail]/spam; [google mail]/spam; spamverdacht;
        junk-e-mail; indésirables; courrier indésirable; correo no deseado; no deseado; lixo eletrônico;
        posta indesiderata; ongewenste e-mail; спам; нежелательная почта; 迷惑メール; 垃圾邮件; 垃圾郵件; 스팸메일함""",
    "trash": """trash; deleted items; deleted messages; deleted; bin; [gmail]/trash; [gmail]/bin; papierkorb;
        gelöschte elemente; gelöschte objekte; corbeille; éléments supprimés; papelera; elementos eliminados; lixeira;
        itens excluídos; cestino; posta eliminata; prullenbak; verwijderde items; корзина;
        удаленные; ゴミ箱; 已删除邮件""",
    "archive": "archive; archives; archiv; archivo; arquivo; archivio; archief; архив; アーカイブ; 归档",
    "all": "[gmail]/all mail; [google mail]/all mail; [gmail]/alle nachrichten; all mail",
}
_BY_NAME = {role: [n.strip() for n in names.split(";")] for role, names in _NAMES.items()}


class Entry(Protocol):
    """What LIST says of one mailbox."""

    @property
    def name(self) -> str: ...
    @property
    def attributes(self) -> frozenset[str]: ...
    @property
    def delimiter(self) -> str: ...


def mailbox_for(role: str, listed: Sequence[Entry], prefix: str = "") -> str | None:
    """The mailbox that plays `role` (`sent`, `junk`, …); None when there is none that can be opened."""
    open_ = [m for m in listed if not {r"\noselect", r"\nonexistent"} & m.attributes]
    attribute = ROLES[role]
    for mailbox in open_:
        if attribute in mailbox.attributes:
            return mailbox.name
    by_name: dict[str, str] = {}
    for mailbox in open_:
        bare = mailbox.name
        for start in (prefix, f"INBOX{mailbox.delimiter}"):
            if start and bare.casefold().startswith(start.casefold()):
                bare = bare[len(start) :]
        # Macs write an é as an e and an accent.
        bare = unicodedata.normalize("NFC", bare).casefold().replace(mailbox.delimiter or "/", "/")
        by_name.setdefault(bare, mailbox.name)
    return next((by_name[name] for name in _BY_NAME[role] if name in by_name), None)
