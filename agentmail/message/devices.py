# ruff: noqa: E501  the words read best in one piece
"""The line that phones and apps put under a message: "Sent from my iPhone", "Get Outlook for Android".

Such a line says "sent" or "get" at its beginning or its end, in its own language, and names a device or a program.
Both are asked for: "Sent from the warehouse on Monday" is somebody's answer.
"""

from __future__ import annotations

import re

_MAX = 90
"""Characters without links; longer lines are sentences."""
_MAX_WORDS = 14

_LINK = re.compile(r"<?https?://[^\s<>]{1,500}>?")
_NO_LETTERS = " \t*_[]()<>|.,:;!…\"'“”„«»\u200e\u200f"

_SENT_FIRST = re.compile(
    r"(?:(?:cet|ce|este|questo|dit|detta|denne|this) (?:e-?mail|message|mensaje|messaggio|bericht|meddelande|besked)\b.{0,30}?)?"
    r"(?:from my (?=i?phone|ipad|mobile|galaxy|samsung|android)|sent (?:from|by|via|with|using|on my|on the go)\b|gesendet (?:von|vom|mit|über|aus|via)\b|(?:a été )?envoyée? (?:d[e']|depuis|à partir|avec|via|par)|provenance ?:|"
    r"enviad[oa]s? (?:desde|de|do|da|del|a partir|con|com|pel[oa]|por|via|através)\b|enviat des|inviat[oa] (?:da|dal|dalla|con|tramite|via)\b|"
    r"(?:verzonden|verstuurd) (?:vanaf|vanuit|van|met|via)\b|skicka(?:t|d|des) (?:från|via|med)\b|sendt (?:fra|via|med)\b|lähetetty |"
    r"wysłan[aeoy] (?:z|za|ze|przez|przy)\b|(?:odeslán[oa]|odoslan[éá]|poslán[oa]|poslan[éo]|zasláno) (?:z|zo|ze|s|pomocí|přes|prostřednictvím|iz)\b|"
    r"(?:отправл?ено|отправил[аи]?|послано) (?:с|со|из|через|от|при)\b|(?:надіслано|відправлено) (?:з|із|через|за)\b|изпратено от|"
    r"[发發]自|[来來]自我的|[传傳]送自|寄件?自|[发發]送自|[从從由].{1,30}(?:[发發]送|[发發]出|[传傳]送|寄出|寄送)$|"
    r"[أا]ُ?رسلت? من|م[ُ]?رسلة? من|تم (?:ال)?إرسال|נשלחה? מ|"
    r"elküldve |στάλθηκε από|εστάλη από|trimis (?:de|din)|(?:được )?gửi từ|dikirim dari|ส่งจาก)",
    re.IGNORECASE,
)
_SENT_LAST = re.compile(
    r"(?:(?:von|mit|über) .{1,60} (?:gesendet|verschickt)|gönderildi|gönderdim|gönderilmiştir|から送信(?:しました|されました|しています)?|より送信|で送信|"
    r"에서 (?:보냄|보낸 메일|보냈습니다|전송(?:됨)?|발송(?:됨)?)|küldve)$",
    re.IGNORECASE,
)
_DEVICE = re.compile(
    r"iphon|ipad|ipod|apple watch|macbook|\bios\b|android|galaxy|samsung|blackberry|huawei|xiaomi|redmi|oneplus|\boppo\b|\bvivo\b|\bpixel\b|"
    r"nokia|xperia|motorola|\bmoto\b|\bhtc\b|honor\b|realme|windows|outlook|gmail|yahoo|proton|thunderbird|k-9|bluemail|typeapp|aqua mail|"
    r"\bspark\b|superhuman|shortwave|airmail|mailbox|mailbird|canary mail|edison|spike|missive|tutanota|\btuta\b|zoho|fastmail|icloud|\bgmx\b|web\.de|t-online|"
    r"aol\b|mail\.ru|яндекс|yandex|почт[аыу]|t-mobile|verizon|at&t|vodafone|sprint|mail app|mobile mail|webmail|"
    r"\bmobile\b|\bphone|smartphone|cell|handheld|tablet|handy\b|telefon|gerät|unterwegs|the go|mobil|móvil|celular|téléphone|portable|appareil|"
    r"cellulare|telefono|teléfono|dispositivo|telemóvel|telefone|toestel|\bgsm\b|apparaat|mobiel|enhet|enhed|puheli|laittee|komórk|"
    r"urządze|zařízen|zariaden|cihaz|мобильн|телефон|смартфон|устройств|мобільн|пристро|スマートフォン|スマホ|携帯|端末|メール|手机|手機|小米|华为|華為|荣耀|"
    r"苹果|三星|魅族|邮箱|郵箱|设备|裝置|휴대|스마트폰|핸드폰|모바일|메일|기기|هاتف|جوال|جهاز|מכשיר|טלפון|נייד|סלולר|κινητό|τηλέφωνο",
    re.IGNORECASE,
)
_MINE = re.compile(r"sent (?:from|via|with|using) my (?:\S+ ?){1,6}$|[发發]自我的\S{1,20}$", re.IGNORECASE)

_GET = (
    r"get|download|holen sie sich|hol dir|laden sie|obtenir|obtenez|téléchargez?r?|obtener|obtén|obtenga|descargar?|obter|obtenha|baixar|baixe|"
    r"transferir|ottieni|scarica|haal|skaffa|hämta|ladda ned|hent|få|last ned|hanki|lataa|pobierz|uzyskaj|stáhnout|získat|získejte|stiahnuť|"
    r"скачать|скачайте|получить|загрузить|установить|завантажити|отримати|获取|獲取|下载|下載|取得|الحصول على|احصل على|تنزيل|קבל|קבלת|הורד|הורידו|השג"
)
_GOT = (
    r"beziehen|herunterladen|herunter|abrufen|holen|downloaden|ophalen|edinin|indirin|yükleyin|を?入手(?:する)?|を?取得(?:する)?|を?ダウンロード(?:する)?|"
    r"다운로드|가져오기|받기"
)
_APP = r"(?:outlook|yahoo mail|gmail|proton ?mail|bluemail|blue mail|typeapp|aqua mail|spark|edison mail|spike|mymail)"
_SYSTEM = r"(?:ios|android|windows|mac|iphone|ipad)"
_OFFER = re.compile(
    rf"(?:{_GET}).{{0,25}}{_APP}.{{0,25}}{_SYSTEM}\S{{0,8}}(?: (?:{_GOT}))?$|(?:{_GET}).{{0,20}}{_SYSTEM}.{{0,8}}{_APP}$|"
    rf"{_APP}.{{0,20}}{_SYSTEM}.{{0,6}}?(?:{_GOT})$|{_SYSTEM}.{{0,12}}{_APP}.{{0,12}}?(?:{_GOT})$|"
    rf"yahoo mail: search, organize, conquer$",
    re.IGNORECASE,
)
_EXCUSE = re.compile(
    r"(?:please )?(?:excuse|pardon|forgive) (?:my|the|any) (?:brevity|typos)|"
    r"bitte entschuldigen sie (?:die )?(?:meine )?(?:kürze|tippfehler)|veuillez excuser ma brièveté|disculpa(?:d|e)? mi brevedad",
    re.IGNORECASE,
)


def is_device_line(line: str) -> bool:
    """Whether this line, as the last of a message, was put there by a phone or a program."""
    if len(line) > 600:
        return False
    text = " ".join(_LINK.sub(" ", line).split()).strip(_NO_LETTERS).replace(" ,", ",")
    if not 3 <= len(text) < _MAX or text.endswith("?"):
        return False
    if text.count(" ") < _MAX_WORDS and (_SENT_FIRST.match(text) or _SENT_LAST.search(text)):
        return bool(_DEVICE.search(text) or _MINE.match(text))
    return bool(_OFFER.match(text) or _EXCUSE.match(text))
