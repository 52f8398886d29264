# SPDX-License-Identifier: Apache-2.0
"""The OVF, settings and account facts that the provisioning tests vary."""

from ipc.messages import AccountFacts, Ovf, ProvisioningOptions, PublicKey
from ipc.secret import Secret

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9k me@home"
KEY_PATH = "/home/azureuser/.ssh/authorized_keys"
KEY = PublicKey(KEY_PATH, "AB12", f"{ED25519}\n")
OVF = Ovf(
    version="1.0",
    host_name="vm1",
    user_name="azureuser",
    password=None,
    disable_ssh_password_authentication=True,
    public_keys=(KEY,),
    key_pairs=(),
    provision_guest_agent=True,
    has_custom_data=False,
)
OPTIONS = ProvisioningOptions(
    password_crypt_id="6",
    password_salt_length=10,
    password_salt="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789xy",
    allow_reset_sys_user=False,
    delete_root_password=True,
    decode_custom_data=True,
    home_dir="/home",
    ssh_client_alive_interval=180,
)
NOBODY = AccountFacts(exists=False, uid=0, gid=0, home="", uid_min=1000)
CORE = AccountFacts(exists=True, uid=500, gid=500, home="/var/home/core", uid_min=1000)
PASSWORD = Secret("correct horse: battery'staple")
