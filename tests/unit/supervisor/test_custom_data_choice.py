# SPDX-License-Identifier: Apache-2.0
"""What custom data is run, and what is only stored: by its first bytes."""

import gzip

import pytest

from supervisor.custom_data import why_not_run

SCRIPTS = (
    b"#!/bin/sh\n",
    b"#! /usr/bin/env python3\nprint()\n",
    b"#!/bin/sh\nexec tail -c 7 $0\n\0\xff\xfe",
    b"apt-get update\n",
    b"# set things up\ntouch /etc/ready\n",
    "echo Grüße\n".encode(),
    b"\n\necho late\n",
)
DATA = {
    b"": "empty",
    b" \n\t\n": "empty",
    b"#cloud-config\npackages: []\n": "cloud-init",
    b"#Cloud-Config-Archive\n": "cloud-init",
    b"#cloud-boothook\n#!/bin/sh\n": "cloud-init",
    b"#include\nhttp://example/\n": "cloud-init",
    b"#include-once\nhttp://example/\n": "cloud-init",
    b"#part-handler\n": "cloud-init",
    b"## template: jinja\n#cloud-config\n": "cloud-init",
    b'Content-Type: multipart/mixed; boundary="x"\n': "MIME",
    b"MIME-Version: 1.0\n": "MIME",
    b"\x7fELF\x02\x01\x01\0": "binary",
    b"touch /etc/a\0touch /etc/b": "binary",
    b"echo Gr\xfc\xdfe\n": "binary",
    "echo wide\n".encode("utf-16"): "binary",
    gzip.compress(b"#!/bin/sh\n", mtime=0): "binary",
}


@pytest.mark.parametrize("content", SCRIPTS)
def test_scripts_are_run(content: bytes) -> None:
    assert why_not_run(content) == ""


@pytest.mark.parametrize("content", DATA)
def test_data_are_not_run_and_the_reason_is_told(content: bytes) -> None:
    assert DATA[content] in why_not_run(content)
