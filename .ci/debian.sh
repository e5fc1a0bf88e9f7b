#!/usr/bin/env bash
# Debian packages whose programs the tests run: Prometheus, Alertmanager, HAProxy, a terminal for `embedkit top`, what
# judges the systemd unit and its firewall, nix, a false clock. Installs them if it may, and else says what to install.
# Nothing that comes with them is left running.
set -euo pipefail

# program=package
NEEDED=(
    promtool=prometheus amtool=prometheus-alertmanager haproxy=haproxy tmux=tmux openssl=openssl curl=curl
    systemd-analyze=systemd nft=nftables ip=iproute2 nix=nix-bin shellcheck=shellcheck readelf=binutils
    gcc=gcc
)

missing=()
for each in "${NEEDED[@]}"; do
    command -v "${each%%=*}" >/dev/null || missing+=("${each#*=}")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "ci: install ${missing[*]}, as root on Debian: apt-get install -y ${missing[*]}" >&2
    exit 1
fi

# Debian asks this script before it starts a service on installation: 101 means no. One that is there is respected.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
