"""Mail domains where anybody can get an address: sharing one makes nobody a colleague."""

from __future__ import annotations

_EXACT = """
    126.com 163.com 21cn.com aim.com alice.it aliyun.com aol.com arcor.de att.net bellsouth.net bigpond.com bk.ru
    bluewin.ch bol.com.br btinternet.com centrum.cz charter.net comcast.net cox.net daum.net disroot.org duck.com
    earthlink.net email.cz email.com fastmail.com fastmail.fm foxmail.com free.fr freenet.de gmail.com gmx.at gmx.ch
    gmx.com gmx.de gmx.fr gmx.net googlemail.com hanmail.net hey.com hushmail.com icloud.com inbox.com inbox.lv inbox.ru
    interia.pl laposte.net libero.it list.ru live.com mac.com mail.com mail.de mail.ee mail.ru mailbox.org mailfence.com
    me.com msn.com nate.com naver.com netscape.net ntlworld.com o2.pl onet.pl online.de online.no optonline.net
    optusnet.com.au
    orange.fr passport.com pm.me pobox.com posteo.de posteo.net post.cz proton.me protonmail.ch protonmail.com qq.com
    rambler.ru rediffmail.com riseup.net rocketmail.com rogers.com runbox.com sapo.pt sbcglobal.net seznam.cz sfr.fr
    shaw.ca sina.cn sina.com sky.com skynet.be sohu.com t-online.de talktalk.net telenet.be telus.net terra.com.br
    tiscali.it tom.com tuta.com tuta.io tutamail.com tutanota.com tutanota.de ukr.net uol.com.br verizon.net
    virgilio.it virginmedia.com vk.com vp.pl wanadoo.fr web.de wp.pl xs4all.nl xtra.co.nz ya.ru yandex.com yandex.ru
    yeah.net ymail.com zoho.com zohomail.com
"""
_DOMAINS = frozenset(_EXACT.split())
_EVERY_COUNTRY = frozenset(("hotmail", "live", "outlook", "yahoo", "yandex", "gmx", "zoho"))
"""Providers with a domain per country: `hotmail.co.uk`, `yahoo.co.jp`."""


def belongs_to_everybody(domain: str) -> bool:
    """Whether strangers share this domain, so that it says nothing about who belongs to whom."""
    return domain in _DOMAINS or domain.partition(".")[0] in _EVERY_COUNTRY or "." not in domain
