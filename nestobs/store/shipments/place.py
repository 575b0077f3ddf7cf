"""A folder or bucket by its URL: opened by fsspec, a file there whole or not at all, each failure one sentence.

On file systems a file is written under a name that no reader matches, and renamed; an object store takes it in one
request and shows it when that is done. Either way nobody sees half a file, whenever the writer dies.

No URL holds a password: it would stand in shells, notebooks and reports. Credentials come from the environment, as the
file system reads it (s3fs: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL and so on; sftp: keys, sftp.py; any:
FSSPEC_<SCHEME>_<KEY>).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from nestobs.errors import NestobsError, StoreError, StoreFullError, UsageError
from nestobs.store import sql
from nestobs.store.files import at_home, sync

Given = TypeVar("Given")
Made = TypeVar("Made")

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]+)://(.*)", re.DOTALL)
_COLLAPSED: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")
_SECRET: Final = re.compile(r"(://)[^/@\s]*@")
_SIDE_BY_SIDE: Final = 16
"""So many files are fetched or put at once where that is safe: most of the time goes to waiting for an answer."""

_OBJECTS: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "hf", "memory"}
)
"""Schemes under which a file appears when it has been put, and never before."""

_SFTP: Final = ("sftp", "ssh")

_THREADS: Final = frozenset({"file", "memory"})
"""Beside those that are asynchronous inside, the file systems that several threads may use at once, as paramiko's may
not."""

_KEYLESS: Final = frozenset({"NoCredentialsError", "PartialCredentialsError", "AuthenticationException"})

_S3: Final = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}}
"""botocore alone would try for minutes whether anybody is there."""

ASKED_S: Final = 300.0
"""For a listing, a removal or the like, all its answers and further tries included. Libraries count each read anew, so
that a server which sends a byte at a time would be waited for without end."""

CONTENT_S: Final = 3_600.0
"""For a file's content, likewise: a day of 100 MB at 30 kB/s."""


def is_url(named: Path | str) -> bool:
    """Whether this is a URL, and no path."""
    return isinstance(named, str) and _URL.match(named) is not None


def plain_path(named: Path | str) -> Path | None:
    """The path on this computer that is meant, a home folder's where it begins with ~; None for what lies elsewhere.

    Raises UsageError for a URL in a Path.
    """
    found = _URL.match(named) if isinstance(named, str) else None
    if found is None:
        if isinstance(named, Path) and _COLLAPSED.match(str(named)):
            raise UsageError(f"{redacted(str(named))} was a URL before it was made a Path: give it as text")
        return at_home(Path(named))
    if found[1].lower() not in ("file", "local"):
        return None
    _, _, path = found[2].partition("/") if found[2].startswith("localhost/") else ("", "", found[2])
    return Path("/" + unquote(path).lstrip("/"))


def place_of(named: str) -> Path | str:
    """The path or URL that is named, without asking anybody. Raises UsageError for a URL with a secret in it."""
    path = plain_path(named)
    if path is not None:
        return path
    _checked(named)
    return named.rstrip("/")


def redacted(text: str) -> str:
    """The text without what stands before the @ of a URL."""
    return _SECRET.sub(r"\1…@", text)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or bucket. url: as it is shown and stored; root: the same as the file system has it."""

    url: str
    scheme: str
    root: str
    files: Any

    @classmethod
    def of(cls, named: Path | str) -> Place:
        """The place of that URL or path, whether anything is there or not; nobody is asked.

        Raises UsageError for what is no URL, a scheme that nobody knows or whose library is missing, and a URL with a
        secret in it, which is not quoted.
        """
        path = plain_path(named)
        if path is not None:
            import fsspec

            folder = path.absolute()
            return cls(str(folder), "file", str(folder), fsspec.filesystem("file"))
        scheme, url = _checked(str(named)), str(named).rstrip("/")
        files, root = _opened(url, scheme)
        return cls(url, scheme, root, files)

    def sizes(self, below: str) -> dict[str, int]:
        """All files in the folder `below` and its folders: their paths from the root, and their bytes. {} where there
        is no such folder. Raises StoreError."""
        with self._said():
            self.files.invalidate_cache()
            folder = f"{self.root}/{below}"
            try:
                if self.files.async_impl:
                    found = self.files.find(folder, detail=True, timeout=ASKED_S).values()
                else:
                    found = self._walked(folder)
            except FileNotFoundError:
                if self.scheme in ("s3", "s3a"):  # no bucket is told from an empty one
                    self.files.ls(self.root.partition("/")[0], refresh=True, timeout=ASKED_S)
                return {}
            skip = len(self._stripped("")) + 1
            return {
                str(facts["name"])[skip:]: int(facts.get("size") or 0)
                for facts in found
                if facts.get("type") != "directory"
            }

    def _within(self, seconds: float) -> dict[str, float]:
        """What bounds a whole call where the file system knows such a bound: those that speak HTTP do."""
        return {"timeout": seconds} if self.files.async_impl else {}

    def _walked(self, folder: str) -> list[dict[str, Any]]:
        """What is in a folder and those below it. fsspec's own walk takes one that cannot be read for an empty one."""
        found: list[dict[str, Any]] = self.files.ls(folder, detail=True)
        for each in found:  # which grows
            if each.get("type") == "directory":
                with suppress(FileNotFoundError):
                    found.extend(self.files.ls(each["name"], detail=True))
        return found

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError where it is not there, StoreError."""
        with self._said(missing=True):
            content: bytes = self.files.cat_file(f"{self.root}/{path}", **self._within(CONTENT_S))
            return content

    def put(self, path: str, content: bytes) -> None:
        """The content as a file of that path, whole or not at all, in place of what may be there.

        Two who put the same at once do each other no harm. Raises StoreError, StoreFullError.
        """
        with self._said():
            if self.scheme == "file":
                _put_file(Path(self.root, path), content)
                return
            target = f"{self.root}/{path}"
            if self.scheme in _OBJECTS:
                self.files.pipe_file(target, content, **self._within(CONTENT_S))
                return
            folder, _, name = target.rpartition("/")
            self.files.makedirs(folder, exist_ok=True)
            draft = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
            self.files.pipe_file(draft, content)
            try:
                self.files.mv(draft, target)
            except FileNotFoundError:
                self.files.info(target)  # another who put the same took the draft for one that was left

    def remove(self, path: str) -> None:
        """Remove a file, if it is there. Raises StoreError."""
        with self._said(), suppress(FileNotFoundError):
            self.files.rm_file(f"{self.root}/{path}", **self._within(ASKED_S))

    def each(self, work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
        """What `work` makes of each, in their order; side by side where the file system bears that, and never further
        ahead of who takes them than that."""
        from collections import deque
        from concurrent.futures import Future, ThreadPoolExecutor

        beside = _SIDE_BY_SIDE if self.files.async_impl else 4 if self.scheme in _THREADS else 1
        waiting: deque[Future[Made]] = deque()
        with ThreadPoolExecutor(beside, thread_name_prefix="nestobs-shipments") as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) >= 2 * beside:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for each in waiting:
                    each.cancel()

    def _stripped(self, path: str) -> str:
        return str(self.files._strip_protocol(f"{self.root}/{path}")).rstrip("/")

    @contextmanager
    def _said(self, *, missing: bool = False) -> Iterator[None]:
        """Every failure as a sentence. missing: FileNotFoundError stays what it is."""
        try:
            yield
        except NestobsError:
            raise
        except FileNotFoundError as error:
            if missing:
                raise
            raise self._explained(error) from None
        except Exception as error:  # each file system, and each library below it, has errors of its own
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> StoreError:
        nothing = "no whole answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        words = " ".join(redacted(str(error)).split())[:300] or nothing
        if getattr(error, "errno", None) in sql.NO_ROOM_ERRNO:
            return StoreFullError(f"there is no room at {self.url} ({words}): make some; what is there stays")
        if self.scheme == "file":
            said = getattr(error, "strerror", None) or words
            return StoreError(f"{self.url} cannot be used ({said}): name a folder that you may read and write")
        if _shut_out(error):
            return _not_let_in(self.url, words)
        if isinstance(error, FileNotFoundError):
            return StoreError(
                f"there is nothing at {self.url} ({words}): make the bucket or folder, or correct the URL"
            )
        return StoreError(
            f"{self.url} could not be used ({words}): check the URL and the network (for s3 on another server"
            " AWS_ENDPOINT_URL), and call it again: what is there stays, and it goes on from there"
        )


def _shut_out(error: Exception) -> bool:
    """Whether it says that we are not who may do that."""
    return isinstance(error, PermissionError) or not _KEYLESS.isdisjoint(each.__name__ for each in type(error).__mro__)


def _not_let_in(url: str, words: str) -> StoreError:
    return StoreError(
        f"{url} does not let us in ({words}): check the credentials of the environment (for s3: AWS_ACCESS_KEY_ID,"
        " AWS_SECRET_ACCESS_KEY or AWS_PROFILE; for sftp: keys in ~/.ssh), and what they may do there"
    )


def _checked(url: str) -> str:
    """The scheme of a URL without secrets. Raises UsageError that quotes nothing that may be one."""
    found = _URL.match(url)
    assert found is not None
    scheme, rest = found[1].lower(), found[2]
    if re.match(r"[^@]*:[^@]*@", rest) or "?" in rest:
        raise UsageError(
            f"the {scheme} URL holds a password or a token, which would be stored with it: take it out, and give it by"
            " the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; FSSPEC_SFTP_PASSWORD; see docs/fleet.md)"
        )
    if "::" in url or not rest.strip("/"):
        raise UsageError(f"{redacted(url)[:200]!r} names no folder: write s3://BUCKET/FOLDER, or another one URL")
    return scheme


def _opened(url: str, scheme: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    from fsspec.core import url_to_fs

    try:
        if scheme in _SFTP:
            from nestobs.store.shipments.sftp import opened

            return opened(url)
        files, root = url_to_fs(url, **(_S3 if scheme in ("s3", "s3a") else {}))
        if files.async_impl:  # what a request fails by is raised; its broken connections need not be logged as well
            files.loop.set_exception_handler(lambda *_: None)
        return files, str(root).rstrip("/")
    except NestobsError:
        raise
    except ImportError as error:
        ours = scheme in ("s3", "s3a", *_SFTP)
        needs = "pip install 'nestobs[fleet]'" if ours else " ".join(str(error).split())[:200]
        raise UsageError(f"{scheme}:// needs a library that is not here: {needs}") from None
    except ValueError as error:
        if "protocol" in str(error).lower():
            raise UsageError(f"nobody knows how to open {scheme}://: write s3://, sftp://, file:// or a path") from None
        raise UsageError(f"{redacted(url)[:200]} cannot be opened ({redacted(str(error))[:200]})") from None
    except Exception as error:  # a host that is none, a key that cannot be read: each library in its own words
        said = " ".join(redacted(str(error)).split())[:300] or type(error).__name__
        if _shut_out(error):
            raise _not_let_in(redacted(url)[:200], said) from None
        raise StoreError(
            f"{redacted(url)[:200]} cannot be opened ({said}): check the URL and the credentials"
        ) from None


def _put_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        draft.write_bytes(content)
        sync(draft)
        draft.replace(path)
    except FileNotFoundError:
        if not path.exists():  # else another who put the same took the draft for one that was left
            raise
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)
