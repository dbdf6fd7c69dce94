"""A network of machines on this one: namespaces with an address each, joined by a bridge, whose links can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Self

_numbers = count()


class Network:
    """`with Network(3) as network:` three machines; `network.address` is this one, as they see it. Needs root."""

    def __init__(self, machines: int) -> None:
        number = os.getpid() * 7 + next(_numbers)
        self._subnet = f"10.{200 + number % 50}.{number // 50 % 250}"
        self._name = f"am{number % 1_000_000}"
        self.machines = range(machines)
        self.address = f"{self._subnet}.1"

    @staticmethod
    def why_not() -> str:
        """Why there can be none here; empty when there can."""
        if os.getuid() != 0:
            return "network namespaces need root"
        if shutil.which("ip") is None:
            return "no ip command: apt-get install iproute2"
        tried = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True, text=True)
        return "" if tried.returncode == 0 else f"no network namespaces here: {tried.stderr.strip()}"

    def __enter__(self) -> Self:
        try:
            _ip("link", "add", self._name, "type", "bridge")
            _ip("address", "add", f"{self.address}/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
            for i in self.machines:
                space, outer, inner = f"{self._name}-{i}", f"{self._name}o{i}", f"{self._name}i{i}"
                _ip("netns", "add", space)
                _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
                _ip("link", "set", outer, "master", self._name, "up")
                _ip("link", "set", inner, "netns", space)
                _ip("-n", space, "address", "add", f"{self._subnet}.{i + 2}/24", "dev", inner)
                _ip("-n", space, "link", "set", inner, "up")
                _ip("-n", space, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for i in self.machines:  # a namespace takes its end of the link along, and that the other one
            subprocess.run(["ip", "netns", "delete", f"{self._name}-{i}"], check=False, capture_output=True)
            subprocess.run(["ip", "link", "delete", f"{self._name}o{i}"], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self._name], check=False, capture_output=True)

    def on(self, machine: int, command: Sequence[str]) -> list[str]:
        """The command that runs this one on a machine."""
        return ["ip", "netns", "exec", f"{self._name}-{machine}", *command]

    def cut(self, machine: int) -> None:
        """Nothing comes or goes any more, and nobody is told."""
        _ip("link", "set", f"{self._name}o{machine}", "down")

    def join(self, machine: int) -> None:
        _ip("link", "set", f"{self._name}o{machine}", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
