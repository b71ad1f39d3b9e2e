"""A CSV file (RFC 4180) as it comes in: bytes cut anywhere become records, with the lines they begin on.

Bounded whatever the file holds. A quotation mark that is never closed costs its own line, not those after it.
"""

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

RECORD_BYTES_MAX = 128 * 1024  # Twice what a product's event can carry.
DELIMITERS = ",;\t"
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES_MAX = 4  # Of the longest of MARKS: as much is waited for before the first byte is read.
ENDLESS = "a quotation mark is opened and never closed, or there is one within a cell that has none around it"


class Unreadable(Exception):
    """The file cannot be read; the argument says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A line of the table; `problem` says why it could not be read."""

    line: int  # On which it begins, from 1.
    cells: tuple[str, ...] = ()
    problem: str = ""


class Sheet:
    """Feed it, then end it; each gives the records that are whole by then."""

    def __init__(self, charset: str = "", delimiter: str = "") -> None:
        """Raises Unreadable for a charset that nobody knows."""
        self._charset, self._delimiter = charset and _known(charset), delimiter
        self._head: bytes | None = b""  # What came before the charset was decided upon.
        self._wide: codecs.IncrementalDecoder | None = None  # Of charsets in which ASCII takes more bytes.
        self._rest, self._line, self._long = bytearray(), 0, False
        self._open: list[tuple[int, bytes]] = []  # Lines of a record that a quotation mark keeps open.
        self._size, self._marks = 0, 0  # Of those lines.

    def feed(self, data: bytes) -> Iterator[Record]:
        if self._head is not None:
            self._head += data
            if len(self._head) < MARK_BYTES_MAX:
                return
            data = self._begin()
        self._rest += self._narrow(data)
        yield from self._lines()

    def end(self) -> Iterator[Record]:
        """The rest."""
        if self._head is not None:
            self._rest += self._narrow(self._begin())
        self._rest += self._narrow(b"", final=True)
        if self._rest and not self._rest.endswith(b"\n"):
            self._rest += b"\n"
        yield from self._lines()
        while self._open:
            yield from self._give_up()

    def _begin(self) -> bytes:
        """Decides upon the charset. Returns what came, without a byte order mark."""
        came, self._head = self._head or b"", None
        for mark, charset in MARKS:
            if came.startswith(mark) and self._charset in ("", charset):
                self._charset = charset
                came = came[len(mark) :] if charset == "utf-8" else came
                break
        self._charset = self._charset or "utf-8"
        if self._charset.startswith(("utf-16", "utf-32")):
            self._wide = codecs.getincrementaldecoder(self._charset)("replace")
            self._charset = "utf-8"
        return came

    def _narrow(self, data: bytes, *, final: bool = False) -> bytes:
        return self._wide.decode(data, final).encode() if self._wide else data

    def _lines(self) -> Iterator[Record]:
        """The records of all whole lines. A line without end is cut off where it grows too long."""
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in lines:
            self._line += 1
            if self._long:
                self._long = False
                yield Record(self._line, problem=f"the line has more than {RECORD_BYTES_MAX} bytes")
            else:
                yield from self._take(self._line, bytes(line))
        if len(rest) > RECORD_BYTES_MAX:
            self._rest, self._long = bytearray(), True

    def _take(self, number: int, line: bytes) -> Iterator[Record]:
        line = line.removesuffix(b"\r")
        self._open.append((number, line))
        self._size += len(line) + 1
        self._marks += line.count(b'"')
        if self._size > RECORD_BYTES_MAX:
            yield from self._give_up()
        elif self._marks % 2 == 0:
            text = b"\n".join(line for _, line in self._close())
            if text.strip():
                yield self._record(number - text.count(b"\n"), text)

    def _close(self) -> list[tuple[int, bytes]]:
        lines, self._open, self._size, self._marks = self._open, [], 0, 0
        return lines

    def _give_up(self) -> Iterator[Record]:
        """Reports the line that opened the record, and reads those after it again by themselves."""
        (number, _), *others = self._close()
        yield Record(number, problem=ENDLESS)
        for number, line in others:
            yield from self._take(number, line)

    def _record(self, line: int, raw: bytes) -> Record:
        try:
            text = raw.decode(self._charset)
        except UnicodeDecodeError as error:
            said = f"byte {error.start + 1} is 0x{raw[error.start]:02x}, which is not {self._charset}"
            return Record(line, problem=f"{said}; say which charset the file has")
        if self._wide and "\ufffd" in text:
            return Record(line, problem="it holds bytes that are no characters")
        if not self._delimiter:
            self._delimiter = max(DELIMITERS, key=text.count)
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            return Record(line, problem=str(error))
        return Record(line, tuple(cell for row in rows for cell in row))


def _known(charset: str) -> str:
    """Its name as Python spells it."""
    try:
        info = codecs.lookup(charset)
    except (LookupError, ValueError):
        raise Unreadable(f"`{charset}` is no charset that is known here") from None
    if not info._is_text_encoding:  # Such as zip and hex, which Python calls codecs too.
        raise Unreadable(f"`{charset}` is no charset")
    return info.name
