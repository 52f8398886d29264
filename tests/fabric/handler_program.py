# SPDX-License-Identifier: Apache-2.0
"""Is the program of the test handlers, in their packages: it does as vendors' do today, and tells a judge of each call.

Runs in a lab as a command of a handler, `handler.py VERB`; it imports nothing of the project. The judge's files are in
JUDGE: HANDLER has a line for each call that began, HANDLER.ended for each that came to its end.
"""

import base64
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

JUDGE = Path("/var/lib/judge")
KEYS = Path("/var/lib/waagent")
# Never more than this: a bomb is to meet a limit, not to bring the machine down that has none.
MOST_FORKS = 1500
MIB = 1 << 20


class Call:
    """One call: where the handler is, what it was given, and what it is to do."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.base = Path(__file__).resolve().parents[1]
        (told,) = json.loads((self.base / "HandlerEnvironment.json").read_text())
        self.name: str = told["name"]
        self.folders: dict[str, str] = told["handlerEnvironment"]
        given = dict(os.environ)
        self.sequence = given.get("ConfigSequenceNumber", "")
        self.extension = given.get("ConfigExtensionName", "")
        self.stem = f"{self.extension}.{self.sequence}" if self.extension else self.sequence
        self.version = self.base.name.rpartition("-")[2]
        self.settings = self._settings()
        self.public: dict[str, Any] = self.settings.get("publicSettings") or {}

    def _settings(self) -> dict[str, Any]:
        try:
            text = Path(self.folders["configFolder"], f"{self.stem}.settings").read_text()
        except OSError:
            return {}
        settings: dict[str, Any] = json.loads(text)["runtimeSettings"][0]["handlerSettings"] if text else {}
        return settings

    def protected(self) -> Any:
        """The protected settings, opened as vendors do."""
        sealed = self.settings.get("protectedSettings")
        if not sealed:
            return None
        stem = KEYS / self.settings["protectedSettingsCertThumbprint"]
        opened = subprocess.run(
            ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", f"{stem}.prv", "-recip", f"{stem}.crt"],
            input=base64.b64decode(sealed),
            capture_output=True,
            check=False,
        )
        return json.loads(opened.stdout) if opened.returncode == 0 else {"problem": opened.stderr.decode()}

    def words(self) -> list[str]:
        """What this verb is to do: by the package, and by the settings."""
        packed = json.loads((self.base / "does.json").read_text())
        wished = self.public.get("does", {})
        return [word for does in (packed, wished) for each in (self.verb, "*") for word in does.get(each, ())]

    def tell(self, file: str, **more: object) -> None:
        """A line for the judge, on disk before anything else happens."""
        line: dict[str, object] = {
            "verb": self.verb,
            "version": self.version,
            "sequence": self.sequence,
            "extension": self.extension,
        }
        line |= {"at": time.monotonic(), "pid": os.getpid(), **more}
        JUDGE.mkdir(exist_ok=True)
        with (JUDGE / file).open("ab") as judge:
            judge.write(json.dumps(line).encode() + b"\n")
            judge.flush()
            os.fsync(judge.fileno())

    def status(self, word: str, message: str, code: int = 0) -> None:
        """The status file, in place at once."""
        said = {"lang": "en-US", "message": message}
        part = {"name": "part", "status": word, "code": code, "formattedMessage": said}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        told: dict[str, object] = {
            "name": self.name,
            "operation": self.verb,
            "configurationAppliedTime": now,
            "status": word,
        }
        told |= {"code": code, "formattedMessage": said, "substatus": [part]}
        text = json.dumps([{"version": 1.0, "timestampUTC": now, "status": told}])
        final = Path(self.folders["statusFolder"], f"{self.stem}.status")
        final.with_suffix(".new").write_text(text)
        final.with_suffix(".new").rename(final)

    def event(self, message: str) -> None:
        """One event of telemetry."""
        named = {"Version": self.version, "TaskName": self.verb, "EventLevel": "Informational", "Message": message}
        named |= {"Timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()), "OperationId": "test"}
        named |= {"EventPid": str(os.getpid()), "EventTid": str(os.getpid())}
        folder = Path(self.folders["eventsFolder"])
        (folder / f"{time.time_ns()}.json").write_text(json.dumps([named]))


def _sleep(_call: Call, seconds: str) -> None:
    time.sleep(float(seconds))


def _wait(_call: Call, path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.02)


def _hang(_call: Call, _none: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def _fail(call: Call, code: str) -> None:
    call.tell(f"{call.name}.ended", code=int(code))
    print("it went wrong as it was told to", file=sys.stderr)
    raise SystemExit(int(code))


def _detached() -> bool:
    """True in a process that has left the session and the parent of this one; its pid is nobody's to wait for."""
    if os.fork():
        os.wait()
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    return True


def _daemon(call: Call, seconds: str) -> None:
    """Leaves a process behind whose argument list says whose it is."""
    if _detached():
        nothing = os.open("/dev/null", os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        os.execv("/bin/sh", ["sh", "-c", f"sleep {seconds or 1000}; :", f"daemon-of-{call.name}"])


def _bomb(call: Call, _none: str) -> None:
    """Forks until nothing lets it, or MOST_FORKS are there; tells how many, and goes on with them alive."""
    made = 0
    with contextlib.suppress(OSError):
        while made < MOST_FORKS:
            if not os.fork():
                signal.pause()
                os._exit(0)
            made += 1
    call.tell(f"{call.name}.bomb", forks=made)


def _eat(call: Call, mib: str) -> None:
    """Memory, touched as it is taken."""
    eaten = []
    for number in range(int(mib or 1024)):
        eaten.append(bytearray(b"x" * MIB))
        if number % 16 == 0:
            call.tell(f"{call.name}.eaten", mib=number)
    call.tell(f"{call.name}.eaten", mib=len(eaten))


def _flood(_call: Call, mib: str) -> None:
    line = b"flood " * 10_922 + b"end\n"
    for _ in range(int(mib or 64) * 16):
        os.write(1, line)


def _say(_call: Call, text: str) -> None:
    print(text, flush=True)


def _heartbeat(call: Call, word: str) -> None:
    said = {"status": word or "Ready", "code": 0, "formattedMessage": {"lang": "en-US", "message": "it beats"}}
    Path(call.folders["heartbeatFile"]).write_text(json.dumps([{"version": 1.0, "heartbeat": said}]))


def _status(call: Call, word: str) -> None:
    call.status(word, f"{call.verb} says {word}")


def _late_status(call: Call, seconds: str) -> None:
    """transitioning now, success by a process left behind after so long."""
    call.status("transitioning", "it goes on in the background")
    if _detached():
        time.sleep(float(seconds))
        call.status("success", "it came late")
        os._exit(0)


def _vanish(call: Call, seconds: str) -> None:
    """Uninstalls as some do: a process left behind removes the handler's folder a little later."""
    if _detached():
        time.sleep(float(seconds or 0))
        subprocess.run(["rm", "-rf", "--", str(call.base)], check=False)
        os._exit(0)


def _reboot(call: Call, _none: str) -> None:
    """Asks for a reboot as vendors do, and does not wait for it."""
    call.tell(f"{call.name}.reboots")
    subprocess.run(["systemctl", "--no-block", "reboot"], check=False)


def _keep(call: Call, text: str) -> None:
    """Writes the file that an upgrade carries over."""
    (call.base / "mrseq").write_text(text)


def _attack(call: Call, name: str) -> None:
    importlib.import_module("handler_attacks").attack(call, name)


DEEDS: dict[str, Callable[[Call, str], None]] = {
    "sleep": _sleep,
    "wait": _wait,
    "hang": _hang,
    "fail": _fail,
    "daemon": _daemon,
    "bomb": _bomb,
    "eat": _eat,
    "flood": _flood,
    "say": _say,
    "heartbeat": _heartbeat,
    "status": _status,
    "late-status": _late_status,
    "vanish": _vanish,
    "reboot": _reboot,
    "keep": _keep,
    "attack": _attack,
}
INTERESTING = ("AZURE_", "Config", "VERSION", "PATH", "HOME")


def main() -> None:
    """One call; its status is the command's."""
    call = Call(sys.argv[1])
    environment = {name: value for name, value in os.environ.items() if name.startswith(INTERESTING)}
    carried = call.base / "mrseq"
    call.tell(
        call.name,
        environment=environment,
        public=call.public,
        protected=call.protected(),
        folder=str(Path.cwd()),
        kept=carried.read_text() if carried.exists() else "",
    )
    if call.verb == "enable":
        call.status("success", f"enabled by {call.version} with {call.sequence}")
        call.event(f"{call.verb} of {call.version}")
    for word in call.words():
        name, _, argument = word.partition("=")
        DEEDS[name](call, argument)
    call.tell(f"{call.name}.ended", code=0)


if __name__ == "__main__":
    main()
