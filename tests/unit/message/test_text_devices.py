"""The line that phones and apps put under a message: known in every language, and told from somebody's words."""

from __future__ import annotations

import pytest

from agentmail.message.devices import is_device_line
from agentmail.message.text import new_text_of

PUT_THERE = """
Outlook für iOS beziehen<https://aka.ms/o0ukef>
Outlook für Android herunterladen<https://aka.ms/AAb9ysg>
Holen Sie sich Outlook für Android<https://aka.ms/AAb9ysg>
Laden Sie Outlook für iOS herunter<https://aka.ms/o0ukef>
Télécharger Outlook pour iOS<https://aka.ms/o0ukef>
Obtenir Outlook pour Android<https://aka.ms/AAb9ysg>
Obtenez Outlook pour Android<https://aka.ms/AAb9ysg>
Obtener Outlook para iOS<https://aka.ms/o0ukef>
Obtén Outlook para Android<https://aka.ms/AAb9ysg>
Obter o Outlook para iOS<https://aka.ms/o0ukef>
Obtenha o Outlook para iOS<https://aka.ms/o0ukef>
Baixar o Outlook para Android
Scarica Outlook per iOS
Ottieni Outlook per Android
Outlook voor iOS downloaden
Download Outlook voor Android
Outlook voor Android ophalen
Skaffa Outlook för iOS
Hämta Outlook för Android
Hent Outlook til iOS
Få Outlook til Android
Få Outlook for iOS
Last ned Outlook for iOS
Hanki Outlook for iOS
Hanki Outlookin iOS-versio
Pobierz program Outlook dla systemu iOS
Pobierz aplikację Outlook dla systemu Android
Uzyskaj aplikację Outlook dla systemu iOS
Stáhnout Outlook pro iOS
Získat Outlook pro Android
iOS için Outlook'u edinin
Android için Outlook’u edinin
Скачать Outlook для iOS
Получить Outlook для Android
Загрузить Outlook для Android
Завантажити Outlook для Android
Отримати Outlook для iOS
Outlook for iOS を入手
iOS 版 Outlook を入手する
Outlook for Androidを入手する
Android 版 Outlook をダウンロード
获取 Outlook for iOS
获取适用于 iOS 的 Outlook
获取适用于 Android 的 Outlook
下载适用于 iOS 的 Outlook
取得 iOS 版 Outlook
下載 iOS 版 Outlook
iOS용 Outlook 다운로드
Android용 Outlook 받기
Outlook for iOS 가져오기
الحصول على Outlook for iOS
احصل على Outlook لـ Android
الحصول على Outlook لنظام التشغيل Android
קבל את Outlook עבור iOS
הורד את Outlook עבור Android
השג את Outlook עבור iOS
Sent from Outlook for iOS
Sent from Yahoo Mail on Android
Sent from Yahoo Mail for iPhone
Yahoo Mail: Search, Organize, Conquer
Gesendet von Yahoo Mail auf Android
Von Yahoo Mail auf Android gesendet
Envoyé depuis Yahoo Mail pour iPhone
Envoyé à partir de Yahoo Mail sur Android
Enviado desde Yahoo Mail para Android
Enviado do Yahoo Mail no Android
Inviato da Yahoo Mail su Android
Verzonden met Yahoo Mail voor Android
Sent from Proton Mail for iOS
Sent from Proton Mail Android
Sent from ProtonMail mobile
Envoyé avec la messagerie sécurisée Proton Mail.
Mit Proton Mail gesendet
Gesendet mit der sicheren E-Mail von Proton Mail.
Enviado con el correo seguro de Proton Mail.
Inviato con l'email sicura Proton Mail.
Verzonden met Proton Mail beveiligde e-mail.
Wysłane za pomocą bezpiecznej poczty e-mail Proton Mail.
Отправлено с помощью безопасной почты Proton Mail.
Von meinem/meiner Galaxy gesendet
Von meinem Samsung Galaxy Smartphone gesendet.
Von meinem Mobiltelefon gesendet
Von unterwegs gesendet
Envoyé depuis mon smartphone Samsung Galaxy.
Envoyé de mon Galaxy
Envoyé depuis mon mobile
Enviado desde mi Galaxy
Enviado desde mi dispositivo móvil
Enviado do meu Galaxy
Enviado a partir do meu telemóvel
Inviato da Galaxy
Inviato dal mio Galaxy
Inviato dal mio iPhone
Inviato dal mio dispositivo Samsung
Verzonden vanaf mijn Galaxy
Verzonden vanaf Samsung Mobile
Verstuurd vanaf mijn iPad
Skickat från min Galaxy
Skickat från min mobil
Sendt fra min Galaxy
Sendt fra Outlook til Android
Sendt fra mobilen
Lähetetty Galaxystani
Lähetetty Galaxy-laitteesta
Lähetetty Outlookista Androidille
Lähetetty matkapuhelimesta
Wysłane z mojego Galaxy
Wysłane z mojego urządzenia Galaxy
Wysłane z telefonu
Odesláno z mého Galaxy
Odesláno z mobilního telefonu
Posláno z iPhonu
Galaxy cihazımdan gönderildi
Samsung cihazımdan gönderildi
iPhone’umdan gönderildi
Android cihazımdan gönderildi
Отправлено с моего Galaxy
Отправлено с устройства Galaxy
Отправлено из мобильной Почты Mail.ru
Отправлено из Mail.ru для iOS
Отправлено из мобильного приложения Яндекс Почты
Отправлено с мобильного устройства
Отправил с iPhone
Надіслано з мого Galaxy
Відправлено з iPhone
Надіслано з пристрою Galaxy
Galaxyから送信
iPadから送信
Galaxy 端末から送信
Yahoo!メール アプリから送信
Xperia™スマートフォンから送信
从我的 Galaxy 发送
发自我的 Galaxy
发自我的小米手机
来自我的华为手机
發自我的 iPhone
從我的 Galaxy 寄出
從我的iPad傳送
傳送自我的 iPhone
寄件自我的 iPhone
从 iPhone 发送
나의 Galaxy에서 보냄
내 Galaxy에서 보냄
내 iPhone에서 보냄
나의 iPad에서 보냄
Galaxy에서 보냄
Samsung Mobile에서 보냄
أُرسلت من Galaxy
أرسل من iPhone
مُرسل من الـ iPhone
مرسل من هاتفي
تم الإرسال من جهاز Galaxy
נשלח מה-iPhone שלי
נשלח מה-Galaxy שלי
נשלח מהטלפון הנייד שלי
נשלח מ-Outlook עבור Android
Sent from Mail for Windows
Sent from Mail<https://go.microsoft.com/fwlink/?LinkId=550986> for Windows 10
Gesendet von Mail für Windows
Provenance : Courrier pour Windows
Enviado desde Correo para Windows
Enviado do Email para Windows
Inviato da Posta per Windows
Verzonden vanuit Mail voor Windows
Skickades från E-post för Windows
Sendt fra Mail til Windows
Sendt fra E-post for Windows
Lähetetty Windowsin Sähköpostista
Wysłane z aplikacji Poczta dla systemu Windows
Odesláno z Pošty pro Windows
Windows için Posta ile gönderildi
Отправлено из приложения "Почта" для Windows
Надіслано з пошти для Windows
Windows 版のメールから送信
发送自 Windows 版邮件应用
從 Windows 的郵件傳送
Windows용 메일에서 보냄
Sent from my Galaxy
From My Iphone 6
Sent with Airmail
Sent from Mailbox for iPad
<<sent by galaxy>>
(Sent from mobile device)
Get Outlook for iOShttps://aka.ms/o0ukef
Sent from my Samsung Galaxy smartphone.
Sent from my T-Mobile 5G Device
Sent from my Verizon, Samsung Galaxy smartphone
Sent from my Pixel
Sent from my mobile phone
Sent from my mobile, please excuse typos
Sent from mobile
Sent from a mobile device
Sent on the go
Sent via BlackBerry by AT&T
Sent from Gmail Mobile
Sent from Spark
Sent via Superhuman
Sent with Shortwave
Sent from Thunderbird Mobile
Get Outlook for iOS<https://aka.ms/o0ukef>
Get BlueMail for Android
Get TypeApp for Android
Von Outlook für iOS gesendet
Gesendet mit BlueMail
Gesendet von meinem iPhone
Diese Nachricht wurde von meinem Android-Gerät mit K-9 Mail gesendet.
Cet e-mail a été envoyé depuis mon téléphone Android avec K-9 Mail.
Please excuse my brevity.
Sent from my Android device with K-9 Mail. Please excuse my brevity.
Enviado desde Outlook para Android
Enviado de Outlook para iOS
Odoslané z iPhonu
Elküldve az iPhone-omról
iPhone-ról küldve
Στάλθηκε από το iPhone μου
Trimis de pe iPhone-ul meu
Gửi từ iPhone của tôi
Dikirim dari iPhone saya
ส่งจาก iPhone ของฉัน
Poslano z mojega iPhona
Изпратено от моя iPhone
""".strip().split("\n")
"""As Outlook, iOS, Samsung, Yahoo, Proton, Mail for Windows, K-9 and others write it."""

WRITTEN = """
Sent from the warehouse on Monday, as agreed.
Get Outlook fixed please
I sent it from my desk.
Von meinem Chef kam nichts.
Gesendet habe ich es gestern.
Outlook is broken again
Enviado el pedido ayer por correo.
Download Outlook and try again, then call me
Bitte laden Sie Outlook herunter und melden Sie sich
Skickat idag!
Get the invoice from my drive
Wysłane wczoraj
来自客户的问题见附件
来自北京的问候
Sent with love
Sent via DHL yesterday, tracking 123
Sent you the phone yesterday.
Von meinem Handy aus kann ich das nicht öffnen.
Mit dem Telefon ist alles gut.
Enviado el teléfono ayer a su oficina.
Envoyé hier le téléphone.
来自客户的手机问题见附件
从上海发货
Does Outlook for iOS show it?
I read it in Outlook for Android.
Please download Outlook for iOS.
I got it from my iPhone
Call me on my mobile
My phone: +34 600 000 000
Отправил вам телефон вчера
Wysłane wczoraj telefonem
Skickat telefonen idag
I will be away from my phone until 5.
Written on my phone, sorry for the typos - see you at 5.
私の携帯に電話してください
iPhoneから送信できません
Sent on Monday by phone
""".strip().split("\n")
"""Last lines that people write."""


@pytest.mark.parametrize("line", PUT_THERE)
def test_what_a_program_put_there_is_no_answer(line: str) -> None:
    assert new_text_of(f"Yes, Tuesday.\n\nAna\n\n{line}\n") == "Yes, Tuesday.\n\nAna"


@pytest.mark.parametrize("line", WRITTEN)
def test_what_somebody_wrote_stays(line: str) -> None:
    text = f"Hello Ben,\n\n{line}"
    assert new_text_of(text) == text


def test_a_long_line_is_a_sentence() -> None:
    """However it begins, and without being looked at for long."""
    assert not is_device_line("Sent from my iPhone " + "and more " * 10_000)
