# SPDX-License-Identifier: Apache-2.0
"""Owns the stage on which probes attack: namespaces of prove's own, in which all that could be harmed is a decoy.

Runs in one lane of `prove`, as root. Mounts, network, host name, /etc, /run and /var/lib are the lane's own from here
on; nothing of them reaches the machine, and they end with the lane.
"""

import fcntl
import os
import shutil
import socket
import struct
from contextlib import suppress

from supervisor.jail import mounts, syscalls
from supervisor.prove import raw

HOST, METADATA, INTERNET = "168.63.129.16", "169.254.169.254", "203.0.113.7"
LISTENING = ((HOST, 80), (HOST, 32526), (METADATA, 80), (INTERNET, 443))
HOST_NAME = "proving-ground"
SHARED_MEMORY_KEY = 0x70726F76
HOME = "/var/lib/agent-supervisor"
FILE, FOLDER = f"{HOME}/credentials/TransportPrivate.pem", f"{HOME}/credentials"
MOUNT_POINT = "/var/lib/devices"
SETUID = "/var/lib/setuid-id"
_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x40000000
_NODEV, _DETACH = 4, 2
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP_RUNNING = 0x41
_IPC_CREAT_0600 = 0o1600
# Read by somebody else's service, listened at here by nobody who answers.
SOCKETS = {
    "/run/dbus/system_bus_socket": (socket.SOCK_STREAM, 0o666),
    "/run/systemd/private": (socket.SOCK_STREAM, 0o700),
    "/run/systemd/journal/socket": (socket.SOCK_DGRAM, 0o666),
    "/run/docker.sock": (socket.SOCK_STREAM, 0o660),
    "/run/agent-supervisor/control.sock": (socket.SOCK_SEQPACKET, 0o600),
    "/var/lib/containers/api.sock": (socket.SOCK_STREAM, 0o666),
}
# Files that are root's alone, and what they stand for.
SECRETS = {
    FILE: b"the transport key\n",
    f"{FOLDER}/inner": b"what lies in a folder that was handed over\n",
    f"{HOME}/journal": b"what was done\n",
    f"{HOME}/custom-data": b"whether custom data ran\n",
    "/var/lib/waagent/CustomData": b"the customer's custom data, with secrets in it\n",
    "/var/lib/waagent/provisioned": b"the marker\n",
    "/var/lib/waagent/Extension.1/config/0.settings": b"an extension's protected settings\n",
    "/var/lib/waagent/0123456789ABCDEF0123456789ABCDEF01234567.prv": b"an extension's key\n",
    "/var/lib/dhcp/dhclient.leases": b"a lease\n",
    "/run/sshd.pid": b"1\n",
    "/etc/prove-secret": b"a file in /etc that is root's alone\n",
}
# What attempts make where they may.
MADE = (
    "/etc/sudoers.d/attack",
    "/etc/systemd/system/attack.service",
    "/etc/ld.so.preload",
    "/etc/attack-link",
    "/etc/ssh-attack",
    "/run/agent-supervisor/w/later.0",
    "/var/lib/waagent/gone",
    "/var/lib/devices/null",
)
# What they move away, and where it belongs.
MOVED = {"/run/agent-supervisor/gone.sock": "/run/agent-supervisor/control.sock"}
# Until here they are held open: listening sockets, which end with the lane.
Held = list[socket.socket]


def build(other_uid: int) -> Held:
    """Enter the stage. `other_uid` owns the socket folder of a worker that is somebody else. OSError when the kernel
    refuses: then nothing may be proven."""
    os.umask(0o022)
    syscalls.unshare(_NAMESPACES)
    mounts.make_private()
    _own_copy_of("/etc")
    for folder in ("/run", "/var/lib"):
        syscalls.mount("tmpfs", folder, "tmpfs", _NODEV, "mode=0755")
    for path, content in SECRETS.items():
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        _write(path, content)
    for folder in (HOME, FOLDER, "/var/lib/waagent"):
        os.chmod(folder, 0o700)
    os.makedirs(MOUNT_POINT, 0o755)
    _place_setuid_program()
    os.makedirs("/run/agent-supervisor/w", 0o711)
    socket.sethostname(HOST_NAME)
    raw.call("shmget", SHARED_MEMORY_KEY, 4096, _IPC_CREAT_0600)
    return [*_network(), *_sockets(other_uid)]


def replant() -> None:
    """Put back what the last attempt may have taken or changed."""
    socket.sethostname(HOST_NAME)
    is_mounted_upon()
    for path, content in SECRETS.items():
        _write(path, content)
    for path in MADE:
        with suppress(FileNotFoundError):
            os.unlink(path)
    for there, path in MOVED.items():
        with suppress(FileNotFoundError):
            os.rename(there, path)


def is_renamed() -> bool:
    """Whether somebody has changed the host name of the stage."""
    return socket.gethostname() != HOST_NAME


def is_mounted_upon() -> bool:
    """Whether somebody has mounted something on the stage; it is taken away again."""
    mounted = os.path.ismount(MOUNT_POINT)
    if mounted:
        syscalls.unmount(MOUNT_POINT, _DETACH)
    return mounted


# Attempts of which only this side can tell whether they reached further than the attacker itself.
EFFECTS = {"sets-the-host-name": is_renamed, "mounts-for-all": is_mounted_upon}


def _own_copy_of(folder: str) -> None:
    """An overlay of `folder`, whose changes go nowhere; its parts lie on a mount that no path leads to afterwards."""
    syscalls.mount("tmpfs", "/run", "tmpfs", _NODEV, "mode=0700")
    for part in ("upper", "work"):
        os.mkdir(f"/run/{part}", 0o755)
    options = f"lowerdir={folder},upperdir=/run/upper,workdir=/run/work"
    syscalls.mount("overlay", folder, "overlay", _NODEV, options)
    syscalls.unmount("/run", _DETACH)


def _write(path: str, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o600)
        os.write(file, content)
    finally:
        os.close(file)


def _place_setuid_program() -> None:
    """`id`, which a setuid bit makes root's."""
    with suppress(FileNotFoundError):
        shutil.copyfile("/usr/bin/id", SETUID)
        os.chmod(SETUID, 0o4755)  # noqa: S103 - the mode is the attack


def _network() -> Held:
    """Addresses of the host, of the metadata service and of somebody in the internet, all on a loopback of our own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set(control, _SIOCSIFFLAGS, "lo", struct.pack("=H", _IFF_UP_RUNNING))
        for number, address in enumerate((HOST, METADATA, INTERNET), 1):
            _set(control, _SIOCSIFADDR, f"lo:{number}", _address(address))
            _set(control, _SIOCSIFNETMASK, f"lo:{number}", _address("255.255.255.255"))
    held = []
    for place in LISTENING:
        listener = socket.socket()
        listener.bind(place)
        listener.listen(1024)
        held.append(listener)
    return held


def _set(control: socket.socket, request: int, interface: str, value: bytes) -> None:
    fcntl.ioctl(control, request, struct.pack("=16s24s", interface.encode(), value))


def _address(address: str) -> bytes:
    return struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))


def _sockets(other_uid: int) -> Held:
    held = [_listen(path, kind, mode) for path, (kind, mode) in SOCKETS.items()]
    other = "/run/agent-supervisor/w/other.0"
    held.append(_listen(f"{other}/s", socket.SOCK_STREAM, 0o600))
    os.chmod(other, 0o700)
    for path in (other, f"{other}/s"):
        os.chown(path, other_uid, other_uid)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0proving-ground")
    abstract.listen(1024)
    return [*held, abstract]


def _listen(path: str, kind: int, mode: int) -> socket.socket:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(path)
    os.chmod(path, mode)
    if kind != socket.SOCK_DGRAM:
        listener.listen(1024)
    return listener
