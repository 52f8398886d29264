#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes tests/data/udf: volumes of mkudffs, filled by a Linux kernel in a QEMU guest (TCG; about two minutes). Not run by
# tests. Images of our own writer go into the same guest, whose kernel reads them back: what Linux can't write, VAT and
# metadata partitions, is believed only then. Needs: qemu-system-x86 seabios busybox-static cpio kmod udftools xz-utils,
# .venv, and a Debian kernel package: apt-get download linux-image-...-cloud-amd64.
# Usage: tests/fabric/make_udf_images.sh KERNEL.deb   (in the project's root; writes tests/data/udf, a folder of /tmp)
set -eu
[ $# -eq 1 ] && [ -f pyproject.toml ] || { echo "usage: $0 KERNEL.deb, in the project's root" >&2; exit 2; }
out=tests/data/udf
work=$(mktemp -d /tmp/udf-images.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/in" "$work/tree/bin" "$work/tree/modules" "$out"

# --- the volumes: name, MiB, mkudffs's options. Linux writes neither cd nor dvd (read-only), nor blocks over 4096 ----------------------------------------------------------------
volume() {
    name=$1 mib=$2
    shift 2
    truncate -s "${mib}M" "$work/in/$name"
    mkudffs --utf8 --uuid=0123456789abcdef --label=OVF "$@" "$work/in/$name" >/dev/null 2>&1
}
for block in 512 2048 4096; do
    for revision in 1.01 1.02 1.50 2.00 2.01; do
        volume "hd-$revision-$block" 3 -m hd -r $revision -b $block
    done
    volume "dvdram-1.02-$block" 3 -m dvdram -r 1.02 -b $block
    volume "dvdram-2.01-$block" 3 -m dvdram -r 2.01 -b $block
    [ $block = 512 ] || volume "mo-1.50-$block" 3 -m mo -r 1.50 -b $block
    volume "hd-1.02-$block-short" 3 -m hd -r 1.02 -b $block --ad=short
    volume "hd-2.00-$block-long" 3 -m hd -r 2.00 -b $block --ad=long
    volume "hd-2.01-$block-noefe" 3 -m hd -r 2.01 -b $block --noefe
    volume "hd-2.01-$block-mbr" 3 -m hd -r 2.01 -b $block --bootarea=mbr
done
for revision in 1.50 2.00 2.01; do
    volume "cdrw-$revision-2048" 6 -m cdrw -r $revision -b 2048
    volume "dvdrw-$revision-2048" 6 -m dvdrw -r $revision -b 2048
done
volume cdrw-1.50-512 6 -m cdrw -r 1.50 -b 512
volume hd-2.01-1024 3 -m hd -r 2.01 -b 1024

# --- the payload: the same in every image -------------------------------------------------------------------------
.venv/bin/python -m tests.fabric.udf_samples payload "$work/tree/payload"
.venv/bin/python -m tests.fabric.udf_samples ours "$work/in"

# --- the guest: busybox, a few modules, one disk with all images behind one another -----------------------------------
dpkg-deb -x "$1" "$work/kernel"
version=$(ls "$work/kernel/lib/modules")
depmod -b "$work/kernel" "$version"
modprobe -d "$work/kernel" -S "$version" --show-depends -a virtio_pci virtio_blk loop udf |
    awk '/^insmod/ && !seen[$2]++ {print $2}' >"$work/modules"
while read -r module; do
    cp "$module" "$work/tree/modules/"
    basename "$module" >>"$work/tree/order"
done <"$work/modules"
cp /bin/busybox "$work/tree/bin/busybox"
cp tests/fabric/udf_guest.sh "$work/tree/init"
chmod 0755 "$work/tree/init"
offset=0
for image in "$work"/in/*; do
    count=$(($(stat -c %s "$image") / 512))
    echo "$(basename "$image") $offset $count" >>"$work/tree/jobs"
    dd if="$image" of="$work/disk" bs=512 seek=$offset conv=notrunc,sparse status=none
    offset=$((offset + count))
done
truncate -s $(((offset + 2048) * 512)) "$work/disk"
(cd "$work/tree" && find . | cpio -o -H newc --quiet) >"$work/initrd"
qemu-system-x86_64 -accel tcg,thread=multi -M q35 -cpu Nehalem-v1 -smp 2 -m 1024 -nodefaults -display none -no-reboot \
    -serial "file:$work/console" -kernel "$work/kernel/boot/vmlinuz-$version" -initrd "$work/initrd" \
    -append 'console=ttyS0 panic=-1 quiet mitigations=off' -drive "file=$work/disk,if=virtio,format=raw" -nic none
tr -d '\r' <"$work/console" | grep -a '^image ' | tee "$work/said"

# --- back: what was filled or read, compressed ------------------------------------------------------------------------
rm -f "$out"/*.img.xz
while read -r name offset count; do
    grep -q "^image $name \(filled\|read\)\$" "$work/said" || { echo "left out: $name"; continue; }
    dd if="$work/disk" bs=512 skip="$offset" count="$count" status=none | xz -6e >"$out/$name.img.xz"
done <"$work/tree/jobs"
cp "$work"/tree/payload/*.xml "$out/"
{
    echo "Made by tests/fabric/make_udf_images.sh: mkudffs of udftools $(mkudffs --help 2>&1 | sed -n 's/.*udftools //p'), filled by"
    echo "Linux $version. Those called ours-* were written by tests/fabric/udf_writer.py; the same kernel read them, and the"
    echo "bytes agreed. All content is this project's own."
} >"$out/README.md"
du -ch "$out"/* | tail -n 1
