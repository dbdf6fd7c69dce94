"""How many Message-IDs a second one core makes: `python -m bench message_ids`."""

from __future__ import annotations

import platform
import time

from agentmail.message.identifiers import make_message_id

NUMBER = 300_000


def main() -> None:
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, one core, CPU time")
    for name, domain, secret in (
        ("without a tag", "example.org", None),
        ("with the store's tag", "example.org", b"k" * 32),
        ("beside a longer domain", "mail.some-company.example", b"k" * 32),
    ):
        started = time.process_time()
        made = {make_message_id(domain, secret=secret) for _ in range(NUMBER)}
        spent = time.process_time() - started
        assert len(made) == NUMBER
        print(f"{name:<24}{NUMBER / spent:>12,.0f} a second")


if __name__ == "__main__":
    main()
