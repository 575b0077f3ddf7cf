"""A real SSH server on loopback: OpenSSH's sshd, run by somebody without rights, who may log in by one key.

Where the tests run as root it is run as nobody: as root it would need a user and a folder of its own in the system.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from worlds import programs
from worlds.programs import free_port, listens, tool

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication yes
ForceCommand internal-sftp
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Sftp:
    """A server. home: a folder for a client's HOME, whose ~/.ssh knows the host and holds the key; files: whose folder
    is shipped to; log: what sshd says."""

    user: str
    port: int
    home: Path
    files: Path
    log: Path

    @property
    def url(self) -> str:
        """Of a folder there."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}{self.files}/nests"

    @property
    def known_hosts(self) -> Path:
        """The client's."""
        return self.home / ".ssh" / "known_hosts"


@contextmanager
def serving() -> Iterator[Sftp]:
    """A server on a free port; killed at the end."""
    pytest.importorskip("paramiko", reason="there is no paramiko here: pip install 'nestobs[fleet]'")
    program = Path(tool("sshd", "sftp"))
    runs_as = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nestobs-sftp-") as name:
        folder, files = Path(name), Path(name, "files")
        for each in program, *program.parent.glob("libwrap.so*"):
            shutil.copy(each, folder)
        keys = folder / "home" / ".ssh"
        keys.mkdir(parents=True)
        for path in (folder / "host", keys / "id_ed25519"):
            path.write_bytes(private_key())
            path.chmod(0o600)
        (folder / "authorized").write_text(f"{public_of(keys / 'id_ed25519')}\n")
        (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {public_of(folder / 'host')}\n")
        (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder))
        files.mkdir()
        if os.geteuid() == 0:
            folder.chmod(0o711)
            for path in (folder / "host", files):
                os.chown(path, runs_as.pw_uid, runs_as.pw_gid)
        with _running(folder, runs_as, port) as log:
            yield Sftp(runs_as.pw_name, port, folder / "home", files, log)


@contextmanager
def _running(folder: Path, runs_as: pwd.struct_passwd, port: int) -> Iterator[Path]:
    as_whom = {"user": runs_as.pw_uid, "group": runs_as.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    words = [str(folder / "sshd"), "-f", str(folder / "sshd_config"), "-D", "-e"]
    log = folder / "sshd.log"
    environment = {"LD_LIBRARY_PATH": str(folder), "PATH": os.environ["PATH"]}
    with programs.serving(words, log, lambda: listens(port), env=environment, cwd="/", **as_whom):
        yield log


def private_key() -> bytes:
    """A fresh key, as ssh-keygen writes one."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()
    )


def public_of(path: Path) -> str:
    """The public half of a key, as known_hosts and authorized_keys have it."""
    import paramiko

    key = paramiko.Ed25519Key.from_private_key_file(str(path))
    return f"{key.get_name()} {key.get_base64()}"
