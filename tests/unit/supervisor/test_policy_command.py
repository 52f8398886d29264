# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor policy`, as real processes, on the policy of this tree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from policy.load import own_folder
from policy.reading import read_policy
from policy.sources import read_sources
from supervisor.cli.policy_score import Row, Scores
from supervisor.cli.policy_score_text import lines
from supervisor.cli.policy_systemd import MISSING, Score

ROOT = Path(__file__).parents[3]
PROFILES = {profile.kind: profile for profile in read_policy(read_sources(own_folder()))[0]}
OVERRIDE = """\
min_level = "reduced"
[parser]
why = "A machine with little memory."
[parser.limits]
memory_mib = 64
"""
LOOSER = OVERRIDE.replace("64", "6400")
# What a machine without libseccomp has, where only a compiled policy was installed.
WITHOUT_LIBSECCOMP = (
    "import sys; sys.modules['pyseccomp'] = None; from supervisor.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


def policy(*arguments: str, width: int = 80) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "COLUMNS": str(width)}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBSECCOMP, "policy", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=60,
    )  # fmt: skip


@pytest.fixture
def overrides(tmp_path: Path) -> Path:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    (folder / "10-small.toml").write_text(OVERRIDE, encoding="utf-8")
    return folder


@pytest.fixture
def none(tmp_path: Path) -> str:
    return f"{tmp_path}/no-overrides"


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_has_every_kind_on_one_screen(none: str, width: int) -> None:
    done = policy("show", "--policy-dir", none, width=width)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.splitlines()
    assert max(map(len, shown)) <= max(width, 86)
    assert [line.split()[0] for line in shown[1 : 1 + len(PROFILES)]] == sorted(PROFILES)
    (verifier,) = [line for line in shown if line.startswith("verifier ")]
    assert verifier.split()[-1] == "sys_ptrace"
    (account,) = [line for line in shown if line.startswith("account ")]
    assert "->" in account
    if width == 160:
        assert account.split()[-1] == ",".join(sorted(PROFILES["account"].capability_names))


@pytest.mark.parametrize("kind", sorted(PROFILES))
def test_a_page_has_every_grant_with_its_reason(none: str, kind: str) -> None:
    done = policy("show", kind, "--policy-dir", none)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    told = " ".join(done.stdout.split())
    profile = PROFILES[kind]
    parts = (profile, profile.identity, profile.namespaces, profile.limits, profile.lifetime, profile.families)
    whys = [each.why for part in (profile.capabilities, profile.paths, profile.requests, profile.runs) for each in part]
    whys += [part.why for part in parts]
    assert [why for why in whys if why not in told] == []
    assert [grant.path for grant in profile.paths if f"{grant.path}: " not in told] == []
    assert [name for name in profile.capability_names if f"CAP_{name.upper()}" not in told] == []


def test_show_json_is_the_profile_and_what_it_may_call(none: str) -> None:
    data = json.loads(policy("show", "parser", "--json", "--policy-dir", none).stdout)
    assert data["kind"] == "parser"
    assert data["limits"]["memory_mib"] == PROFILES["parser"].limits.memory_mib
    assert data["stages"]["locked"]["otherwise"] == "kill"
    assert data["stages"]["locked"]["calls"]["socket"]["only"] == [{"argument": 0, "mask": 0xFFFFFFFF, "value": 1}]
    assert "execve" not in data["stages"]["startup"]["calls"]
    every = json.loads(policy("show", "--json", "--policy-dir", none).stdout)["kinds"]
    assert [page["kind"] for page in every] == sorted(PROFILES)


def test_what_overrides_change_is_shown_with_their_file(overrides: Path) -> None:
    shown = policy("show", "parser", "--policy-dir", str(overrides)).stdout
    assert "64 MiB of memory" in shown
    assert "+ limits (tightens): memory_mib 64" in shown
    assert "A machine with little memory. [10-small.toml]" in " ".join(shown.split())
    table = policy("show", "--policy-dir", str(overrides)).stdout
    assert "\nparser* " in table
    assert "*: changed by overrides" in table
    assert "Overrides demand level reduced of this machine: landlock, memory-limit, pids-limit." in " ".join(
        table.split()
    )
    (small,) = json.loads(policy("show", "parser", "--json", "--policy-dir", str(overrides)).stdout)["overrides"][1:]
    assert (small["file"], small["sign"], small["what"], small["effect"]) == (
        *("10-small.toml", "+", "memory_mib 64", "tightens"),
    )


def test_lint_of_this_tree_and_of_overrides(overrides: Path, none: str, tmp_path: Path) -> None:
    done = policy("lint", "--policy-dir", str(overrides))
    assert (done.returncode, done.stderr) == (0, "")
    looser = tmp_path / "looser.toml"
    looser.write_text(LOOSER, encoding="utf-8")
    done = policy("lint", "--policy-dir", none, str(looser))
    before = PROFILES["parser"].limits.memory_mib
    assert done.stdout == (
        "policy.d/looser.toml: loosens, which takes Policy.AllowLoosening=y: "
        f"parser: limits.memory_mib: 6400 is more than {before}\n"
    )
    assert done.returncode == 1
    done = policy("lint", "--policy-dir", none, "--allow-loosening", str(looser))
    assert (done.returncode, done.stdout.rpartition(" and ")[2]) == (0, "1 override\n")
    settings = tmp_path / "waagent.conf"
    settings.write_text("Policy.AllowLoosening=y\n", encoding="utf-8")
    assert policy("lint", "--policy-dir", none, "--config", str(settings), str(looser)).returncode == 0
    done = policy("lint", "--json", "--policy-dir", none, str(looser))
    assert done.returncode == 1
    assert len(json.loads(done.stdout)["faults"]) == 1


def test_diff_tells_by_its_exit_status(overrides: Path, none: str, tmp_path: Path) -> None:
    same = policy("diff", "--policy-dir", none)
    assert (same.returncode, same.stdout, same.stderr) == (0, "no difference\n", "")
    changed = policy("diff", "--policy-dir", str(overrides))
    assert changed.returncode == 1
    assert changed.stdout.startswith("parser:\n  - limits (tightens): memory_mib ")
    done = policy("diff", "policy", "policy/compiled.bin")
    assert (done.returncode, done.stdout) == (0, "no difference\n")
    for wrong in ([str(tmp_path), "policy"], [str(tmp_path / "absent"), "policy"], ["policy"]):
        done = policy("diff", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr
    (change, _) = json.loads(policy("diff", "--json", "--policy-dir", str(overrides)).stdout)["changes"]
    assert (change["kind"], change["key"], change["file"]) == ("parser", "limits", "10-small.toml")


def test_units_are_written(none: str, tmp_path: Path) -> None:
    done = policy("export-units", "--policy-dir", none, "--output", str(tmp_path / "new" / "units"))
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(path.name for path in (tmp_path / "new" / "units").iterdir())
    assert files == sorted(f"agent-supervisor-{kind}.service" for kind in PROFILES)
    told = json.loads(policy("export-units", "--json", "--policy-dir", none).stdout)["units"]
    assert {name: (tmp_path / "new" / "units" / name).read_text("utf-8") for name in files} == told
    assert policy("export-units", "--policy-dir", none).stdout.count("\n[Service]\n") == len(PROFILES)


def test_score_judges_tells_the_installed_unit_and_claims_no_credit(none: str) -> None:
    done = policy("score", "--json", "--sensitivity", "--policy-dir", none)
    data = json.loads(done.stdout)
    assert done.returncode == (1 if data["over"] else 0)
    rows = {row["kind"]: row for row in data["rows"]}
    assert set(rows) == set(PROFILES)
    assert rows["parser"]["systemd"]["exposure"] <= rows["parser"]["budget"] == 1.5
    assert rows["supervisor"]["systemd"]["exposure"] <= rows["supervisor"]["budget"] == 4.0
    assert rows["spawner"]["budget"] is None
    assert data["shifts"]
    text = policy("score", "--no-judge", "--policy-dir", none)
    assert text.returncode == 0
    told = " ".join(text.stdout.split())
    assert f"The installed unit itself: {data['installed']['exposure']}" in told
    assert "No credit is claimed" in told


def test_a_wider_policy_is_over_its_budget(tmp_path: Path) -> None:
    """The same parser on the host's network, as root and with the host's files: the budget notices."""
    wide = tmp_path / "policy"
    for name, content in read_sources(own_folder()).items():
        (wide / name).parent.mkdir(parents=True, exist_ok=True)
        (wide / name).write_bytes(content)
    parser = wide / "profiles" / "parser.toml"
    text = parser.read_text("utf-8")
    for old, new in (
        ('"net", ', ""),
        (', "user"', ""),
        ("uid = 60800", "uid = 0"),
        ('view = "own"', 'view = "host"'),
        ('path = "/channel"\naccess = "channel"', 'path = "/"\naccess = "tools"'),
    ):
        assert old in text
        text = text.replace(old, new)
    parser.write_text(text, encoding="utf-8")
    done = policy("score", "--json", "--shipped", str(wide), "--policy-dir", f"{tmp_path}/none")
    assert done.returncode == 1
    assert "parser" in json.loads(done.stdout)["over"]


def test_without_systemd_analyze_the_index_stands_alone_and_that_is_said() -> None:
    row = Row("parser", 3.2, {"calls": 2.3}, None, 1.5)
    shown = lines(Scores([row], "", None, "", {}, None))
    assert any(line.split()[:3] == ["parser", "3.2", "-"] for line in shown)
    assert f"SYSTEMD: {MISSING}." in " ".join(" ".join(shown).split())
    assert not row.is_over
    assert Row("parser", 3.2, {}, Score(1.6, "OK"), 1.5).is_over
    assert not Row("parser", 3.2, {}, Score(9.6, "UNSAFE"), None).is_over


@pytest.mark.parametrize(
    "arguments", [["show", "nobody"], ["lint", "/no/such.toml"], ["lint"], ["show", "--shipped", "/no/such"]]
)
def test_trouble_is_one_line(none: str, arguments: list[str]) -> None:
    done = policy(*arguments, "--policy-dir", none)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("agent-supervisor: ")
    assert done.stderr.count("\n") == 1


def test_a_broken_override_is_named(overrides: Path) -> None:
    (overrides / "20-wrong.toml").write_text(
        "[parser]\nwhy = 'Grants what nobody knows.'\ngrand = 1\n", encoding="utf-8"
    )
    for action in ("show", "diff", "score", "export-units"):
        done = policy(action, "--policy-dir", str(overrides))
        assert (done.returncode, done.stdout) == (2, "")
        assert "policy.d/20-wrong.toml: [parser] " in done.stderr
        assert "grand" in done.stderr


def test_other_commands_do_not_load_it() -> None:
    script = "import sys; from supervisor.cli.main import parser; parser(['ps']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "supervisor.cli.main" in loaded.split()
    assert not {"supervisor.cli.policy", "policy.groups", "tomllib", "pyseccomp"} & set(loaded.split())
