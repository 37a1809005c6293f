"""Data sets that can be fetched: where they are, and how to tell that all of one has arrived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from esc_tf.config import AudioConfig, Esc50DataConfig
from esc_tf.data.download import check_digest, download_file
from esc_tf.data.esc50 import load_esc50
from esc_tf.data.records import DataSet
from esc_tf.data.unpacking import unpack_zip
from esc_tf.errors import DataError, DownloadError, RequestError
from esc_tf.registry import look_up

_BYTES_OF_A_HEADER = 44


@dataclass(frozen=True)
class Source:
    """One data set on the net.

    Args:
        url: of a zip archive that holds one folder.
        folder: what the unpacked folder is called.
        num_clips: clips that must be there.
        num_classes: classes that must be there, all with as many clips.
        max_bytes: most that the archive may unpack to.
        sha256: digest of the archive, or None where the server packs it anew for everyone.
        load: reads the table of the unpacked folder.
    """

    url: str
    folder: str
    num_clips: int
    num_classes: int
    max_bytes: int
    sha256: str | None
    load: Callable[[Path], DataSet]


def _load_esc50(root: Path) -> DataSet:
    return load_esc50(Esc50DataConfig(name="esc50", root=str(root)), AudioConfig(), 0)


SOURCES = {
    "esc50": Source(
        # GitHub packs archives of a branch on demand and does not promise their bytes, so there is
        # no digest to compare; each file's checksum in the archive and the counts are.
        url="https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip",
        folder="ESC-50-master",
        num_clips=2000,
        num_classes=50,
        max_bytes=4 << 30,
        sha256=None,
        load=_load_esc50,
    ),
}


def fetch_data_set(
    name: str,
    out: Path,
    *,
    url: str | None = None,
    sha256: str | None = None,
    keep_archive: bool = False,
    progress: bool = True,
    pause_s: float = 2.0,
    report: Callable[[str], object] = print,
) -> Path:
    """Fetch, check and unpack a data set; does nothing where it is there and complete.

    Args:
        name: a key of ``SOURCES``.
        out: the folder in which the data set's own folder is put.
        url: another place of the same archive; None: the official one.
        sha256: digest that the archive must have; None: the one in the table, if there is one.
        keep_archive: whether to leave the archive beside the folder.
        progress: whether to show a bar on a terminal.
        pause_s: seconds before a broken connection is tried again.
        report: takes lines for the user.

    Returns:
        The data set's folder, for ``data.root``.

    Raises:
        UnknownNameError: no such data set.
        RequestError: a folder of its name is there and is not that data set.
        DownloadError: it cannot be fetched, or is not what it should be.
        OSError: it cannot be written.
    """
    source = look_up(SOURCES, name, "data set to fetch")
    folder, archive = out / source.folder, out / f"{source.folder}.zip"
    if folder.exists():
        problem = find_incompleteness(source, folder)
        if problem:
            raise RequestError(
                f"{folder}: is there and not complete ({problem}); remove it and fetch again"
            )
        report(f"{folder}: there already, {source.num_clips} clips")
        return folder
    digest = sha256 or source.sha256
    if archive.is_file() and digest:
        check_digest(archive, digest, str(archive))
    elif not archive.is_file():
        report(f"fetching {url or source.url}")
        download_file(
            url or source.url,
            archive,
            sha256=digest,
            progress=progress,
            pause_s=pause_s,
            report=report,
        )

    def check(unpacked: Path) -> None:
        problem = find_incompleteness(source, unpacked)
        if problem:
            raise DownloadError(
                f"{archive}: is not the whole {name} ({problem}); remove it and fetch it again"
            )

    unpack_zip(archive, folder, max_bytes=source.max_bytes, check=check)
    if not keep_archive:
        archive.unlink()
    report(f"{folder}: {source.num_clips} clips of {source.num_classes} classes")
    return folder


def find_incompleteness(source: Source, folder: Path) -> str | None:
    """Say what a folder lacks of a data set: rows, classes, files; None if nothing."""
    try:
        records = source.load(folder).records
    except DataError as error:
        return error.problems[0]
    labels = [record.label_name for record in records]
    counts = {labels.count(label) for label in set(labels)}
    if len(labels) != source.num_clips:
        return f"its table has {len(labels)} clips, not {source.num_clips}"
    if len(set(labels)) != source.num_classes or len(counts) != 1:
        return f"its table does not have {source.num_classes} classes with as many clips each"
    for record in records:
        path = record.path
        if path is None or not path.is_file() or path.stat().st_size <= _BYTES_OF_A_HEADER:
            return f"{path} is missing or empty"
    return None
