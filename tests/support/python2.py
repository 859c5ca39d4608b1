"""Writes pickles as Python 2.7 and the NumPy of 2012 did, opcode by opcode, in protocol 2 or 0."""

import struct

import numpy as np


class Options:
    """In place of an object of options.py of cuda-convnet, with fields."""

    def __init__(self, **fields):
        self.fields = fields


def dumps(value):
    """A pickle of protocol 2: texts are byte strings, a repeated object is written once."""
    memo = {}
    return b"\x80\x02" + b"".join(_write(value, memo)) + b"."


def global_name(module, name):
    return f"c{module}\n{name}\n".encode()


def _write(value, memo):
    if id(value) in memo and isinstance(value, dict | list | np.ndarray):
        yield b"j" + struct.pack("<I", memo[id(value)][0])
        return
    match value:
        case None:
            yield b"N"
        case bool():
            yield b"\x88" if value else b"\x89"
        case int():
            yield b"J" + struct.pack("<i", value)
        case float():
            yield b"G" + struct.pack(">d", value)
        case str() | bytes():
            data = value.encode() if isinstance(value, str) else value
            yield b"T" + struct.pack("<i", len(data)) + data
        case tuple():
            yield b"("
            for item in value:
                yield from _write(item, memo)
            yield b"t"
        case list():
            yield b"]" + _keep(value, memo) + b"("
            for item in value:
                yield from _write(item, memo)
            yield b"e"
        case dict():
            yield b"}" + _keep(value, memo) + b"("
            for key, item in value.items():
                yield from _write(key, memo)
                yield from _write(item, memo)
            yield b"u"
        case np.ndarray():
            yield from _array(value, memo)
        case Options():  # an instance of a class of the old kind
            yield b"(" + global_name("options", "OptionsParser") + b"o"
            yield from _write(value.fields, memo)
            yield b"b"
        case _:
            raise TypeError(type(value))


def _array(array, memo):
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    yield global_name("numpy.core.multiarray", "_reconstruct") + global_name("numpy", "ndarray")
    yield from _write((0,), memo)
    yield from _write("b", memo)
    yield b"\x87R" + _keep(array, memo) + b"("
    yield from _write(1, memo)
    yield from _write(array.shape, memo)
    yield global_name("numpy", "dtype")
    yield from _write((array.dtype.str[1:], 0, 1), memo)
    yield b"R"
    yield from _write((3, array.dtype.str[0], None, None, None, -1, -1, 0), memo)
    yield b"b"
    yield from _write(bool(fortran), memo)
    yield from _write(array.tobytes("F" if fortran else "C"), memo)
    yield b"tb"


def _keep(value, memo):
    memo[id(value)] = len(memo), value  # the value too, or its id may be used again
    return b"r" + struct.pack("<I", memo[id(value)][0])
