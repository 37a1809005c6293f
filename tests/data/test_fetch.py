"""Fetching a data set: archives that are right, wrong, damaged, hostile."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import stat
import zipfile
from unittest import mock

import tensorflow as tf

from esc_tf.data import fetch
from esc_tf.data.fetch import SOURCES, fetch_data_set
from esc_tf.errors import DownloadError, RequestError, UnknownNameError
from tests.data.folder import FolderTestCase, write_folder
from tests.data.server import serve

# ESC-50 in little: three classes, two folds.
SMALL = dataclasses.replace(SOURCES["esc50"], num_clips=12, num_classes=3, max_bytes=1 << 20)


def pack(root, top="ESC-50-master", extra=(), leave_out=()) -> bytes:
    """Zip a folder as GitHub does: everything inside one folder."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}/", b"")
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.name not in leave_out:
                archive.write(path, f"{top}/{path.relative_to(root)}")
        for name, data in extra:
            archive.writestr(name, data)
    return content.getvalue()


class FetchTest(FolderTestCase):
    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.dict(fetch.SOURCES, esc50=SMALL))
        self.rows = write_folder(self.root / "set")
        self.out = self.root / "data"
        self.folder = self.out / "ESC-50-master"
        self.server = self.enter_context(serve(pack(self.root / "set")))

    def fetch(self, **options):
        options = {"url": self.server.url, **options}
        return fetch_data_set(
            "esc50", self.out, progress=False, pause_s=0.0, report=lambda line: None, **options
        )

    def left(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir())

    def test_unpacks_a_whole_set_and_does_nothing_again(self):
        digest = hashlib.sha256(self.server.content).hexdigest()
        self.assertEqual(self.fetch(sha256=digest), self.folder)
        for row in self.rows:
            name = row["filename"]
            original = (self.root / "set" / "audio" / name).read_bytes()
            self.assertEqual((self.folder / "audio" / name).read_bytes(), original)
        self.assertEqual(self.left(), ["ESC-50-master"])
        self.fetch()
        self.assertLen(self.server.requests, 1)

    def test_an_interrupted_fetch_goes_on(self):
        self.server.cut_after = [1000]
        self.fetch()
        self.assertEqual(self.server.requests, [None, "bytes=1000-"])
        self.assertTrue(self.folder.is_dir())

    def test_a_kept_archive_is_used_and_its_digest_compared(self):
        self.out.mkdir()
        (self.out / "ESC-50-master.zip").write_bytes(self.server.content)
        self.fetch(keep_archive=True)
        self.assertEqual(self.left(), ["ESC-50-master", "ESC-50-master.zip"])
        self.assertEmpty(self.server.requests)
        self.folder.rename(self.root / "away")
        with self.assertRaisesRegex(DownloadError, "ESC-50-master.zip: has the SHA-256 digest"):
            self.fetch(sha256="0" * 64)

    def test_incomplete_sets_are_refused(self):
        name = self.rows[0]["filename"]
        self.server.content = pack(self.root / "set", leave_out=(name,))
        with self.assertRaisesRegex(DownloadError, f"not the whole esc50 .*{name} is missing"):
            self.fetch()
        self.assertFalse(self.folder.exists())
        self.assertEqual(self.left(), ["ESC-50-master.zip"])

    def test_another_number_of_clips_is_refused(self):
        with (
            mock.patch.dict(fetch.SOURCES, esc50=dataclasses.replace(SMALL, num_clips=13)),
            self.assertRaisesRegex(DownloadError, "its table has 12 clips, not 13"),
        ):
            self.fetch()
        with (
            mock.patch.dict(fetch.SOURCES, esc50=dataclasses.replace(SMALL, num_classes=4)),
            self.assertRaisesRegex(DownloadError, "does not have 4 classes with as many clips"),
        ):
            self.fetch()

    def test_an_incomplete_folder_is_not_overwritten(self):
        self.fetch()
        (self.folder / "audio" / self.rows[3]["filename"]).unlink()
        with self.assertRaisesRegex(RequestError, "is there and not complete .*remove it and"):
            self.fetch()
        self.assertTrue(self.folder.is_dir())

    def test_names_that_lead_out_of_the_folder_are_refused(self):
        for name in (
            "../evil.txt",
            "ESC-50-master/../../evil.txt",
            "/tmp/evil.txt",
            "ESC-50-master/..\\evil.txt",
        ):
            with self.subTest(name):
                self.server.content = pack(self.root / "set", extra=[(name, b"evil")])
                with self.assertRaisesRegex(DownloadError, "refused, '.*' leads out of its folder"):
                    self.fetch()
                self.assertEmpty(list(self.root.rglob("evil*")))
                self.assertEqual(self.left(), ["ESC-50-master.zip"])
                (self.out / "ESC-50-master.zip").unlink()

    def test_links_are_left_out(self):
        link = zipfile.ZipInfo("ESC-50-master/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        inside = ("ESC-50-master/link/passwd", b"text")
        self.server.content = pack(self.root / "set", extra=[(link, b"/etc"), inside])
        self.fetch()
        self.assertFalse((self.folder / "link").is_symlink())
        self.assertEqual((self.folder / "link" / "passwd").read_bytes(), b"text")

    def test_more_than_one_folder_is_refused(self):
        self.server.content = pack(self.root / "set", extra=[("other/file", b"")])
        with self.assertRaisesRegex(DownloadError, "does not hold one folder with files in it"):
            self.fetch()

    def test_archives_that_grow_too_large_are_refused(self):
        bomb = [("ESC-50-master/zeros", bytes(2 << 20))]
        self.server.content = pack(self.root / "set", extra=bomb)
        self.assertLess(len(self.server.content), 1 << 20)
        with self.assertRaisesRegex(DownloadError, "unpacks to more than 1,048,576 bytes"):
            self.fetch()

    def test_damaged_archives_are_refused(self):
        whole = self.server.content
        name = f"ESC-50-master/audio/{self.rows[0]['filename']}".encode()
        at = whole.index(name) + len(name) + 200  # in a file's compressed samples
        flipped = whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
        for content in (b"<html>no zip</html>", whole[: len(whole) // 2], flipped):
            self.server.content = content
            with self.assertRaisesRegex(DownloadError, "damaged, or not a zip file"):
                self.fetch()
            self.assertEqual(self.left(), ["ESC-50-master.zip"])
            (self.out / "ESC-50-master.zip").unlink()

    def test_unknown_sets_are_refused(self):
        with self.assertRaisesRegex(UnknownNameError, "did you mean 'esc50'"):
            fetch_data_set("esc5", self.out)


class SourceTest(tf.test.TestCase):
    def test_esc50_is_the_official_archive(self):
        source = SOURCES["esc50"]
        self.assertStartsWith(source.url, "https://github.com/karolpiczak/ESC-50/archive/")
        self.assertEqual((source.num_clips, source.num_classes), (2000, 50))


if __name__ == "__main__":
    tf.test.main()
