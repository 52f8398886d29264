#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes tests/data/iso: the same folder by xorriso and makefs (NetBSD's), beside the genisoimage that tests run themselves.
# Not run by tests. Needs: xorriso makefs xz-utils. Usage: tests/fabric/make_iso_images.sh, in the project's root.
set -eu
[ -f tests/data/udf/ovf-env.xml ] || { echo "usage: $0, in the project's root" >&2; exit 2; }
out=tests/data/iso
work=$(mktemp -d /tmp/iso-images.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/in/deeper/deeper" "$work/in/Größe"
cp tests/data/udf/ovf-env.xml "$work/in/ovf-env.xml"
echo 'the wrong one' >"$work/in/deeper/deeper/ovf-env.xml"
ln -s ovf-env.xml "$work/in/link"
find "$work/in" -exec touch -h -d 2024-01-02T03:04:05Z {} +
rm -f "$out"/*.iso.xz

by_xorriso() {
    name=$1
    shift
    xorriso -report_about FATAL -as mkisofs -quiet "$@" -o "$work/$name" "$work/in"
    xz -6e <"$work/$name" >"$out/$name.iso.xz"
}
by_xorriso xorriso-plain
by_xorriso xorriso-rock-ridge -R
by_xorriso xorriso-joliet -J
by_xorriso xorriso-both -J -R -V 'OVF ENVIRONMENT'
by_xorriso xorriso-iso-level-4 -iso-level 4 -allow-lowercase
by_xorriso xorriso-1999 -J -R -iso-level 3 -iso-level 4
by_xorriso xorriso-mbr-in-front -J -R -partition_offset 16 -append_partition 2 0x83 tests/data/udf/ovf-env.xml

makefs -t cd9660 -o rockridge,label=OVF "$work/rock" "$work/in" && xz -6e <"$work/rock" >"$out/makefs-rock-ridge.iso.xz"
# Its link and the file have one extent and two lengths here: each entry is to be believed for itself.
makefs -t cd9660 "$work/plain" "$work/in" && xz -6e <"$work/plain" >"$out/makefs-plain.iso.xz"
du -ch "$out"/* | tail -n 1
