#!/usr/bin/env bash
# Prints the version of each tool that the shells offer; fails when one is missing or is not what the kit is pinned to.
#   tools.sh JAVA_HOME
set -euo pipefail

is() { # WANTED COMMAND…: what the command prints has to contain it
    local wanted=$1 said
    shift
    said=$("$@" 2>&1) || {
        echo "$* failed: $said" >&2
        return 1
    }
    said=${said%%$'\n'*}
    if [[ "$said" != *"$wanted"* ]]; then
        echo "$* says \"$said\", wanted is \"$wanted\"" >&2
        return 1
    fi
    echo "$1: $said"
}

is 'version "11.' "$1/bin/java" -XX:-UsePerfData -version
is 'Python 3.11.' python3.11 --version
is 'uv ' uv --version
is 'HAProxy version' haproxy -v
is 'prometheus, version' prometheus --version
is 'promtool, version' promtool --version
is 'alertmanager, version' alertmanager --version
is 'GNU Make' make --version
is 'git version' git --version
is 'grafana' grafana --version
