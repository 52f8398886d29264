#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# PID 1 of the guest of make_udf_images.sh: fills each volume of /dev/vda, or reads what our own writer made; never elsewhere.
b() { /bin/busybox "$@"; }
b mkdir -p /proc /sys /dev /m
b mount -t proc proc /proc
b mount -t sysfs sys /sys
b mount -t devtmpfs dev /dev
while read -r module; do b insmod "/modules/$module"; done </order

# Two files that grow in turns, synced between: their extents alternate.
fill() {
    b cp /payload/ovf-env.xml /payload/short.xml "$1/" &&
        b mkdir "$1/nested" "$1/many" "$1/Größe" "$1/конфигурация" "$1/日本語" || return 1
    b cp /payload/short.xml "$1/日本語/名前.xml" || return 1
    b ln -s ovf-env.xml "$1/link"
    turn=0
    while [ $turn -lt 8 ]; do
        b dd if=/payload/large.xml of="$1/nested/large.xml" bs=4096 skip=$turn seek=$turn count=1 conv=notrunc,fsync 2>/dev/null &&
            b dd if=/payload/large.xml of="$1/nested/other.bin" bs=4096 seek=$turn count=1 conv=notrunc,fsync 2>/dev/null || return 1
        turn=$((turn + 1))
    done
    b dd if=/payload/large.xml of="$1/nested/large.xml" bs=4096 skip=$turn seek=$turn conv=notrunc,fsync 2>/dev/null || return 1
    entry=0
    while [ $entry -lt 60 ]; do
        : >"$1/many/an entry among many others, number $entry" || return 1
        entry=$((entry + 1))
    done
    b rm "$1/many/an entry among many others, number 7" && b cp /payload/ovf-env.xml "$1/many/OVF-env.xml"
}

handle() {
    b dd if=/dev/vda of=/image bs=512 skip="$2" count="$3" 2>/dev/null
    b losetup /dev/loop0 /image
    case $1 in
    ours-*)
        b mount -t udf -o ro,utf8 /dev/loop0 /m && b cmp /m/ovf-env.xml /payload/ovf-env.xml && outcome=read
        b umount /m
        ;;
    *)
        # Linux chooses how a file is stored by these, not by what mkudffs chose for the root.
        case $1 in *-short) more=,shortad,noadinicb ;; *-long) more=,longad,noadinicb ;; *) more= ;; esac
        b mount -t udf -o rw,utf8,noatime$more /dev/loop0 /m && fill /m && outcome=filled
        b umount /m
        b sync
        b losetup -d /dev/loop0
        b dd if=/image of=/dev/vda bs=512 seek="$2" conv=notrunc,fsync 2>/dev/null
        return
        ;;
    esac
    b losetup -d /dev/loop0
}

while read -r name offset count; do
    outcome=failed
    handle "$name" "$offset" "$count"
    echo "image $name $outcome"
done </jobs
b sync
b poweroff -f
