"""`agentmail sync --watch` with webhooks in agentmail.toml: mail comes in, an endpoint hears of it and can check it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import standardwebhooks

from agentmail.testing import EmbeddedMail
from tests.integration.turns.test_turns import AGENT, letter
from tests.integration.webhooks.endpoint import Endpoint

from .command import environment, finish, start

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def test_an_endpoint_hears_of_new_mail(tmp_path: Path) -> None:
    async with EmbeddedMail({AGENT: "demo"}) as mail, Endpoint() as endpoint:
        (tmp_path / "agentmail.toml").write_text(
            f'[[webhooks]]\nurl = "{endpoint.url}"\nsecrets = ["{SECRET}"]\nevents = ["message.*"]\n'
            "allow_private = true\n"
        )
        env = environment(mail.account(AGENT), store=f"sqlite:///{tmp_path / 'store.db'}")
        process = await start("sync", "--watch", "--json", env=env, cwd=tmp_path)
        try:
            assert process.stdout is not None
            await process.stdout.readline()  # the first pass is over: what comes now is news
            await mail.deliver(AGENT, letter(1))
            await endpoint.expect(lambda requests: requests)
        finally:
            process.send_signal(signal.SIGINT)
            done = await finish(process)
    request = endpoint.requests[0]
    standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
    told = json.loads(request.body)
    assert (told["type"], told["data"]["account"], told["data"]["message"][:1]) == ("message.filed", AGENT, "m")
    assert "harbour" not in request.body.decode()  # ids, and no word of the mail
    assert done.code == 130, done.err
    assert SECRET not in done.out + done.err
