"""Where a policy server listens: three addresses that follow from one, and the claim on their ipc files."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from flexor.errors import FlexorError

MAX_IPC_PATH_BYTES = 107  # sun_path of a Unix socket, less its final zero
PROBE_TIMEOUT_S = 1.0


class AddressError(FlexorError):
    """An address that cannot be used, or that another server is using."""


def default_folder() -> Path:
    """`$XDG_RUNTIME_DIR/flexor`, or `/tmp/flexor-UID` where there is no such variable."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "flexor" if runtime else Path(f"/tmp/flexor-{os.getuid()}")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The data, control and events addresses of one server; both ends derive the last two from the first.

    `ipc:///run/x/policy.sock` has its control socket at `/run/x/policy.control.sock`, its events at
    `/run/x/policy.events.sock` and its lane at `/run/x/policy.lane.sock`. A TCP server has no lane and keeps the other
    two as ipc files in the default folder, named by its port.
    """

    data: str
    control: str
    events: str

    @classmethod
    def of(cls, data: str | None = None) -> Addresses:
        """The addresses around `data`; None means the default one.

        Raises:
            AddressError: not ipc://PATH or tcp://LOOPBACK:PORT, or a path too long for a Unix socket.
        """
        if data is None:
            path = default_folder() / "policy.sock"
        elif data.startswith("ipc://"):
            name = data.removeprefix("ipc://")
            if not name or name[0] in "@*" or name.endswith("/"):
                raise AddressError(f"address {data!r} names no file; expected ipc://PATH, e.g. ipc:///tmp/policy.sock")
            path = Path(name).absolute()
        elif data.startswith("tcp://"):
            port = _loopback_port(data)
            path = default_folder() / f"policy-{port}.sock"
            return cls(data, _ipc(_beside(path, "control")), _ipc(_beside(path, "events")))
        else:
            raise AddressError(f"address {data!r}; expected ipc://PATH or tcp://127.0.0.1:PORT")
        return cls(_ipc(path), _ipc(_beside(path, "control")), _ipc(_beside(path, "events")))

    @property
    def files(self) -> tuple[Path, ...]:
        """The ipc files that a server at these addresses creates."""
        every = (self.data, self.control, self.events)
        files = tuple(Path(a.removeprefix("ipc://")) for a in every if a.startswith("ipc://"))
        return files if self.lane is None else (*files, self.lane)

    @property
    def lane(self) -> Path | None:
        """The socket file for clients that share memory (lane.py), beside the data socket; None over TCP."""
        return _beside(Path(self.data.removeprefix("ipc://")), "lane") if self.data.startswith("ipc://") else None


class Claim:
    """The right of one process to the ipc files of `addresses`, from acquire() to release().

    libzmq removes an existing socket file before it binds, so a second server would take a first one's address
    without a word. An flock beside the control socket tells the living from the dead: the kernel drops it with the
    process, however that ends.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        control = Path(addresses.control.removeprefix("ipc://"))
        self._lock_file = control.with_name(control.name + ".lock")
        self._lock: int | None = None

    def acquire(self) -> None:
        """Take the addresses and remove what a dead server left there.

        Raises:
            AddressError: a server lives there, or the folder or a file there is not ours to use.
        """
        for file in self.addresses.files:
            _prepare_folder(file.parent)
        self._lock = self._flock()
        try:
            for file in self.addresses.files:
                self._clear(file)
        except BaseException:
            self._unlock()
            raise

    def release(self) -> None:
        """Remove the files and the lock. Does nothing when nothing is held."""
        if self._lock is None:
            return
        for file in self.addresses.files:
            if file.is_socket():
                file.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _flock(self) -> int:
        while True:
            try:
                handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise AddressError(f"cannot create {self._lock_file}: {error.strerror}; give another --bind") from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise self._taken() from None
            # A server that was just leaving may have unlinked the file between our open and our lock.
            try:
                if os.path.samestat(os.fstat(handle), os.stat(self._lock_file)):
                    return handle
            except FileNotFoundError:
                pass
            os.close(handle)

    def _clear(self, file: Path) -> None:
        if not file.exists():
            return
        if not file.is_socket():
            raise AddressError(f"{file} exists and is no socket; remove it or give another --bind")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect(os.fspath(file))
            except ConnectionRefusedError:
                file.unlink(missing_ok=True)
                return
            except FileNotFoundError:
                return
            except PermissionError as error:
                raise AddressError(f"{file} belongs to someone else; give another --bind") from error
            except (TimeoutError, BlockingIOError):
                pass  # a full queue of connections: whoever owns it lives
            except OSError as error:
                if error.errno != errno.EPROTOTYPE:  # a lane takes no streams: whoever owns it lives
                    raise AddressError(f"cannot probe {file}: {error.strerror}; give another --bind") from error
        raise self._taken()

    def _taken(self) -> AddressError:
        return AddressError(f"a server already listens at {self.addresses.data}; stop it or give another --bind")


def _ipc(path: Path) -> str:
    if len(os.fsencode(path)) > MAX_IPC_PATH_BYTES:
        raise AddressError(
            f"ipc path {path} has {len(os.fsencode(path))} bytes; a Unix socket takes {MAX_IPC_PATH_BYTES}: "
            "choose a shorter folder"
        )
    return f"ipc://{path}"


def _beside(path: Path, word: str) -> Path:
    return path.with_name(f"{path.stem}.{word}{path.suffix}")


def _loopback_port(address: str) -> int:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise AddressError(f"address {address!r} is not on this machine; use tcp://127.0.0.1:PORT and an ssh tunnel")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise AddressError(f"address {address!r} has port {port!r}; expected 1 to 65535")
    return int(port)


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat() if folder == default_folder() else None
    except OSError as error:
        raise AddressError(f"cannot create folder {folder}: {error.strerror}; give another --bind") from error
    # Anybody may create /tmp/flexor-UID before us and listen there in our place.
    if found is not None and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise AddressError(f"folder {folder} is not a private folder of this user; remove it or set XDG_RUNTIME_DIR")
