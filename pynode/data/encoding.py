"""From the bytes of a file to text in UTF-8: packed files, and other encodings."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib

from .dataset import DataError

PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ\x00": lzma.decompress}
BYTE_ORDERS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# UTF-16 without a byte order mark has zeros in every second byte.
SAMPLE = 1000
# Control characters that no text has.
BINARY = bytes(set(range(32)) - set(b"\t\n\x0b\x0c\r\x1a\x1b"))


def unpacked(origin: str, content: bytes) -> bytes:
    """The content, unpacked from gzip, bzip2 or xz. Raises DataError if it is damaged."""
    for magic, unpack in PACKED.items():
        if content.startswith(magic):
            try:
                return unpack(content)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise DataError(
                    f"{origin} is packed, and damaged ({error}): pack the table again."
                ) from None
    return content


def as_utf8(origin: str, content: bytes) -> tuple[bytes, str | None]:
    """The text in UTF-8 without a byte order mark, and a note if the file has another encoding.

    Bytes that are not UTF-8 are taken for Latin-1 (in Microsoft's form, which has more signs).
    Raises DataError if they are no text.
    """
    for mark, name in BYTE_ORDERS.items():
        if content.startswith(mark):
            return _decoded(origin, content, name)
    if content.startswith(codecs.BOM_UTF8):
        content = content[len(codecs.BOM_UTF8) :]
    head = content[:SAMPLE]
    if head[1::2].count(0) > len(head) // 4:
        return _decoded(origin, content, "utf-16-le")
    if head[::2].count(0) > len(head) // 4:
        return _decoded(origin, content, "utf-16-be")
    if any(byte in content for byte in BINARY):
        raise DataError(
            f"{origin} cannot be read as text (it holds bytes that no text has): give a table such"
            " as CSV, or a file whose name ends in its format, such as .xlsx or .parquet."
        )
    if content.isascii():
        return content, None
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return _decoded(origin, content, "cp1252")
    return content, None


def _decoded(origin, content, name):
    called = {"cp1252": "Latin-1"}.get(name, "UTF-16")
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        if name == "cp1252":
            # Five bytes have no sign in Microsoft's form.
            text = content.decode("latin-1")
        else:
            raise DataError(
                f"{origin} cannot be read as text ({error}): save it in UTF-8."
            ) from None
    text = text.removeprefix("\ufeff")
    return text.encode("utf-8"), f"The file is in {called}, not UTF-8."
