"""Reads pickles of arrays, lists and strings, such as CIFAR's batches, without unpickling: nothing in them is called.

A pickle is a program; this interprets its opcodes (Python's pickletools lists them all), knows only those that build
such data, and recognises the three calls by which numpy's arrays are written. Any other call or opcode is an error.
Large contents are left in place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from genmodel.data.sources.archives.content import Bytes
from genmodel.errors import SourceError

_SMALL = 255  # bytes of a string that is kept; a longer one is a Blob
_KEPT = 64 << 20  # bytes of all of them
_STEPS = 1 << 21
_MARK = object()
_WINDOW = 64 << 10
_NUMPY = "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"


class Blob(NamedTuple):
    """Bytes left in place."""

    offset: int
    size: int


class Array(NamedTuple):
    """A numpy array."""

    shape: tuple[int, ...]
    kind: str  # as dtype's str: |u1, <i8
    data: Blob | bytes


class _Name(NamedTuple):
    module: str
    name: str


class _Raw:
    """A numpy object before its state is set."""

    def __init__(self, what: str, kind: str = "") -> None:
        self.what, self.kind = what, kind
        self.array: Array | None = None


class _Refused(Exception):
    pass


def read_pickle(content: Bytes, start: int, length: int, where: str) -> Any:
    """The object pickled in `length` bytes from `start` on: dicts, lists, tuples, numbers, str, bytes, Blob and Array.

    SourceError, naming `where`, if it holds anything else or is damaged.
    """
    try:
        return _Machine(content, start, length).run()
    except _Refused as error:
        raise SourceError(f"{where} is a pickle that is not read: {error}") from error
    except (IndexError, KeyError, ValueError, TypeError, UnicodeError, AttributeError, OverflowError) as error:
        raise SourceError(f"{where} is a damaged pickle ({type(error).__name__}): fetch it again") from error


class _Machine:
    def __init__(self, content: Bytes, start: int, length: int) -> None:
        self._content, self._at, self._end = content, start, start + length
        self._window, self._window_at, self._kept = b"", start, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(_STEPS):
            code = self._take(1)
            if code == b".":
                return _plain(self._stack.pop())
            step = _STEPS_BY_CODE.get(code)
            if step is None:
                raise _Refused(f"it has the opcode {code!r}, which arrays do not need")
            step(self)
        raise _Refused(f"it has more than {_STEPS:,} steps")

    def _take(self, size: int) -> bytes:
        if self._at + size > self._end:
            raise ValueError("cut off")
        inside = self._at - self._window_at
        if inside < 0 or inside + size > len(self._window):
            self._window, self._window_at = self._content.read_at(self._at, max(size, _WINDOW)), self._at
            inside = 0
        self._at += size
        found = self._window[inside : inside + size]
        if len(found) < size:
            raise ValueError("cut off")
        return found

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def text(self, count: int) -> Blob | bytes:
        """The string whose length is in the next `count` bytes."""
        size = self.number(count)
        if size > self._end - self._at:
            raise ValueError("cut off")
        if size > _SMALL:
            self._at += size
            return Blob(self._at - size, size)
        self._kept += size
        if self._kept > _KEPT:
            raise _Refused(f"it has more than {_KEPT:,} bytes of text")
        return self._take(size)

    def line(self) -> str:
        found = bytearray()
        while (letter := self._take(1)) != b"\n":
            found += letter
            if len(found) > 255:
                raise ValueError("a long name")
        return found.decode("ascii")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def to_mark(self) -> list[Any]:
        """Pop the topmost mark and return what was above it."""
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        found = self._stack[at + 1 :]
        del self._stack[at:]
        return found

    def keep(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def tuple_of(self, count: int) -> None:
        found = tuple(self._stack[-count:])
        if len(found) != count:
            raise ValueError("too few values")
        del self._stack[-count:]
        self._stack.append(found)

    def append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError("not a list")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("not a dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[key.decode("latin-1") if isinstance(key, bytes) else str(key)] = value

    def call(self) -> None:
        """Do what REDUCE would, for numpy's calls only."""
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or function.module not in _NUMPY:
            raise _refused_call(function)
        if function.name == "_reconstruct":
            self.push(_Raw("ndarray"))
        elif function.name == "dtype":
            self.push(_Raw("dtype", _text(arguments[0])))
        elif function.name == "_frombuffer":
            data, kind, shape, order = arguments
            raw = _Raw("ndarray")
            raw.array = _array(shape, kind, _text(order) != "C", data)
            self.push(raw)
        else:
            raise _refused_call(function)

    def build(self) -> None:
        """Set an object's state, as BUILD would."""
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, _Raw):
            raise _Refused("it sets the state of an object that is not numpy's")
        if target.what == "ndarray":
            _, shape, kind, fortran, data = state
            target.array = _array(shape, kind, bool(fortran), data)
        else:
            order = _text(state[1])
            if target.kind[:1] not in ("<", ">", "|", "="):
                target.kind = order + target.kind


def _refused_call(function: Any) -> _Refused:
    name = f"{function.module}.{function.name}" if isinstance(function, _Name) else type(function).__name__
    return _Refused(f"it would call {name}")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _array(shape: Any, kind: Any, fortran: bool, data: Any) -> Array:
    if fortran or not isinstance(kind, _Raw) or not isinstance(data, Blob | bytes):
        raise _Refused("it has an array that is not row-major or not of plain values")
    return Array(tuple(int(length) for length in shape), kind.kind, data)


def _plain(value: Any) -> Any:
    """A value, or the values of a dict, with numpy's objects as arrays."""
    if isinstance(value, _Raw):
        if value.array is None:
            raise ValueError("an array without a state")
        return value.array
    if isinstance(value, dict):
        return {key: _plain(each) if isinstance(each, _Raw) else each for key, each in value.items()}
    return value


def _name(machine: _Machine) -> None:
    module = machine.line()
    machine.push(_Name(module, machine.line()))


def _stack_name(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(_Name(_text(module), _text(name)))


def _unicode(machine: _Machine, count: int) -> None:
    found = machine.text(count)
    machine.push(found if isinstance(found, Blob) else found.decode("utf-8", "surrogatepass"))


def _set_one(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _append_one(machine: _Machine) -> None:
    value = machine.pop()
    machine.append([value])


_STEPS_BY_CODE: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: None if m.number(1) <= 5 else m.tuple_of(1 << 30),
    b"\x95": lambda m: m.push(None) if m.number(8) < 0 else None,
    b"(": lambda m: m.push(_MARK),
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number(1)),
    b"M": lambda m: m.push(m.number(2)),
    b"J": lambda m: m.push(m.number(4, signed=True)),
    b"\x8a": lambda m: m.push(m.number(m.number(1), signed=True)),
    b"U": lambda m: m.push(m.text(1)),
    b"T": lambda m: m.push(m.text(4)),
    b"C": lambda m: m.push(m.text(1)),
    b"B": lambda m: m.push(m.text(4)),
    b"\x8e": lambda m: m.push(m.text(8)),
    b"\x96": lambda m: m.push(m.text(8)),
    b"\x8c": lambda m: _unicode(m, 1),
    b"X": lambda m: _unicode(m, 4),
    b"q": lambda m: m.keep(m.number(1)),
    b"r": lambda m: m.keep(m.number(4)),
    b"\x94": lambda m: m.memoize(),
    b"h": lambda m: m.get(m.number(1)),
    b"j": lambda m: m.get(m.number(4)),
    b"t": lambda m: m.push(tuple(m.to_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"a": _append_one,
    b"e": lambda m: m.append(m.to_mark()),
    b"s": _set_one,
    b"u": lambda m: m.set_items(m.to_mark()),
    b"c": _name,
    b"\x93": _stack_name,
    b"R": lambda m: m.call(),
    b"b": lambda m: m.build(),
}
