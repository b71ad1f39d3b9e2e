"""What a client of discovery has, wants and has refused: xDS's two ways of asking, without I/O.

Both answer one type at a time and wait for the client's word on it before they say more of that type: so a
word is always about the last answer, and what changes meanwhile is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.registry.domain.rejection import Verdict
from services.registry.domain.resource import CDS, EDS, LDS, ORDER, RDS, Resource, View, version_of

ALL = "*"
NONE = ""  # The version of what there is not.
WHOLE = {CDS, LDS}  # State of the world: an answer holds all that is wanted; what it lacks is gone.
LATE = (CDS, EDS)  # What is gone is told last, after nobody needs it.
NEEDS = {CDS: EDS, LDS: RDS}  # Given a changed one, a client waits for what it needs once more.
NAMES_MAX = 20_000  # Names one client may ask for: twice what there can be.


@dataclass(frozen=True)
class Asked:
    """A request, of either way."""

    type_url: str
    names: frozenset[str] = frozenset()  # State of the world: all that are wanted. Delta: further ones.
    dropped: frozenset[str] = frozenset()  # Delta alone.
    nonce: str = ""  # Of the answer it is about; empty: about none.
    version: str = ""  # State of the world, first request: what the client has from an earlier stream.
    versions: Mapping[str, str] = field(default_factory=dict)  # Delta, first request: likewise, by name.
    error: str | None = None  # Why the answer was refused.


@dataclass(frozen=True)
class Answer:
    """What a client is to be told of one type."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...]
    gone: tuple[str, ...] = ()  # Delta alone.


@dataclass
class Subscription:
    """One type of one client."""

    everything: bool = False
    names: set[str] = field(default_factory=set)
    had: dict[str, str] = field(default_factory=dict)  # Accepted: version by name.
    sent: dict[str, str] = field(default_factory=dict)  # Awaiting the client's word.
    refused: dict[str, str] = field(default_factory=dict)
    nonce: str = ""  # Of what was sent and not yet answered.
    version: str = ""  # Of that.
    answered: bool = False  # Something was sent on this stream, or the client has it from an earlier one.

    def wanted(self, offered: Mapping[str, Resource]) -> dict[str, Resource]:
        """What there is of what it asks for."""
        if self.everything:
            return dict(offered)
        return {name: offered[name] for name in self.names if name in offered}

    def changed(self, offered: Mapping[str, Resource]) -> dict[str, str]:
        """Version by name of what the client does not have as it is."""
        now = {name: each.version for name, each in self.wanted(offered).items()}
        gone = {name for name in (*self.had, *self.names) if name not in now and name != ALL}
        now |= dict.fromkeys(gone, NONE)
        differing = {name: version for name, version in now.items() if self.had.get(name) != version}
        if any(now.get(name, NONE) != version for name, version in self.refused.items()):
            self.refused = {}  # It may have been another one's fault.
        return {name: at for name, at in differing.items() if self.refused.get(name) != at}

    def send(self, told: Mapping[str, str], nonce: str, version: str) -> None:
        self.sent, self.nonce, self.version, self.answered = dict(told), nonce, version, True

    def hear(self, error: str | None) -> None:
        """The client's word on what was sent."""
        if error is None:
            self.had |= self.sent
            for name in [name for name in self.had if self.had[name] == NONE and name not in self.names]:
                del self.had[name]
        else:
            self.refused |= self.sent
        self.sent, self.nonce = {}, ""

    def renew(self, names: Iterable[str]) -> None:
        """These are told once more, though the client has them, or has them on their way."""
        for name in names:
            self.had.pop(name, None)
            self.sent.pop(name, None)


class Session:
    """One stream."""

    def __init__(self, told: tuple[str, ...] = ORDER) -> None:
        """`told` are the types that there are, in the order in which they are told."""
        self.types: dict[str, Subscription] = {}
        self._told, self._answers = told, 0

    def hear(self, asked: Asked) -> Verdict | None:
        """Takes a request in. What it says of the last answer of its type, if anything."""
        if asked.type_url not in self._told:
            return None
        known = self.types.get(asked.type_url)
        if known is None:
            known = self.types[asked.type_url] = Subscription()
            self._begin(known, asked)
            return None
        verdict = None
        if asked.nonce and asked.nonce == known.nonce:
            why = "" if asked.error is None else asked.error or "?"
            verdict = Verdict(asked.type_url, known.version, why)
            known.hear(asked.error)
        self._change(known, asked)
        return verdict

    def due(self, view: View) -> Iterator[Answer]:
        """What may be told now. Each is taken as sent when it is given out."""
        for type_url in self._told:
            yield from self._of(type_url, view, late=False)
        if not any(known.nonce for known in self.types.values()):
            for type_url in LATE:
                yield from self._of(type_url, view, late=True)

    def _of(self, type_url: str, view: View, *, late: bool) -> Iterator[Answer]:
        known = self.types.get(type_url)
        if known is None or known.nonce:
            return
        changed = known.changed(view[type_url])
        if type_url in LATE and not late:
            changed = {name: version for name, version in changed.items() if version or name in known.names}
        if answer := self._answer(type_url, known, changed, view):
            self._ask_anew(type_url, known.sent)
            yield answer

    def _begin(self, known: Subscription, asked: Asked) -> None:
        raise NotImplementedError

    def _change(self, known: Subscription, asked: Asked) -> None:
        raise NotImplementedError

    def _answer(
        self, type_url: str, known: Subscription, changed: dict[str, str], view: View
    ) -> Answer | None:
        raise NotImplementedError

    def _ask_anew(self, type_url: str, told: Mapping[str, str]) -> None:
        """A client that is given another cluster or listener waits for its endpoints or routes once more."""
        needing = self.types.get(NEEDS.get(type_url, ""))
        if needing:
            needing.renew(list(needing.had) if type_url == LDS else told)

    def _nonce(self) -> str:
        self._answers += 1
        return str(self._answers)


class Delta(Session):
    """DeltaAggregatedResources: what changes is told by name."""

    def _begin(self, known: Subscription, asked: Asked) -> None:
        known.everything = ALL in asked.names or (not asked.names and asked.type_url in WHOLE)
        known.names = set(sorted(asked.names - {ALL})[:NAMES_MAX])
        known.had = dict(asked.versions)
        known.answered = bool(asked.versions)

    def _change(self, known: Subscription, asked: Asked) -> None:
        known.everything = (known.everything or ALL in asked.names) and ALL not in asked.dropped
        known.names |= set(sorted(asked.names - {ALL})[: NAMES_MAX - len(known.names)])
        known.names -= asked.dropped
        known.renew(asked.names)  # It may have thrown away what it had.
        if not known.everything:
            known.renew(asked.dropped)
        for name in asked.names:
            known.refused.pop(name, None)

    def _answer(
        self, type_url: str, known: Subscription, changed: dict[str, str], view: View
    ) -> Answer | None:
        if not changed and (known.answered or type_url not in WHOLE):
            return None  # Of clusters and listeners a client must hear that there are none.
        offered = view[type_url]
        told = tuple(offered[name] for name, version in sorted(changed.items()) if version != NONE)
        gone = tuple(name for name, version in sorted(changed.items()) if version == NONE)
        version = version_of(known.wanted(offered))
        known.send(changed, self._nonce(), version)
        return Answer(type_url, version, known.nonce, told, gone)


class StateOfTheWorld(Session):
    """StreamAggregatedResources: clusters and listeners are told all at once, others as they change."""

    def __init__(self, told: tuple[str, ...] = ORDER) -> None:
        super().__init__(told)
        self._claims: dict[str, str] = {}  # By type: the version that the client has from an earlier stream.

    def _begin(self, known: Subscription, asked: Asked) -> None:
        known.everything = ALL in asked.names or (not asked.names and asked.type_url in WHOLE)
        known.names = set(sorted(asked.names - {ALL})[:NAMES_MAX])
        if asked.version:
            self._claims[asked.type_url] = asked.version

    def _change(self, known: Subscription, asked: Asked) -> None:
        if known.nonce:
            return  # It was written before the last answer was read; the word on that names them all.
        if known.everything and not asked.names:
            return
        known.everything = ALL in asked.names
        names = set(sorted(asked.names - {ALL})[:NAMES_MAX])
        if not known.everything:
            known.renew(set(known.had) - names)
        known.names = names

    def _answer(
        self, type_url: str, known: Subscription, changed: dict[str, str], view: View
    ) -> Answer | None:
        wanted = known.wanted(view[type_url])
        version = version_of(wanted)
        if self._claims.pop(type_url, "") == version:
            known.had = {name: each.version for name, each in wanted.items()}
            known.answered = True
            return None
        if type_url in WHOLE:
            if not changed and known.answered:
                return None
            told = tuple(wanted[name] for name in sorted(wanted))
        else:
            told = tuple(wanted[name] for name, at in sorted(changed.items()) if at != NONE)
            if not told:
                known.had |= changed  # There is no way to say that they are gone.
                return None
        known.send(changed, self._nonce(), version)
        return Answer(type_url, version, known.nonce, told)
