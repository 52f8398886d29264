# SPDX-License-Identifier: Apache-2.0
"""The rules of /etc/waagent.conf, on text and on real files."""

import os
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import ConfigError
from supervisor import options as o
from supervisor.config import MAX_BYTES, load, parse


def value(text: str, option: o.Option[object]) -> object:
    return parse(text).config[option]


@pytest.mark.parametrize(
    ("text", "option", "expected"),
    [
        ("Lib.Dir=/a", o.LIB_DIR, "/a"),
        ("  Lib.Dir  =  /a  ", o.LIB_DIR, "/a"),
        ("#Lib.Dir=/a", o.LIB_DIR, "/var/lib/waagent"),
        (" #Lib.Dir=/a", o.LIB_DIR, "/var/lib/waagent"),
        ("Lib.Dir /a", o.LIB_DIR, "/var/lib/waagent"),
        ('Lib.Dir="/a"', o.LIB_DIR, "/a"),
        ('Lib.Dir=" /a "  # a comment', o.LIB_DIR, "/a"),
        ("Lib.Dir=/a#b", o.LIB_DIR, "/a"),
        ("Lib.Dir=/a=b", o.LIB_DIR, "/a=b"),
        ("Lib.Dir=None", o.LIB_DIR, "/var/lib/waagent"),
        ("Lib.Dir=/a\nLib.Dir=/b\n", o.LIB_DIR, "/b"),
        ("Lib.Dir=/a\nLib.Dir=None\n", o.LIB_DIR, "/var/lib/waagent"),
        ("Lib.Dir=/a\r\nLogs.Verbose=y\r\n", o.LOGS_VERBOSE, True),
        ('Lib.Dir="/a"\r\n', o.LIB_DIR, "/a"),
        ("lib.dir=/a", o.LIB_DIR, "/var/lib/waagent"),
        ("Autoupdate.Frequency=60", o.AUTO_UPDATE_PERIOD, 60),
        ("AutoUpdate.Frequency=60", o.AUTO_UPDATE_PERIOD, 3600),
        ("Logs.Verbose=Y", o.LOGS_VERBOSE, True),
        ("Logs.Collect=N", o.LOGS_COLLECT, False),
        ("Logs.Collect=no", o.LOGS_COLLECT, True),
        ("Logs.Verbose=true", o.LOGS_VERBOSE, False),
        ("Extensions.GoalStatePeriod=+12", o.GOAL_STATE_PERIOD, 12),
        ("Extensions.GoalStatePeriod=12s", o.GOAL_STATE_PERIOD, 6),
        ("Extensions.GoalStatePeriod=0", o.GOAL_STATE_PERIOD, 6),
        ("Extensions.GoalStatePeriod=" + "9" * 5000, o.GOAL_STATE_PERIOD, 6),
        ("ResourceDisk.MountOptions=", o.RESOURCE_DISK_MOUNT_OPTIONS, ""),
        ("ResourceDisk.MountOptions=None", o.RESOURCE_DISK_MOUNT_OPTIONS, None),
        ("Extensions.WaitForCloudInitTimeout=60", o.WAIT_FOR_CLOUD_INIT_TIMEOUT, 60),
        ("Provisioning.SshHostKeyPairType=auto", o.HOST_KEY_TYPE, "auto"),
        ("Provisioning.SshHostKeyPairType=rsa; rm", o.HOST_KEY_TYPE, "rsa"),
        ("Provisioning.Media=/dev/sr0", o.PROVISIONING_MEDIA, "/dev/sr0"),
        ("Provisioning.Media=sr0", o.PROVISIONING_MEDIA, "auto"),
        ("Control.Group=a b", o.CONTROL_GROUP, "agent-supervisor"),
        ("OS.RootDeviceScsiTimeout=300", o.SCSI_TIMEOUT, 300),
        ("x=y", o.SCSI_TIMEOUT, None),
    ],
)
def test_quirks(text: str, option: o.Option[object], expected: object) -> None:
    found = value(text, option)
    assert found == expected
    assert type(found) is type(expected)


def test_a_wrong_value_is_named_with_its_line_and_the_default_taken() -> None:
    parsed = parse("# head\nLogs.Verbose=maybe\nHttpProxy.Port=99999\nAutoUpdate.UpdateToLatestVersion=?\n")
    wrong = [finding for finding in parsed.findings if finding.level == "warning"]
    assert [finding.line for finding in wrong] == [2, 3, 4]
    assert str(wrong[0]) == "line 2: Logs.Verbose is 'maybe', not y or n; taken: the default, n"
    assert "between 1 and 65535; taken: the default, None" in str(wrong[1])
    assert "taken: AutoUpdate.Enabled's value" in str(wrong[2])


def test_only_the_last_of_several_counts_even_when_it_is_wrong() -> None:
    parsed = parse("Extensions.GoalStatePeriod=30\nExtensions.GoalStatePeriod=x\n")
    assert parsed.config[o.GOAL_STATE_PERIOD] == 6
    assert {finding.level for finding in parsed.findings} == {"warning", "info"}


def test_a_value_follows_another_option_until_it_is_set() -> None:
    assert parse("AutoUpdate.Enabled=n\n").config[o.UPDATE_TO_LATEST] is False
    assert parse("AutoUpdate.Enabled=n\nAutoUpdate.UpdateToLatestVersion=y").config[o.UPDATE_TO_LATEST] is True


def test_unknown_keys_cost_one_line_at_info_however_many() -> None:
    parsed = parse("Home.Dir=/h\n" + "".join(f"Nobody.Reads{n}=1\n" for n in range(5000)))
    (finding,) = parsed.findings
    assert finding.level == "info"
    assert "OS.HomeDir" in finding.problem
    assert "4981 more" in finding.problem
    assert len(finding.problem) < 2000


def test_documented_defaults_hold_where_the_reference_fell_behind() -> None:
    config = parse("\n").config
    assert config[o.REGENERATE_HOST_KEYS] is True
    assert config[o.MONITOR_HOST_NAME] is True
    assert config[o.PROVISIONING_ENABLED] is True
    assert config[o.RESOURCE_DISK_FORMAT] is True
    assert config[o.RESOURCE_DISK_FILESYSTEM] == "ext4"
    assert config[o.DELETE_ROOT_PASSWORD] is False
    assert config[o.OPENSSL_PATH] is None


def test_the_effective_configuration_reads_back_the_same() -> None:
    first = parse("Logs.Verbose=y\nHttpProxy.Port=8080\nOS.SshDir=/e\n").config
    text = "\n".join(f"{name} = {shown}" for name, shown in first.effective().items())
    again = parse(text)
    assert [finding for finding in again.findings if finding.level == "warning"] == []
    assert again.config.effective() == first.effective()
    assert list(first.effective()) == sorted(first.effective())


def test_the_table_is_consistent() -> None:
    assert len(o.BY_NAME) == len(o.TABLE) > 80
    for option in o.TABLE:
        assert re.fullmatch(r"[A-Za-z]+(\.[A-Za-z0-9]+)?", option.name)
        assert not option.follows or option.follows in o.BY_NAME
        if option.kind == "integer" and option.default is not None:
            assert isinstance(option.default, int)
            assert option.low <= option.default <= option.high
        if option.words:
            assert option.default in option.words


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_text_gives_settings(text: str) -> None:
    settings = parse(text + "\n" + "".join(f"{name}={text}\n" for name in list(o.BY_NAME)[::7])).config
    for option in cast("tuple[o.Option[Any], ...]", o.TABLE):
        value = settings[option]
        if option.kind == "integer" and value is not None:
            assert isinstance(value, int)
            assert option.low <= value <= option.high
        if option.kind == "text" and option.words:
            assert value in option.words


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbfLogs.Verbose=y\n", "byte order mark"),
        ("Logs.Verbose=y\n".encode("utf-16"), "byte order mark"),
        (b"Logs.Verbose=y\n\x7fELF\0\0", "zero byte in line 2"),
        (b"Logs.Verbose=y\n\nLib.Dir=/\xff\n", "byte 0xff in line 3"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_text_stops_the_agent_with_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "waagent.conf"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert said in caught.value.problem
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_what_is_no_file_stops_the_agent_and_never_holds_it_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "absent")
    with pytest.raises(ConfigError, match="not a regular file"):
        load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        load(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="opened"):
        load(tmp_path / "loop")


@pytest.mark.root
def test_an_unreadable_file_stops_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "waagent.conf"
    path.write_text("Logs.Verbose=y\n")
    path.chmod(0)
    tmp_path.chmod(0o711)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            load(path)
        except (ConfigError, OSError) as error:
            os._exit(7 if "Permission denied" in str(error) and isinstance(error, ConfigError) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_real_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "waagent.conf"
    path.write_bytes(b"Logs.Verbose=y\n".ljust(MAX_BYTES, b"#"))
    assert load(path).config[o.LOGS_VERBOSE] is True


def test_options_of_later_parts_are_told_in_one_line() -> None:
    parsed = parse("Logs.Verbose=y\nAutoUpdate.Enabled=y\nResourceDisk.Format=y\n")
    assert [str(finding) for finding in parsed.findings] == [
        "line 2: without effect in this version: AutoUpdate.Enabled, ResourceDisk.Format"
    ]


def test_what_is_said_to_have_an_effect_is_what_the_agent_asks_for() -> None:
    sources = (Path(__file__).resolve().parents[3] / "supervisor").rglob("*.py")
    asked = {name for source in sources for name in re.findall(r"options\.([A-Z_]+)\]", source.read_text())}
    assert {getattr(o, name).name for name in asked if isinstance(getattr(o, name), o.Option)} == o.IN_EFFECT
