"""What DLLs import and export."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .ui import Failure


class _Image:
    """A DLL (PE/COFF, 32 or 64 bit)."""

    def __init__(self, image: bytes) -> None:
        self.bytes = image
        (header,) = struct.unpack_from("<I", image, 0x3C)
        sections_count, optional_size = struct.unpack_from("<H12xH", image, header + 6)
        optional = header + 24
        (magic,) = struct.unpack_from("<H", image, optional)
        self._directories = optional + (112 if magic == 0x20B else 96)
        self._sections = [
            struct.unpack_from("<4I", image, optional + optional_size + 40 * index + 8)
            for index in range(sections_count)
        ]

    def directory(self, index: int) -> int:
        """The address of one of its tables, 0 if it has none."""
        return int(struct.unpack_from("<I", self.bytes, self._directories + 8 * index)[0])

    def offset(self, address: int) -> int:
        for virtual_size, start, raw_size, raw_start in self._sections:
            if start <= address < start + max(virtual_size, raw_size):
                return int(address - start + raw_start)
        raise Failure("a table of the DLL is damaged")

    def text(self, address: int) -> str:
        start = self.offset(address)
        return self.bytes[start : self.bytes.index(b"\0", start)].decode("ascii")


def symbols(image: bytes) -> int:
    """Returns how many entries the symbol table of a DLL has; it has none if it is stripped."""
    (header,) = struct.unpack_from("<I", image, 0x3C)
    return int(struct.unpack_from("<I", image, header + 16)[0])


def imports(image: bytes) -> set[str]:
    """The names in the import table of a DLL, in lower case."""
    dll = _Image(image)
    entry = dll.offset(dll.directory(1))
    names = set()
    while (name := struct.unpack_from("<12xI", image, entry)[0]) != 0:
        names.add(dll.text(name).lower())
        entry += 20
    return names


def exports(image: bytes) -> Iterator[str]:
    """The names that a DLL exports."""
    dll = _Image(image)
    count, names = struct.unpack_from("<24xI4xI", image, dll.offset(dll.directory(0)))
    for (address,) in struct.iter_unpack("<I", image[dll.offset(names) : dll.offset(names) + 4 * count]):
        yield dll.text(address)
