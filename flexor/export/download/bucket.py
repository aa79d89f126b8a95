"""Bucket: files of a public Google Cloud Storage bucket, or of an emulator of one (`STORAGE_EMULATOR_HOST`)."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from flexor.export.download.digest import Digest
from flexor.export.download.remote_file import MOST_FILES, DownloadError, Listing, RemoteFile
from flexor.export.download.web import Patience, Refused, Web

ENDPOINT_VARIABLE = "STORAGE_EMULATOR_HOST"  # as Google's own clients know it
ENDPOINT = "https://storage.googleapis.com"
FIELDS = "name,size,md5Hash,crc32c,generation"
PAGE_FILES = 1000

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}[a-z0-9]")
_GENERATION = re.compile(r"[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One object, or all objects below a path.

    Raises:
        DownloadError: no bucket is named so, or no path is given.
    """

    bucket: str
    path: str
    endpoint: str = ENDPOINT

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket) or not self.path:
            raise DownloadError(f"{self.source!r} is no place in a bucket; expected gs://BUCKET/PATH")

    @classmethod
    def of(cls, text: str, environ: Mapping[str, str] = os.environ) -> Bucket:
        """From "BUCKET/PATH", the endpoint from the environment."""
        bucket, _, path = text.partition("/")
        endpoint = environ.get(ENDPOINT_VARIABLE, "").rstrip("/") or ENDPOINT
        endpoint = endpoint if "://" in endpoint else f"http://{endpoint}"
        if not endpoint.startswith(("https://", "http://")):
            raise DownloadError(f"{ENDPOINT_VARIABLE} is {endpoint!r}; expected a URL such as {ENDPOINT}")
        return cls(bucket, path.rstrip("/"), endpoint)

    @property
    def source(self) -> str:
        """The place as a SPEC."""
        return f"gs://{self.bucket}/{self.path}"

    @property
    def server(self) -> str:
        """What has to be reached."""
        return self.endpoint

    @property
    def page(self) -> str:
        """Where its files can be taken by hand."""
        return f"https://console.cloud.google.com/storage/browser/{self.bucket}/{self.path}"

    def pinned(self, revision: str) -> str:
        """The SPEC of this content; a bucket keeps no older ones to ask for."""
        return self.source

    def web(self, patience: Patience) -> Web:
        """How to ask it."""
        return Web(patience)

    def listing(self, web: Web) -> Listing:
        """The object, or what lies below the path, of now.

        Raises:
            Unreachable: the storage does not answer.
            DownloadError: nothing is there, it is not public, or the list cannot be used.
        """
        items = self._object(web) or self._below(web)
        files, above = [], self.path.rpartition("/")[0] if items[0].get("name") == self.path else self.path
        for item in items:
            name = item.get("name")
            if isinstance(name, str) and name.endswith("/"):
                continue  # what consoles make to show an empty folder
            files.append(self._file(item, f"{above}/" if above else ""))
        if not files:
            raise self.explain(404, "")
        state = repr([(file.path, file.url, file.digest) for file in files])
        revision = hashlib.sha256(state.replace(self.endpoint, "").encode()).hexdigest()[:40]
        return Listing(self.source, revision, self.page, tuple(files), self.explain)

    def explain(self, status: int, code: str) -> DownloadError:
        """What an HTTP status of the storage means for this place, and what to do."""
        if status in (401, 403):
            return DownloadError(
                f"{self.source} is not public ({status}): fetch it with an account that may read it "
                f"(`gcloud storage cp -r {self.source} DIR`)"
            )
        if status == 404:
            return DownloadError(f"there is nothing at {self.source}; check the bucket and the path at {self.page}")
        return DownloadError(f"{self.endpoint} answers {status} for {self.source}; run the command again later")

    def _object(self, web: Web) -> list[dict[str, Any]]:
        """The one object of this very name; [] when there is none. Needs no right to list the bucket."""
        url = f"{self._url(self.path)}?{urlencode({'fields': FIELDS})}"
        try:
            told = web.json(url)
        except Refused as error:
            if error.status in (401, 403, 404):  # what is not there is not told to those who may not list
                return []
            raise self.explain(error.status, error.code) from error
        if not isinstance(told, dict) or told.get("name") != self.path:
            raise DownloadError(f"{url} tells of another object; is {self.endpoint} a storage? Nothing was changed")
        return [told]

    def _below(self, web: Web) -> list[dict[str, Any]]:
        """Every object below the path, page by page."""
        found: list[dict[str, Any]] = []
        asked = {"prefix": f"{self.path}/", "maxResults": str(PAGE_FILES), "fields": f"items({FIELDS}),nextPageToken"}
        for _ in range(MOST_FILES // PAGE_FILES):
            url = f"{self.endpoint}/storage/v1/b/{self.bucket}/o?{urlencode(asked)}"
            try:
                told = web.json(url)
            except Refused as error:
                raise self.explain(error.status, error.code) from error
            items = told.get("items", []) if isinstance(told, dict) else None
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise DownloadError(f"{url} lists no objects; is {self.endpoint} a storage? Nothing was changed")
            found += items
            token = told.get("nextPageToken")
            if not token:
                break
            asked["pageToken"] = str(token)
        else:
            raise DownloadError(f"{self.source} holds more than {MOST_FILES} files; name a path further down")
        if not found:
            raise self.explain(404, "")
        return found

    def _file(self, told: dict[str, Any], above: str) -> RemoteFile:
        """An object of the list. Objects that were put together from parts have no MD5, all have a CRC-32C."""
        try:
            name, generation, kind = told["name"], told["generation"], "md5" if "md5Hash" in told else "crc32c"
            digest = base64.b64decode(told["md5Hash" if kind == "md5" else "crc32c"], validate=True).hex()
            size = int(told["size"])
            if len(digest) != (32 if kind == "md5" else 8) or not _GENERATION.fullmatch(generation):
                raise ValueError("a digest or a generation is not whole")
            if not name.startswith(above):
                raise ValueError(f"it is not below {above}")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DownloadError(
                f"the list of {self.source} has {str(told)[:80]!r}, without what a file is verified by ({error!r}); "
                "nothing was changed"
            ) from error
        url = f"{self._url(name)}?{urlencode({'alt': 'media', 'generation': generation})}"
        return RemoteFile(name[len(above) :], size, url, Digest(kind, digest))

    def _url(self, name: str) -> str:
        return f"{self.endpoint}/storage/v1/b/{self.bucket}/o/{quote(name, safe='', errors='replace')}"
