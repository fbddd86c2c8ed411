"""Reads the text of a compiled program, as XLA for CPU, GPU and TPU writes it."""

import math
import re
from typing import NamedTuple

#: Bits of an element; a type that is not listed is read as its digits, as in ``f8e4m3fn``.
_BITS = {"pred": 8, "token": 0, "opaque": 0}


class Array(NamedTuple):
    """An array of a program: its element type, its shape, and how it lies in which memory.

    Attributes:
        dtype: element type, as XLA writes it: ``"f32"``, ``"bf16"``, ``"pred"``.
        shape: sides.
        order: axes from the one whose elements lie side by side to the outermost.
        tile: sides of a tile, of the last axes in that order; a TPU pads them to whole tiles.
        memory: number of the memory space: 0 is the chip's main memory, others are on-chip memories
            of a TPU (1 is VMEM), or 5, the host's.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    memory: int = 0

    @property
    def bytes(self) -> int:
        """The bytes of all elements, without the padding of a tiled layout."""
        return self._size(self.shape)

    @property
    def stored_bytes(self) -> int:
        """The bytes that it takes up, those of padding included."""
        if not self.tile or not self.shape:
            return self.bytes
        sides = [self.shape[axis] for axis in self.order]
        for place, tile in enumerate(reversed(self.tile)):
            if place < len(sides):
                sides[place] = -(-sides[place] // tile) * tile
        return self._size(tuple(sides))

    def _size(self, shape: tuple[int, ...]) -> int:
        bits = _BITS.get(self.dtype)
        if bits is None:
            bits = int(re.findall(r"\d+", self.dtype)[0])
        return -(-math.prod(shape) * bits // 8)


class Instruction(NamedTuple):
    """An instruction of a computation.

    Attributes:
        name: its name, without the percent sign.
        opcode: what it does: ``"add"``, ``"fusion"``, ``"all-reduce"``.
        arrays: what it returns; several if it returns a tuple, those of nested tuples in a row.
        operands: names of the instructions that it reads.
        literal: the text between its parentheses: the value of a constant, the number of a parameter.
        attributes: the text behind them.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    literal: str
    attributes: str

    @property
    def origin(self) -> str:
        """The JAX operation it came from, such as ``"jit(step)/jvp(Encoder)/head/dot_general"``."""
        return _attribute(r'op_name="([^"]*)"', self.attributes)

    @property
    def is_host_send(self) -> bool:
        """Whether it sends an array to the host, not to another device."""
        return self.opcode == "send" and "is_host_transfer=true" in self.attributes

    @property
    def bytes(self) -> int:
        """The bytes of what it returns."""
        return sum(array.bytes for array in self.arrays)

    def called(self, *names: str) -> list[str]:
        """Returns the computations that it names in the given attributes, such as ``"calls"``."""
        found = []
        for name in names:
            for several, single in re.findall(
                rf"\b{name}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.attributes
            ):
                found += re.findall(r"[\w.\-]+", several or single)
        return found


class Computation(NamedTuple):
    """A computation: its instructions by name, in order, and the name of the one it returns."""

    instructions: dict[str, Instruction]
    root: str


class Program(NamedTuple):
    """A program: its computations by name, and the name of the one that is run."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Program:
    """Reads a compiled program.

    Args:
        text: HLO text, as ``compiled.as_text()`` returns it.

    Raises:
        ValueError: if the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, name, instructions, root = "", "", {}, ""
    for line in text.splitlines():
        opening = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if opening:
            name, instructions, root = opening[2], {}, ""
            entry = name if opening[1] else entry
        elif line == "}" and name:
            computations[name] = Computation(instructions, root or next(reversed(instructions)))
            name = ""
        elif name and (made := _instruction(line)):
            instructions[made.name] = made
            if line.lstrip().startswith("ROOT"):
                root = made.name
    if not entry:
        raise ValueError("the text of the program has no ENTRY computation")
    return Program(computations, entry)


def _instruction(line: str) -> Instruction | None:
    """Reads a line of a computation; None if it holds no instruction."""
    left, equals, right = line.partition(" = ")
    if not equals:
        return None
    right = re.sub(r"/\*.*?\*/", "", right)
    end = _closing(right, 0) if right.startswith("(") else right.find(" ")
    call = re.match(r"\s*([a-z][\w\-]*)\(", right[end:])
    if call is None:
        return None
    start = end + call.end() - 1
    stop = _closing(right, start)
    literal = right[start + 1 : stop - 1]
    return Instruction(
        left.split()[-1].lstrip("%"),
        call[1],
        _arrays(right[:end]),
        tuple(re.findall(r"%([\w.\-]+)", literal)),
        literal,
        right[stop:],
    )


def _closing(text: str, start: int) -> int:
    """Returns the position behind the parenthesis that closes the one at a position."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    return len(text)


def _arrays(text: str) -> tuple[Array, ...]:
    found = re.findall(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?", text)
    return tuple(
        Array(
            dtype,
            _numbers(sides.replace("<=", "")),
            order=_numbers(_attribute(r"^([\d,]+)", layout)),
            tile=_numbers(_attribute(r"T\(([\d,]+)\)", layout)),
            memory=int(_attribute(r"S\((\d+)\)", layout) or 0),
        )
        for dtype, sides, layout in found
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _attribute(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""
