"""Downloads from a local server that breaks off, forgets, changes its mind or refuses."""

from __future__ import annotations

import hashlib

import numpy as np
import tensorflow as tf

from esc_tf.data.download import download_file
from esc_tf.errors import DownloadError
from tests.data.folder import FolderTestCase
from tests.data.server import serve

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class DownloadTest(FolderTestCase):
    def setUp(self):
        super().setUp()
        self.path = self.root / "out" / "archive.zip"
        self.server = self.enter_context(serve(CONTENT))
        self.lines: list[str] = []

    def fetch(self, **options):
        options = {"url": self.server.url, "attempts": 2, **options}
        download_file(
            path=self.path, pause_s=0.0, progress=False, report=self.lines.append, **options
        )

    def names(self) -> list[str]:
        return sorted(item.name for item in self.path.parent.iterdir())

    def assert_arrived(self):
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertEqual(self.names(), ["archive.zip"])

    def test_arrives_whole_and_leaves_nothing_else(self):
        self.fetch(sha256=DIGEST.upper())
        self.assert_arrived()
        self.assertEqual(self.server.requests, [None])

    def test_a_broken_connection_is_taken_up_again(self):
        self.server.cut_after = [100_000, 50_000]
        self.fetch(sha256=DIGEST)
        self.assert_arrived()
        self.assertEqual(self.server.requests, [None, "bytes=100000-", "bytes=150000-"])
        self.assertIn("going on after 150,000 bytes", self.lines)

    def test_a_later_call_goes_on(self):
        self.server.cut_after = [100_000]
        with self.assertRaisesRegex(
            DownloadError, "broke after 100,000 bytes .*100,000 of 300,000"
        ):
            self.fetch(attempts=1)
        self.assertEqual(self.names(), ["archive.zip.partial", "archive.zip.state"])
        self.fetch(sha256=DIGEST)
        self.assert_arrived()
        self.assertEqual(self.server.requests[-1], "bytes=100000-")

    def test_a_server_without_ranges_starts_anew(self):
        self.server.ranges = False
        self.server.cut_after = [100_000]
        self.fetch(sha256=DIGEST)
        self.assert_arrived()
        self.assertIn("the server cannot go on, so it starts anew", self.lines)

    def test_without_a_validator_nothing_is_appended(self):
        self.server.etag = None
        self.server.cut_after = [100_000]
        self.fetch(sha256=DIGEST)
        self.assert_arrived()
        self.assertEqual(self.server.requests, [None, None])

    def test_a_file_changed_meanwhile_is_not_appended(self):
        self.server.cut_after = [100_000]
        with self.assertRaises(DownloadError):
            self.fetch(attempts=1)
        self.server.content, self.server.etag = CONTENT[::-1], '"two"'
        self.fetch()
        self.assertEqual(self.path.read_bytes(), CONTENT[::-1])

    def test_what_had_arrived_whole_is_not_fetched_again(self):
        self.server.cut_after = [100_000]
        with self.assertRaises(DownloadError):
            self.fetch(attempts=1)
        (self.root / "out" / "archive.zip.partial").write_bytes(CONTENT)
        self.fetch(sha256=DIGEST)
        self.assert_arrived()

    def test_a_partial_file_that_is_too_long_is_thrown_away(self):
        self.server.cut_after = [100_000]
        with self.assertRaises(DownloadError):
            self.fetch(attempts=1)
        (self.root / "out" / "archive.zip.partial").write_bytes(CONTENT + b"more")
        self.fetch(sha256=DIGEST)
        self.assert_arrived()

    def test_another_digest_is_refused_and_the_file_removed(self):
        with self.assertRaisesRegex(DownloadError, f"has the SHA-256 digest {DIGEST}, not 0000"):
            self.fetch(sha256="0" * 64)
        self.assertEqual(self.names(), [])

    def test_a_server_that_keeps_breaking_is_given_up(self):
        self.server.cut_after = [0] * 9
        with self.assertRaisesRegex(DownloadError, "cannot be fetched .0 of 300,000 bytes"):
            self.fetch(attempts=3)
        self.assertLen(self.server.requests, 3)

    def test_a_server_without_ranges_that_keeps_breaking_is_given_up(self):
        self.server.ranges = False
        self.server.cut_after = [100_000] * 9
        with self.assertRaisesRegex(DownloadError, "broke after 100,000 bytes"):
            self.fetch(attempts=3)
        self.assertLen(self.server.requests, 3)

    def test_refusals_are_not_repeated_and_failures_are(self):
        self.server.status = 404
        with self.assertRaisesRegex(DownloadError, "the server answers 404 Not Found; check the"):
            self.fetch()
        self.assertLen(self.server.requests, 1)
        self.server.status = 503
        with self.assertRaisesRegex(DownloadError, "cannot be fetched .the server answers 503"):
            self.fetch()
        self.assertLen(self.server.requests, 3)

    def test_addresses_that_are_none(self):
        for url in ("file:///etc/passwd", "archive.zip", "ftp://host/file"):
            with self.assertRaisesRegex(DownloadError, "no address of the form https://HOST/PATH"):
                self.fetch(url=url)
        with self.assertRaisesRegex(DownloadError, "cannot be fetched .*; check the address and"):
            self.fetch(url="http://127.0.0.1:1/archive.zip")


if __name__ == "__main__":
    tf.test.main()
