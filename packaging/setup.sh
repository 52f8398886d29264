#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes this clone able to run: system packages (as root, only the missing ones), .venv, the compiled policy.
# Touches nothing else; run again it only looks, in well under a second. Started by `make setup` in the project's root.
set -eu

# To build and run the agent.
NEEDED="gcc libc6-dev libcap-dev libseccomp2 ca-certificates"
# For provisioning, the tests and the demo: what the agent calls, and what makes the emulated machine.
WANTED="openssh-client openssl sudo passwd iproute2 util-linux mount procps systemd udftools genisoimage
    dbus nftables iptables"

log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

missing_of() {
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
    done
}

# Runs a command with its output kept back; shown only if it fails.
quietly() {
    "$@" >"$log" 2>&1 </dev/null || { tail -n 30 "$log" >&2; return 1; }
}

# A fresh cloud image may be busy with its own upgrades: wait for the lock.
apt_get() {
    quietly env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

install() {
    say "installing: $*"
    # The lists may be absent (a fresh image) or stale (an old one): try, refresh, try again.
    apt_get install "$@" 2>/dev/null || { apt_get update && apt_get install "$@"; } || die "apt-get could not install: $*"
    # The demo lists them: they are what a machine keeps of it.
    printf '%s\n' "$@" >>.installed-packages
}

pip() { quietly .venv/bin/python -I -m pip --disable-pip-version-check --no-input "$@" || die "pip failed: pip $*"; }

packages() {
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "not a Debian or Ubuntu: the system packages are yours to install ($NEEDED $WANTED)"
        return
    fi
    # shellcheck disable=SC2086 # lists of words on purpose
    missing=$(missing_of $NEEDED $WANTED)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ]; then
        # shellcheck disable=SC2086
        install $missing
        return
    fi
    say "not root, so these stay missing:  apt-get install $missing"
    # shellcheck disable=SC2086
    [ -x .venv/bin/python ] || [ -z "$(missing_of $NEEDED)" ] || die "without $(missing_of $NEEDED)nothing can be built"
}

fits() { "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

pick_python() {
    # The system's interpreters first: a worker without privileges can read those.
    for candidate in /usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 python3; do
        if fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

python_packages() {
    # Headers and ensurepip of the interpreter picked; one that is not the system's brings its own.
    case $1 in /usr/bin/*) ;; *) return 0 ;; esac
    command -v dpkg-query >/dev/null 2>&1 || return 0
    version=$("$1" -I -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    missing=$(missing_of "$version-venv" "$version-dev")
    [ -n "$missing" ] || return 0
    [ "$(id -u)" -eq 0 ] || die "not root, and the virtual environment needs:  apt-get install $missing"
    # shellcheck disable=SC2086
    install $missing
}

environment() {
    wanted="$(pwd) $(sha256sum pyproject.toml packaging/setup.sh | cut -c 1-64 | tr '\n' ' ')"
    if [ -x .venv/bin/agent-supervisor ] && .venv/bin/python -I -c '' 2>/dev/null \
            && [ "$(cat .venv/.setup 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! { [ -x .venv/bin/python ] && fits .venv/bin/python && .venv/bin/python -I -m pip --version >/dev/null 2>&1; }; then
        python=$(pick_python) || {
            [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 || die "no Python from 3.11 on found"
            install python3.11
            python=$(pick_python) || die "no Python from 3.11 on found"
        }
        python_packages "$python"
        say "making .venv with $python"
        rm -rf .venv
        "$python" -I -m venv .venv
    fi
    say "installing the Python packages"
    pip install --upgrade 'pip>=23.1'
    # compat: one plain .pth line. The default puts an import hook into every process, workers included;
    # so does the setuptools that older Pythons put into a new environment.
    pip install --config-settings editable_mode=compat -e '.[dev]'
    pip uninstall -y setuptools
    rm -rf ./*.egg-info/ build
    launcher
    printf '%s' "$wanted" >.venv/.setup
}

launcher() {
    # -I: neither the current folder nor PYTHON* variables decide what root runs.
    cat >.venv/bin/agent-supervisor <<EOF
#!/bin/sh
exec '$(pwd)/.venv/bin/python' -I -m supervisor "\$@"
EOF
    chmod 0755 .venv/bin/agent-supervisor
}

policy() {
    if [ ! -e policy/compiled.bin ] || [ -n "$(find policy ipc .venv/.setup -newer policy/compiled.bin \
            \( -name '*.toml' -o -name '*.py' -o -name .setup \) -print 2>/dev/null | head -n 1)" ]; then
        say "compiling the policy"
        .venv/bin/python -I -m policy.compile
    fi
}

# sshd judges what the agent writes for it, in the tests. Unpacked, not installed: nothing is to listen on this machine.
# Without it those tests fail.
sshd_apart() {
    ! [ -x .venv/sshd/usr/sbin/sshd ] && ! [ -x /usr/sbin/sshd ] || return 0
    [ "$(id -u)" -eq 0 ] && command -v dpkg-query >/dev/null 2>&1 || return 0
    say "unpacking sshd for the tests (it is not installed)"
    [ -z "$(missing_of libwrap0)" ] || install libwrap0
    mkdir -p .venv/sshd
    if (cd .venv/sshd && { quietly apt-get download openssh-server \
            || { apt_get update && quietly apt-get download openssh-server; }; }); then
        dpkg-deb --fsys-tarfile .venv/sshd/openssh-server_*.deb | tar -x --no-same-owner -C .venv/sshd ./usr/sbin/sshd
        rm -f .venv/sshd/*.deb
    else
        say "the tests that ask a real sshd will fail: openssh-server can't be downloaded"
    fi
}

# Byte code beside the sources: every start of the agent would compile them anew where nothing may be written.
byte_code() {
    .venv/bin/python -I -m compileall -q ipc policy supervisor workers || die "the sources do not compile"
}

known_to_apt() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'; }

download() (cd .venv/other-agent && quietly apt-get download "$@")

python_needs() { apt-cache depends "$1" | sed -n 's/.*Depends: \(python3-[a-z0-9.-]*\)$/\1/p'; }

# The distribution's own agent, for the tests that provision it against the emulated host: unpacked beside .venv's tools,
# never installed, so that the machine gets no service of it. Without it those tests fail and name the reason noted here.
other_agent() {
    ! [ -e .venv/other-agent/PACKAGE ] && command -v apt-get >/dev/null 2>&1 || return 0
    rm -rf .venv/other-agent
    mkdir -p .venv/other-agent/unpacked
    [ "$(id -u)" -ne 0 ] || known_to_apt waagent || known_to_apt walinuxagent || apt_get update || :
    # Debian's name, then Ubuntu's.
    for package in waagent walinuxagent; do known_to_apt "$package" && break || package=; done
    reason="apt knows neither waagent nor walinuxagent"
    if [ -n "$package" ]; then
        # What it imports comes along, at the version that fits it.
        beside=$(for one in $(python_needs "$package"); do printf '%s ' "$one" $(python_needs "$one"); done)
        reason="apt-get could not download $package (is there a network?)"
        say "fetching the package $package for the tests (it is not installed)"
        # shellcheck disable=SC2086
        if download "$package" $beside || { [ "$(id -u)" -eq 0 ] && apt_get update && download "$package" $beside; }; then
            for archive in .venv/other-agent/*.deb; do dpkg-deb -x "$archive" .venv/other-agent/unpacked; done
            version=$(dpkg-deb -f .venv/other-agent/"$package"_*.deb Version)
            rm -f .venv/other-agent/*.deb .venv/other-agent/REASON
            printf '%s %s\n' "$package" "$version" >.venv/other-agent/PACKAGE
            return 0
        fi
    fi
    printf '%s\n' "$reason" >.venv/other-agent/REASON
    say "the tests against the distribution's own agent will fail: $reason"
}

# firewalld, which the rule in front of the WireServer has to survive: unpacked for the tests' machines, never installed.
# Without it those tests fail.
firewalld_apart() {
    ! [ -e .venv/firewalld/PACKAGE ] && command -v apt-get >/dev/null 2>&1 || return 0
    rm -rf .venv/firewalld
    mkdir -p .venv/firewalld/unpacked
    say "unpacking firewalld for the tests (it is not installed)"
    beside="python3-firewall python3-nftables python3-dbus python3-gi gir1.2-glib-2.0 libgirepository-1.0-1 gir1.2-nm-1.0 libnm0"
    # shellcheck disable=SC2086
    if (cd .venv/firewalld && { quietly apt-get download firewalld $beside \
            || { [ "$(id -u)" -eq 0 ] && apt_get update && quietly apt-get download firewalld $beside; }; }); then
        for archive in .venv/firewalld/*.deb; do dpkg-deb -x "$archive" .venv/firewalld/unpacked; done
        dpkg-deb -f .venv/firewalld/firewalld_*.deb Version >.venv/firewalld/PACKAGE
        rm -f .venv/firewalld/*.deb
    else
        say "the tests beside firewalld will fail: it can't be downloaded"
    fi
}

[ -f pyproject.toml ] || die "run me from the project's root (make setup)"
packages
environment
sshd_apart
policy
byte_code
other_agent
firewalld_apart
