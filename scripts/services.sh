#!/bin/sh
# Installs the servers, browser and Node.js that the tests talk to, where the machine lacks them.
set -eu
cd "$(dirname "$0")/.."
. scripts/apt.sh
PATH=$PATH:/usr/sbin:/sbin

missing=""
need() { # PACKAGE COMMAND…: any one of the commands will do
    package=$1
    shift
    for command in "$@"; do
        if command -v "$command" >/dev/null; then return; fi
    done
    missing="$missing $package"
}
need mosquitto mosquitto
need mosquitto-clients mosquitto_sub
need mariadb-server mariadbd
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || need postgresql postgres # Debian keeps it out of the path
need chromium chromium chromium-browser google-chrome
need nodejs node
need npm npm

if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    install $missing
    # The tests start their own. What apt-get has just started would only hold the ports that `make run` wants.
    if [ -d /run/systemd/system ]; then
        case "$missing " in *" mosquitto "*) $as_root systemctl disable --quiet --now mosquitto || true ;; esac
        case "$missing " in *" mariadb-server "*) $as_root systemctl disable --quiet --now mariadb || true ;; esac
        case "$missing " in *" postgresql "*) $as_root systemctl disable --quiet --now postgresql || true ;; esac
    fi
fi
