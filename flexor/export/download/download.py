"""Download: from a SPEC to a folder that holds all of it, verified; or to an error that says what is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flexor.export.download.bucket import Bucket
from flexor.export.download.catalog import CATALOG, IMPORT, Known
from flexor.export.download.folder import DownloadFolder
from flexor.export.download.hugging_face import HuggingFaceRepo
from flexor.export.download.remote_file import NOTE, DownloadError, Listing, RemoteFile
from flexor.export.download.transfer import Transfer, verifies
from flexor.export.download.web import Patience, Refused, Unreachable, Web

Told = Callable[[str, int, int], None]
"""Gets what is being done, the bytes of all files that are there, and the bytes that there will be."""


class Offline(DownloadError):
    """The source cannot be reached, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of a download: what became of it is kept, downloaded or resumed; listed in a dry run."""

    path: str
    size: int
    digest: str
    state: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a download came to."""

    listing: Listing
    files: tuple[Fetched, ...]
    received_bytes: int
    retries: int
    seconds: float


@dataclass(slots=True)
class Download:
    """What a SPEC names, and how it is brought over.

    Attributes:
        spec: "hf:REPO[@REV]", "gs://BUCKET/PATH", or a name of the catalog.
        include, exclude: patterns of paths; without `include`, the catalog's or all.
        patience: how long to wait.
        environ: endpoints and the token.

    Raises:
        DownloadError: `spec` names no source.
    """

    spec: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    patience: Patience = field(default_factory=Patience)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    known: Known | None = field(init=False)
    source: HuggingFaceRepo | Bucket = field(init=False)

    def __post_init__(self) -> None:
        name, at, revision = self.spec.partition("@")
        self.known = CATALOG.get(name)
        spec = self.known.spec + at + revision if self.known else self.spec
        if self.known and not self.include:
            self.include = self.known.include
        if spec.startswith("hf:"):
            self.source = HuggingFaceRepo.of(spec.removeprefix("hf:"), self.environ)
        elif spec.startswith("gs://"):
            self.source = Bucket.of(spec.removeprefix("gs://"), self.environ)
        else:
            hint = f"; a repository of the hub is hf:{self.spec}" if self.spec.count("/") == 1 else ""
            raise DownloadError(
                f"{self.spec!r} names no source; expected hf:REPO[@REV], gs://BUCKET/PATH, or one of "
                f"{', '.join(CATALOG)}{hint}"
            )

    def next_command(self, out: Path | str) -> str:
        """What to do once the files are in `out`."""
        return self.known.next_command(str(out)) if self.known else IMPORT.format(out=out)

    def look(self, out: Path | None = None) -> Outcome:
        """Only ask what there is.

        Raises:
            Offline, DownloadError.
        """
        begun, web = time.monotonic(), self.source.web(self.patience)
        listing = self._listing(web, out)
        files = tuple(Fetched(file.path, file.size, str(file.digest), "listed") for file in listing.files)
        return Outcome(listing, files, 0, web.retries, time.monotonic() - begun)

    def run(self, out: Path, told: Told = lambda what, done, total: None) -> Outcome:
        """Bring the files into `out`. What is there and verifies is kept; what is there and differs is an error.

        Raises:
            Offline: the source cannot be reached.
            DownloadError: anything else; its message says what is there.
        """
        begun, web = time.monotonic(), self.source.web(self.patience)
        listing = self._listing(web, out)
        folder = DownloadFolder(out)
        self._require_same(folder, listing)
        folder.require_room(listing)
        try:
            with folder:
                kept = self._kept(folder, listing, told)
                folder.write_note(listing, complete=False)
                fetched, received = self._fetch(web, folder, listing, kept, told)
                folder.finish(listing)
        except OSError as error:
            raise DownloadError(
                f"{out} cannot be read or written: {error}; what is there stays: make room or mend it, and run the "
                "same command again"
            ) from error
        told("done", listing.size, listing.size)
        return Outcome(listing, fetched, received, web.retries, time.monotonic() - begun)

    def _fetch(
        self, web: Web, folder: DownloadFolder, listing: Listing, kept: set[RemoteFile], told: Told
    ) -> tuple[tuple[Fetched, ...], int]:
        """Bring all files but `kept`; returns what became of each, and the bytes that came."""
        fetched: list[Fetched] = []
        before = 0
        transfer = Transfer(web, folder, lambda file, have: told(file.path, before + have, listing.size))
        for file in listing.files:
            try:
                state = "kept" if file in kept else transfer.fetch(file)
            except (Refused, Unreachable) as error:
                why = listing.explain(error.status, error.code) if isinstance(error, Refused) else error
                raise DownloadError(
                    f"{why}. {len(fetched)} of {len(listing.files)} files are whole in {folder.path}; after them "
                    f"{file.path} failed, of which what came is kept: the same command goes on from there"
                ) from error
            fetched.append(Fetched(file.path, file.size, str(file.digest), state))
            before += file.size
        return tuple(fetched), transfer.received

    def _listing(self, web: Web, out: Path | None) -> Listing:
        try:
            return self.source.listing(web).select(self.include, self.exclude)
        except Unreachable as error:
            raise Offline(self._by_hand(error, out)) from error

    def _by_hand(self, error: Unreachable, out: Path | None) -> str:
        """What an offline user can do."""
        where = out or "DIR"
        files = ", ".join(self.known.files) if self.known else "its .json and .safetensors files"
        return (
            f"{error}. Nothing was changed. Without a network here, bring the files over by hand: on a machine that "
            f"reaches {self.source.server}, run `flexor download {self.spec} --out DIR`, or take {files} from "
            f"{self.source.page}; copy them into {where} on this machine, folders inside it as they are there. "
            f"Then: {self.next_command(where)}"
        )

    def _require_same(self, folder: DownloadFolder, listing: Listing) -> None:
        """What the folder holds is of this source and of this revision: a mixture would be nobody's checkpoint."""
        note = folder.note()
        if note is None:
            return
        if note["source"] != listing.source:
            raise DownloadError(
                f"{folder.path} holds {note['source']} ({NOTE} says so), not {listing.source}; choose another --out"
            )
        if note["revision"] != listing.revision:
            pinned = self.source.pinned(note["revision"])
            go_on = f"; `flexor download {pinned} --out {folder.path}` goes on with it" if "@" in pinned else ""
            raise DownloadError(
                f"{folder.path} holds {listing.source} as it was at {note['revision'][:12]}, and now it is at "
                f"{listing.revision[:12]}; choose another --out for the new one{go_on}"
            )

    def _kept(self, folder: DownloadFolder, listing: Listing, told: Told) -> set[RemoteFile]:
        """The files that are there already, every one verified."""
        kept, checked = set(), 0

        def count(size: int) -> None:
            nonlocal checked
            checked += size
            told("checking what is there", checked, listing.size)

        for file in listing.files:
            target = folder.target(file)
            if not target.exists():
                continue
            if not verifies(file, target, count):
                raise DownloadError(
                    f"{target} is there and is not the file of {listing.source} ({file.size} bytes, {file.digest}); "
                    "nothing was changed: move it away, or choose another --out"
                )
            kept.add(file)
        return kept
