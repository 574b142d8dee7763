# SPDX-License-Identifier: Apache-2.0
"""Client of a data plane's table socket (docs/interfaces.md, "Table socket")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from og.jsonsock import SocketError, request

if TYPE_CHECKING:
    from collections.abc import Iterable


Share = tuple[str, str, int]  # service, site, part of 1024


class DataPlaneError(Exception):
    """The data plane cannot be asked. It may not be running; the text names the socket."""


class TablesRefusedError(Exception):
    """The data plane is there and refused the tables; what it runs did not change. The text is its own."""


@dataclass(frozen=True)
class Status:
    """What a data plane says of itself. `generation` 0 = it has no tables."""

    role: str
    generation: int
    digest: str
    incarnation: str
    serving: bool
    suspect: tuple[str, ...]
    shares: frozenset[Share] = frozenset()  # those above 0


class DataPlane:
    """The data plane behind one table socket. Every call opens a connection of its own."""

    def __init__(self, path: str, timeout_s: float = 5.0) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def status(self) -> Status:
        """Ask for its status. Raises DataPlaneError."""
        answer = self._ask({"op": "status"})
        if answer.get("ok") is not True:
            raise DataPlaneError(f"{self.path}: status: {answer.get('error', 'no reason given')}")
        generation = answer.get("generation")
        return Status(
            role=str(answer.get("role", "")),
            generation=generation if isinstance(generation, int) else 0,
            digest=str(answer.get("digest") or ""),
            incarnation=str(answer.get("incarnation", "")),
            serving=answer.get("serving") is True,
            suspect=tuple(str(name) for name in answer.get("suspect") or ()),
            shares=frozenset(
                (str(share["service"]), str(share["site"]), int(share["share"]))
                for share in answer.get("shares") or ()
                if share["share"]
            ),
        )

    def load(self, tables: dict[str, Any], *, force: bool = False) -> int:
        """Hand over a table document; returns the generation now running.

        Raises TablesRefusedError (nothing changed) or DataPlaneError (unknown: ask for the status). `force` loads a
        generation that is not above the running one.
        """
        message: dict[str, Any] = {"op": "load", "tables": tables}
        if force:
            message["force"] = True
        answer = self._ask(message)
        if answer.get("ok") is not True:
            raise TablesRefusedError(str(answer.get("error", "no reason given")))
        return int(answer.get("generation", tables["generation"]))

    def set_shares(self, shares: Iterable[Share]) -> None:
        """Say which part of new flows goes to other sites; what is not named stays.

        Raises TablesRefusedError (nothing changed) or DataPlaneError.
        """
        named = [{"service": service, "site": site, "share": share} for service, site, share in sorted(shares)]
        answer = self._ask({"op": "shares", "shares": named})
        if answer.get("ok") is not True:
            raise TablesRefusedError(str(answer.get("error", "no reason given")))

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return request(self.path, message, self._timeout_s)
        except SocketError as error:
            raise DataPlaneError(str(error)) from error
