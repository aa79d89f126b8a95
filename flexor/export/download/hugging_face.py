"""HuggingFaceRepo: a model repository on the Hugging Face hub, or on a server that speaks like it (`HF_ENDPOINT`)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flexor.export.download.digest import Digest
from flexor.export.download.remote_file import DownloadError, Listing, RemoteFile
from flexor.export.download.web import Patience, Refused, Web, origin_of

ENDPOINT_VARIABLE = "HF_ENDPOINT"
TOKEN_VARIABLE = "HF_TOKEN"
ENDPOINT = "https://huggingface.co"
MAIN = "main"

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HuggingFaceRepo:
    """A repository at a branch, tag or commit.

    Raises:
        DownloadError: no repository is named so.
    """

    repo: str
    revision: str = MAIN
    endpoint: str = ENDPOINT
    token: str | None = None

    def __post_init__(self) -> None:
        if not _REPO.fullmatch(self.repo) or ".." in self.repo:
            raise DownloadError(f"{self.repo!r} is no repository of the hub; expected OWNER/NAME, as in hf:OWNER/NAME")
        if not self.revision.isprintable() or not self.revision or " " in self.revision:
            raise DownloadError(f"{self.revision!r} is no revision; expected a branch, tag or commit")

    @classmethod
    def of(cls, text: str, environ: Mapping[str, str] = os.environ) -> HuggingFaceRepo:
        """From "REPO" or "REPO@REVISION", endpoint and token from the environment as huggingface_hub reads them."""
        repo, at, revision = text.partition("@")
        endpoint = environ.get(ENDPOINT_VARIABLE, "").rstrip("/") or ENDPOINT
        if not endpoint.startswith(("https://", "http://")):
            raise DownloadError(f"{ENDPOINT_VARIABLE} is {endpoint!r}; expected a URL such as {ENDPOINT}")
        token = environ.get(TOKEN_VARIABLE, "").strip() or None
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise DownloadError(f"{TOKEN_VARIABLE} holds something that is no token; expected hf_... and nothing else")
        return cls(repo, revision if at else MAIN, endpoint, token)

    @property
    def source(self) -> str:
        """The repository as a SPEC without its revision."""
        return f"hf:{self.repo}"

    @property
    def server(self) -> str:
        """What has to be reached."""
        return self.endpoint

    @property
    def page(self) -> str:
        """Where people look at its files."""
        return f"{self.endpoint}/{self.repo}/tree/{quote(self.revision, safe='')}"

    def pinned(self, revision: str) -> str:
        """The SPEC of this very content."""
        return f"{self.source}@{revision}"

    def web(self, patience: Patience) -> Web:
        """How to ask it."""
        return Web(patience, self.token, origin_of(self.endpoint))

    def listing(self, web: Web) -> Listing:
        """Its files at the commit that the revision is now.

        Raises:
            Unreachable: the hub does not answer.
            DownloadError: there is no such repository or revision, it is gated, or the list cannot be used.
        """
        url = f"{self.endpoint}/api/models/{self.repo}/revision/{quote(self.revision, safe='')}?blobs=true"
        try:
            told = web.json(url)
        except Refused as error:
            raise self.explain(error.status, error.code) from error
        commit = told.get("sha") if isinstance(told, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise DownloadError(f"{url} names no commit; is {self.endpoint} a Hugging Face hub? Nothing was changed")
        if told.get("gated") and self.token is None:
            raise self.explain(401, "GatedRepo")
        siblings = told.get("siblings")
        if not isinstance(siblings, list):
            raise DownloadError(f"{url} lists no files; nothing was changed")
        files = tuple(self._file(sibling, commit) for sibling in siblings)
        return Listing(self.source, commit, self.page, files, self.explain)

    def explain(self, status: int, code: str) -> DownloadError:
        """What an HTTP status of the hub means for this repository, and what to do."""
        if code == "RevisionNotFound":
            return DownloadError(f"{self.repo} has no revision {self.revision!r}; its page {self.page} tells which")
        if code == "EntryNotFound":
            return DownloadError(f"a file that {self.repo} lists is not there; run the command again")
        if status == 403 or code == "GatedRepo":
            has = f"the account of {TOKEN_VARIABLE} has no access to it" if self.token else f"{TOKEN_VARIABLE} is unset"
            return DownloadError(
                f"{self.repo} is gated, and {has}: accept its terms at {self.endpoint}/{self.repo}, make a token at "
                f"{self.endpoint}/settings/tokens, and set {TOKEN_VARIABLE} to it"
            )
        if status == 401:
            if self.token is not None:
                return DownloadError(
                    f"the hub refuses the token in {TOKEN_VARIABLE}, or {self.repo} does not exist; make a new token "
                    f"at {self.endpoint}/settings/tokens, or unset it for what is public"
                )
            return DownloadError(
                f"the hub has no repository {self.repo}, or it is private: check the name at "
                f"{self.endpoint}/{self.repo}; for a private one set {TOKEN_VARIABLE}"
            )
        if status == 404:
            return DownloadError(f"{self.endpoint} has no repository {self.repo} at {self.revision!r}: {self.page}")
        if status == 429:
            return DownloadError("the hub says that it was asked too often; wait some minutes and run it again")
        return DownloadError(f"{self.endpoint} answers {status} {code} for {self.repo}; run the command again later")

    def _file(self, told: Any, commit: str) -> RemoteFile:
        """A file of the list. Large files are kept beside git, under their sha256; the others are git blobs."""
        try:
            path, lfs = told["rfilename"], told.get("lfs")
            size = lfs["size"] if lfs else told["size"]
            kind, digest = ("sha256", lfs["sha256"]) if lfs else ("git-sha1", told["blobId"])
            pattern = _SHA256 if lfs else _COMMIT
            if not (isinstance(path, str) and type(size) is int and pattern.fullmatch(digest)):
                raise ValueError("a path, a size or a digest is missing")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DownloadError(
                f"the hub's list of {self.repo} has {str(told)[:80]!r}, without what a file is verified by "
                f"({error!r}); nothing was changed"
            ) from error
        url = f"{self.endpoint}/{self.repo}/resolve/{commit}/{quote(path, safe='/', errors='replace')}"
        return RemoteFile(path, size, url, Digest(kind, digest))
