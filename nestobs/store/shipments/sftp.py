"""SFTP as fsspec has it, but for whom it talks to: fsspec takes any host key, and whoever stands in between gets all.

The host must be known here, as for `ssh`: in ~/.ssh/known_hosts or the machine's. Another key than there, or none, is
refused before anything is sent. Who we are is told by keys (an agent, ~/.ssh, FSSPEC_SFTP_KEY_FILENAME) or by
FSSPEC_SFTP_PASSWORD. A connection belongs to one place, and is not taken up again by another: an old one may be dead.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Final

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from nestobs.errors import StoreError

OPEN_S, ANSWER_S = 10.0, 60.0
_KNOWN: Final = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


def opened(url: str) -> tuple[SFTPFileSystem, str]:
    """The file system of a URL, connected, and the path there. Raises StoreError, and what paramiko raises."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what fails is raised, and need not be logged as well
    files = KnownHosts(**KnownHosts._get_kwargs_from_urls(url))
    return files, str(KnownHosts._strip_protocol(url)).rstrip("/")


class KnownHosts(SFTPFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Files of a host that is known here."""

    cachable = False

    def _connect(self) -> None:
        """Raises StoreError for a host that is not known, and what paramiko raises."""
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys()
        for path in _KNOWN:
            with suppress(OSError):
                self.client.load_system_host_keys(path)
        self.client.set_missing_host_key_policy(_Unknown())
        how: dict[str, Any] = {"timeout": OPEN_S, "banner_timeout": OPEN_S, "auth_timeout": ANSWER_S}
        try:
            self.client.connect(self.host, **how | self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(ANSWER_S)
        except paramiko.BadHostKeyException as error:
            self.client.close()
            raise StoreError(
                f"{error.hostname} shows another host key ({error.key.get_name()} {error.key.fingerprint}) than"
                " ~/.ssh/known_hosts has: somebody may stand in between; ask who keeps that host, and correct"
                " known_hosts only if the host has a new one"
            ) from None
        except BaseException as error:
            self.client.close()
            if type(error) is paramiko.SSHException and str(error).startswith("No authentication methods"):
                raise paramiko.AuthenticationException("no key and no password is here") from None
            raise


class _Unknown(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # nor does paramiko
    """Refuses a host that is not known."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        host, _, port = hostname.strip("[]").partition("]:")
        asked = f"ssh-keyscan -p {port} {host}" if port else f"ssh-keyscan {host}"
        raise StoreError(
            f"{hostname} is not known here: its host key ({key.get_name()} {key.fingerprint}) is not in"
            f" ~/.ssh/known_hosts; compare it with who keeps that host, then `{asked} >> ~/.ssh/known_hosts`"
        )
