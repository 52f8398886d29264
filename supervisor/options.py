# SPDX-License-Identifier: Apache-2.0
"""Owns the table of options of /etc/waagent.conf (config-cli.md 1.2) as data; read by the supervisor; parses nothing.

Defaults are the documented ones (features.md) wherever the reference's code no longer does what its documentation says.
"""

from typing import Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")

YEAR_S = 366 * 86400


class Option(msgspec.Struct, Generic[T], frozen=True):
    """One option. `low` to `high` bounds an integer. `words` are a text's only values, or stand for a path.

    `pattern` is what a text must match as a whole. `follows` names the option whose value is the default."""

    name: str
    kind: Literal["switch", "integer", "text", "path"]
    default: T
    low: int = 0
    high: int = 0
    words: tuple[str, ...] = ()
    pattern: str = ""
    follows: str = ""


def _switch(name: str, default: bool, follows: str = "") -> Option[bool]:
    return Option(name, "switch", default, follows=follows)


def _integer(name: str, default: int, low: int, high: int) -> Option[int]:
    return Option(name, "integer", default, low, high)


def _seconds(name: str, default: int, follows: str = "") -> Option[int]:
    # A period of 0 would spin; the reference takes it.
    return Option(name, "integer", default, 1, YEAR_S, follows=follows)


def _text(name: str, default: str, words: tuple[str, ...] = (), pattern: str = "") -> Option[str]:
    return Option(name, "text", default, words=words, pattern=pattern)


def _path(name: str, default: str, words: tuple[str, ...] = ()) -> Option[str]:
    return Option(name, "path", default, words=words)


EXTENSIONS_ENABLED = _switch("Extensions.Enabled", True)
GOAL_STATE_PERIOD = _seconds("Extensions.GoalStatePeriod", 6)
# The reference takes GoalStatePeriod; a first boot should not wait for that.
INITIAL_GOAL_STATE_PERIOD = _seconds("Extensions.InitialGoalStatePeriod", 1)
WAIT_FOR_CLOUD_INIT = _switch("Extensions.WaitForCloudInit", False)
# The reference reads this one as a switch, so that no number has an effect; its name promises seconds.
WAIT_FOR_CLOUD_INIT_TIMEOUT = _seconds("Extensions.WaitForCloudInitTimeout", 3600)

# Documented; the reference replaced it by Provisioning.Agent and no longer reads it.
PROVISIONING_ENABLED = _switch("Provisioning.Enabled", True)
PROVISIONING_AGENT = _text("Provisioning.Agent", "auto")
DELETE_ROOT_PASSWORD = _switch("Provisioning.DeleteRootPassword", False)
# Documented y, as shipped; n in the reference's code.
REGENERATE_HOST_KEYS = _switch("Provisioning.RegenerateSshHostKeyPair", True)
HOST_KEY_TYPE = _text(
    "Provisioning.SshHostKeyPairType", "rsa", words=("rsa", "dsa", "ecdsa", "ed25519", "auto")
)  # ed25519 and auto: beyond the documentation
# Documented y, as shipped; n in the reference's code.
MONITOR_HOST_NAME = _switch("Provisioning.MonitorHostName", True)
MONITOR_HOST_NAME_PERIOD = _seconds("Provisioning.MonitorHostNamePeriod", 30)
DECODE_CUSTOM_DATA = _switch("Provisioning.DecodeCustomData", False)
EXECUTE_CUSTOM_DATA = _switch("Provisioning.ExecuteCustomData", False)
# Ours: how long custom data may run before it is ended and provisioning goes on. The reference waits for ever.
CUSTOM_DATA_TIMEOUT = _integer("Provisioning.CustomDataTimeout", 3600, 1, 86400)
PASSWORD_CRYPT_ID = _text("Provisioning.PasswordCryptId", "6", words=("1", "2a", "5", "6"))
PASSWORD_SALT_LENGTH = _integer("Provisioning.PasswordCryptSaltLength", 10, 1, 64)
ALLOW_RESET_SYS_USER = _switch("Provisioning.AllowResetSysUser", False)
# Ours: where ovf-env.xml is looked for; a device or an image file.
PROVISIONING_MEDIA = _path("Provisioning.Media", "auto", words=("auto",))
# Ours: how long the medium is waited for. The reference gives up after 25 s, and a VM whose DVD is attached late, or
# whose SCSI scan is slow, has failed for good; nobody waits on us meanwhile. docs/timeouts.md has them all.
PROVISIONING_MEDIA_TIMEOUT = _seconds("Provisioning.MediaTimeout", 120)
# Ours: how long each thing that cloud-init makes is waited for. Half an hour, as the reference has it: cloud-init may
# itself wait for the network, the host and the metadata service before it comes to the SSH host keys.
CLOUD_INIT_TIMEOUT = _seconds("Provisioning.CloudInitTimeout", 1800)
# Ours: how long the certificates that ovf-env.xml names keys by are waited for; a new VM's goal state may come first.
CERTIFICATES_TIMEOUT = _seconds("Provisioning.CertificatesTimeout", 60)

# Documented y and ext4, as shipped; n and ext3 in the reference's code.
RESOURCE_DISK_FORMAT = _switch("ResourceDisk.Format", True)
RESOURCE_DISK_FILESYSTEM = _text("ResourceDisk.Filesystem", "ext4")
RESOURCE_DISK_MOUNT_POINT = _path("ResourceDisk.MountPoint", "/mnt/resource")
RESOURCE_DISK_MOUNT_OPTIONS: Option[str | None] = Option("ResourceDisk.MountOptions", "text", None)
RESOURCE_DISK_ENABLE_SWAP = _switch("ResourceDisk.EnableSwap", False)
RESOURCE_DISK_SWAP_SIZE_MIB = _integer("ResourceDisk.SwapSizeMB", 0, 0, 1 << 24)
RESOURCE_DISK_SWAP_ENCRYPTION = _switch("ResourceDisk.EnableSwapEncryption", False)

# Documented; the reference no longer reads it.
LB_PROBE_RESPONDER = _switch("LBProbeResponder", True)

LOGS_VERBOSE = _switch("Logs.Verbose", False)
LOGS_CONSOLE = _switch("Logs.Console", True)
LOGS_COLLECT = _switch("Logs.Collect", True)
LOGS_COLLECT_PERIOD = _seconds("Logs.CollectPeriod", 3600)

ALLOW_HTTP = _switch("OS.AllowHTTP", False)
# Documented y, as shipped but on Debian; n in the reference's code. What is open by default there is a known hole: any
# process fetches the VM's certificates with their keys (CVE-2021-27075). A file that says n keeps its n.
ENABLE_FIREWALL = _switch("OS.EnableFirewall", True)
# Ours: refuse everybody but the supervisor, only log who would be refused, or nothing at all.
FIREWALL_MODE = _text("Firewall.Mode", "enforce", words=("off", "observe", "enforce"))
# How often a rule that the kernel can't watch for us (iptables) is looked at, and one that can't be put in force tried.
ENABLE_FIREWALL_PERIOD = _seconds("OS.EnableFirewallPeriod", 300)
NET_RULES_PERIOD = _seconds("OS.RemovePersistentNetRulesPeriod", 30)
DHCP_RESTART_PERIOD = _seconds("OS.MonitorDhcpClientRestartPeriod", 30)
# Documented as 300, which is what the shipped file says, and "unset: the system's own": so None when it is not set.
SCSI_TIMEOUT: Option[int | None] = Option("OS.RootDeviceScsiTimeout", "integer", None, 1, YEAR_S)
SCSI_TIMEOUT_PERIOD = _seconds("OS.RootDeviceScsiTimeoutPeriod", 30)
ENABLE_FIPS = _switch("OS.EnableFIPS", False)
# Documented None, the system's own openssl; /usr/bin/openssl in the reference's code.
OPENSSL_PATH: Option[str | None] = Option("OS.OpensslPath", "path", None)
SSH_CLIENT_ALIVE_INTERVAL = _integer("OS.SshClientAliveInterval", 180, 0, 86400)
SSH_DIR = _path("OS.SshDir", "/etc/ssh")
HOME_DIR = _path("OS.HomeDir", "/home")
PASSWORD_PATH = _path("OS.PasswordPath", "/etc/shadow")
SUDOERS_DIR = _path("OS.SudoersDir", "/etc/sudoers.d")
ENABLE_RDMA = _switch("OS.EnableRDMA", False)
UPDATE_RDMA_DRIVER = _switch("OS.UpdateRdmaDriver", False)
# The reference reads n where it decides about RDMA at all, and y where it decides about this check alone.
CHECK_RDMA_DRIVER = _switch("OS.CheckRdmaDriver", False)

HTTP_PROXY_HOST: Option[str | None] = Option("HttpProxy.Host", "text", None)
HTTP_PROXY_PORT: Option[int | None] = Option("HttpProxy.Port", "integer", None, 1, 65535)
DETECT_SCVMM = _switch("DetectScvmmEnv", False)
LIB_DIR = _path("Lib.Dir", "/var/lib/waagent")
DVD_MOUNT_POINT = _path("DVD.MountPoint", "/mnt/cdrom/secure")
PID_FILE = _path("Pid.File", "/var/run/waagent.pid")
EXTENSION_LOG_DIR = _path("Extension.LogDir", "/var/log/azure")

AUTO_UPDATE = _switch("AutoUpdate.Enabled", True)
UPDATE_TO_LATEST = _switch("AutoUpdate.UpdateToLatestVersion", True, follows="AutoUpdate.Enabled")
GA_FAMILY = _text("AutoUpdate.GAFamily", "Prod")
AUTO_UPDATE_PERIOD = _seconds("Autoupdate.Frequency", 3600)  # the lower-case u is its name
OVER_PROVISIONING = _switch("EnableOverProvisioning", True)
ENDPOINT_DISCOVERY = _text("Protocol.EndpointDiscovery", "dhcp")
CGROUPS_ENABLED = _switch("CGroups.Enabled", True)
MONITOR_NETWORK_CHANGES = _switch("Monitor.NetworkConfigurationChanges", False)
POLICY_FILE = _path("Policy.PolicyFilePath", "/etc/waagent_policy.json")
# Ours: whether overrides may give what the shipped policy does not (docs/policy-overrides.md).
ALLOW_LOOSENING = _switch("Policy.AllowLoosening", False)
# Ours: below it no worker is started; the levels are those that `ps` shows.
MIN_LEVEL = _text("Policy.MinLevel", "basic", words=("basic", "reduced", "full"))

DEBUG_CGROUP_CHECK_PERIOD = _seconds("Debug.CgroupCheckPeriod", 300)
DEBUG_CGROUP_LOG_METRICS = _switch("Debug.CgroupLogMetrics", False)
DEBUG_CGROUP_PROCESS_CHECK = _switch("Debug.CgroupDisableOnProcessCheckFailure", True)
DEBUG_CGROUP_QUOTA_CHECK = _switch("Debug.CgroupDisableOnQuotaCheckFailure", True)
DEBUG_CPU_QUOTA_PERCENT = _integer("Debug.AgentCpuQuota", 50, 1, 100_000)
DEBUG_CPU_THROTTLED_S = _seconds("Debug.AgentCpuThrottledTimeThreshold", 120)
DEBUG_MEMORY_QUOTA_BYTES = _integer("Debug.AgentMemoryQuota", 31_457_280, 1 << 20, 1 << 40)
DEBUG_MEMORY_CHECK = _switch("Debug.EnableAgentMemoryUsageCheck", False)
DEBUG_FAST_TRACK = _switch("Debug.EnableFastTrack", True)
DEBUG_ETP_PERIOD = _seconds("Debug.EtpCollectionPeriod", 300)
DEBUG_GA_VERSIONING = _switch("Debug.EnableGAVersioning", True)
DEBUG_CGROUP_V2_LIMITS = _switch("Debug.EnableCgroupV2ResourceLimiting", True)
DEBUG_EXTENSION_POLICY = _switch("Debug.EnableExtensionPolicy", False)
DEBUG_SIGNATURES = _switch("Debug.EnableSignatureValidation", False)
DEBUG_RSM_DOWNGRADE = _switch("Debug.EnableRsmDowngrade", False)
DEBUG_HOTFIX_PERIOD = _seconds("Debug.SelfUpdateHotfixFrequency", 14400)
DEBUG_REGULAR_PERIOD = _seconds("Debug.SelfUpdateRegularFrequency", 86400)
DEBUG_FIREWALL_LOG_PERIOD = _seconds("Debug.FirewallRulesLogPeriod", 86400)
DEBUG_COLLECTOR_DELAY = _seconds("Debug.LogCollectorInitialDelay", 300)

# Ours: n: no event is sent, kept or collected; documented in docs/telemetry.md.
TELEMETRY_ENABLED = _switch("Telemetry.Enabled", True)
# Ours: members of this group may ask for `ps` and `version` on the control socket.
CONTROL_GROUP = _text("Control.Group", "agent-supervisor", pattern="[A-Za-z_][A-Za-z0-9_.-]{0,31}")

TABLE: tuple[Option[bool] | Option[int] | Option[str] | Option[int | None] | Option[str | None], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Option)
)
BY_NAME = {option.name: option for option in TABLE}

# What has an effect in this version; a file that sets another option is told so.
IN_EFFECT = frozenset(
    option.name
    for option in (
        ALLOW_HTTP, ALLOW_LOOSENING, ALLOW_RESET_SYS_USER, CERTIFICATES_TIMEOUT, CLOUD_INIT_TIMEOUT, CONTROL_GROUP,
        CUSTOM_DATA_TIMEOUT, DEBUG_EXTENSION_POLICY,
        DEBUG_ETP_PERIOD, DEBUG_FAST_TRACK, DEBUG_GA_VERSIONING, DECODE_CUSTOM_DATA, DELETE_ROOT_PASSWORD,
        ENABLE_FIPS, ENABLE_FIREWALL, ENABLE_FIREWALL_PERIOD, EXECUTE_CUSTOM_DATA, EXTENSIONS_ENABLED,
        EXTENSION_LOG_DIR, FIREWALL_MODE, GA_FAMILY, GOAL_STATE_PERIOD, HOME_DIR, HOST_KEY_TYPE, HTTP_PROXY_HOST,
        HTTP_PROXY_PORT, INITIAL_GOAL_STATE_PERIOD, LIB_DIR, LOGS_CONSOLE, LOGS_VERBOSE, MIN_LEVEL, OPENSSL_PATH,
        OVER_PROVISIONING, PASSWORD_CRYPT_ID, PASSWORD_PATH, PASSWORD_SALT_LENGTH, POLICY_FILE, PROVISIONING_AGENT,
        PROVISIONING_ENABLED, PROVISIONING_MEDIA, PROVISIONING_MEDIA_TIMEOUT, REGENERATE_HOST_KEYS,
        SSH_CLIENT_ALIVE_INTERVAL, SSH_DIR, SUDOERS_DIR, TELEMETRY_ENABLED,
    )
)  # fmt: skip

# Names seen in files of distributions that never meant anything, or no longer do, with what to say about them.
DEAD = {
    "Role.StateConsumer": "it has no effect",
    "Role.ConfigurationConsumer": "it has no effect",
    "Role.TopologyConsumer": "it has no effect",
    "Provisioning.UseCloudInit": "it has no effect; see Provisioning.Agent",
    "CGroups.EnforceLimits": "it has no effect",
    "CGroups.Excluded": "it has no effect",
    "Network.Interface": "it has no effect",
    "OS.SshdConfigPath": "it has no effect; see OS.SshDir",
    "Home.Dir": "it has no effect; the option is called OS.HomeDir",
}
