"""Unpacking of archives that came over the net: nothing outside the folder, whole or not at all."""

from __future__ import annotations

import shutil
import stat
import uuid
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from esc_tf.errors import DownloadError


def unpack_zip(
    archive: Path, folder: Path, *, max_bytes: int, check: Callable[[Path], object]
) -> None:
    """Unpack the one folder that an archive holds and put it in place as ``folder``.

    Args:
        archive: a zip file, all of it inside one folder of any name.
        folder: must not exist; until the end it does not.
        max_bytes: most that may come out.
        check: takes the unpacked folder and raises if it is not as expected.

    Raises:
        DownloadError: damaged or not a zip file, too large, more than one folder, or a name that
            leads out of the folder.
        OSError: it cannot be written.
    """
    unpacked = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        with zipfile.ZipFile(archive) as content:
            members = _check_members(content, archive, max_bytes)
            free = shutil.disk_usage(folder.parent).free
            needed = sum(item.file_size for item, _ in members)
            if needed > free:
                raise DownloadError(
                    f"{folder.parent}: {needed:,} bytes are needed to unpack {archive.name} and "
                    f"{free:,} are free; free space"
                )
            unpacked.mkdir()
            for item, path in members:
                target = unpacked.joinpath(*path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                # zipfile stops at the size that was promised and compares each file's checksum.
                with content.open(item) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
        check(unpacked)
        unpacked.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadError(
            f"{archive}: damaged, or not a zip file ({error}); remove it and fetch it again"
        ) from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _check_members(
    content: zipfile.ZipFile, archive: Path, max_bytes: int
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Return the files of an archive with their paths, all of them harmless."""
    files: list[tuple[zipfile.ZipInfo, PurePosixPath]] = []
    for item in content.infolist():
        path = PurePosixPath(item.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in item.filename:
            raise DownloadError(f"{archive}: refused, '{item.filename}' leads out of its folder")
        # Links and devices are left out: no data set needs them, and they lead anywhere.
        if not item.is_dir() and stat.S_IFMT(item.external_attr >> 16) in (0, stat.S_IFREG):
            files.append((item, path))
    tops = {path.parts[0] for _, path in files}
    if len(tops) != 1 or any(len(path.parts) < 2 for _, path in files):
        raise DownloadError(f"{archive}: refused, it does not hold one folder with files in it")
    if len({path for _, path in files}) < len(files):
        raise DownloadError(f"{archive}: refused, it holds two files of one name")
    if sum(item.file_size for item, _ in files) > max_bytes:
        raise DownloadError(f"{archive}: refused, it unpacks to more than {max_bytes:,} bytes")
    return files
