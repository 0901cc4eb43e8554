"""Places: paths here, URLs elsewhere, and one clear error for what the many libraries raise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from subgrid.base import attempts, places
from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.places import MissingError, RemotePath, file_sizes, lists_files, place, read_into


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(attempts, "WAITS", (0.0, 0.0, 0.0))


@pytest.fixture(params=["s3", "memory"])
def somewhere(request):
    """An empty remote folder that can be written."""
    return RemotePath(request.getfixturevalue(request.param)) / "folder"


def test_what_is_here_is_a_path_and_a_url_is_not():
    assert place("a/b.zarr") == Path("a/b.zarr")
    assert place(Path("a")) == Path("a")
    assert place("file:///a/b") == Path("/a/b")
    found = place("memory://a/b.zarr")
    assert isinstance(found, RemotePath)
    assert (str(found), found.name, found.protocol) == ("memory://a/b.zarr", "b.zarr", "memory")
    assert str(found / "c/d") == str(found / "c" / "d") == "memory://a/b.zarr/c/d"
    assert RemotePath("simplecache::s3://b/x").protocol == "s3"


def test_files_are_written_read_listed_and_removed(somewhere):
    assert somewhere.sizes() == {}
    (somewhere / "a/one").write_bytes(b"12345")
    (somewhere / "two").write_bytes("zwö".encode())
    assert (somewhere / "a/one").read_bytes() == b"12345"
    assert (somewhere / "two").read_text() == "zwö"
    assert somewhere.sizes() == {"a/one": 5, "two": 4}
    assert (somewhere / "two").is_file() and not (somewhere / "three").is_file()
    (somewhere / "two").unlink()
    assert somewhere.sizes() == {"a/one": 5}


def test_a_listing_is_never_an_old_one(somewhere):
    import fsspec

    (somewhere / "one").write_bytes(b"1")
    assert somewhere.sizes() == {"one": 1}
    fs, path = fsspec.url_to_fs(str(somewhere / "two"), use_listings_cache=False)
    fs.pipe_file(path, b"12")
    assert somewhere.sizes() == {"one": 1, "two": 2}


def test_here_the_sizes_are_the_same_kind(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"12345")
    assert file_sizes(tmp_path) == {"a/one": 5}
    assert lists_files(tmp_path) and lists_files(RemotePath("s3://b")) and not lists_files(RemotePath("https://a"))


def test_an_array_is_filled_from_here_and_elsewhere(somewhere, tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tmp_path / "x").write_bytes(values.tobytes())
    (somewhere / "x").write_bytes(values.tobytes())
    for where in (tmp_path / "x", somewhere / "x"):
        out = np.zeros((3, 4), np.float32)
        assert read_into(where, out) == 48
        np.testing.assert_array_equal(out, values)
        short = np.zeros((3, 5), np.float32)
        assert read_into(where, short) == 48  # the caller compares
    for where in (tmp_path / "y", somewhere / "y"):
        with pytest.raises(FileNotFoundError):
            read_into(where, out)


def test_a_missing_file_or_bucket_is_named(somewhere, s3):
    with pytest.raises(MissingError, match=r"folder/none does not exist.*check the name"):
        (somewhere / "none").read_bytes()
    with pytest.raises(MissingError, match=r"s3://no-such-bucket/x does not exist \(The specified bucket"):
        RemotePath("s3://no-such-bucket/x").read_bytes()
    with pytest.raises(MissingError, match="bucket"):
        RemotePath("s3://no-such-bucket/x").write_bytes(b"1")


def test_without_credentials_it_says_which(s3, monkeypatch, tmp_path):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SubgridError, match=r"no credentials found: .*AWS_ACCESS_KEY_ID"):
        RemotePath(f"{s3}/x").read_bytes()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_protocol_that_is_none_or_lacks_its_package(monkeypatch):
    import fsspec.core

    with pytest.raises(UsageError, match="unknown protocol 's33'; did you mean s3"):
        place("s33://b/x")

    def lacks(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacks)
    for url, package in (("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs")):
        with pytest.raises(SubgridError, match=f"{url}: .* not installed: pip install {package}"):
            place(url)


def test_the_web_is_read_and_tried_again_after_a_passing_failure(web, tmp_path):
    (tmp_path / "x").write_bytes(b"123")
    web.answers["/x"] = [503, 500, 429]
    assert RemotePath(f"{web.url}/x").read_bytes() == b"123"
    assert web.asked == ["/x"] * 4


def test_a_failure_that_lasts_is_told(web, tmp_path):
    (tmp_path / "x").write_bytes(b"123")
    web.answers["/x"] = [503] * 9
    with pytest.raises(SubgridError, match=rf"{web.url}/x cannot be used.*503"):
        RemotePath(f"{web.url}/x").read_bytes()
    assert len(web.asked) == 4
    web.answers["/x"] = [403]
    with pytest.raises(SubgridError, match="access denied: check the credentials"):
        RemotePath(f"{web.url}/x").read_bytes()
    with pytest.raises(MissingError, match=f"{web.url}/none does not exist"):
        RemotePath(f"{web.url}/none").read_bytes()
    with pytest.raises(SubgridError, match="choose another to write to"):
        RemotePath(f"{web.url}/new").write_bytes(b"1")


def test_a_server_that_is_not_there():
    with pytest.raises(SubgridError, match=r"http://127.0.0.1:9/x could not be reached .*check the network"):
        RemotePath("http://127.0.0.1:9/x").read_bytes()


def test_an_error_does_not_repeat_what_an_address_may_carry():
    said = str(places._meaning("s3://b/x", RuntimeError("no answer from http://me:secret@host/path?token=secret")))
    assert "host/path" in said and "secret" not in said and "me:" not in said
