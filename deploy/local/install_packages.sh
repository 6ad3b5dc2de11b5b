#!/bin/sh
# Installs Debian or Ubuntu packages (as root) without starting anything they bring.
#
#   sh install_packages.sh rabbitmq-server
#
# Debian starts a service while it installs it. The embedded stack wants the programs, not the
# machine-wide server, so for the time of the installation a policy-rc.d forbids every start. A policy
# that was there before is put back in every case, and so is the rule for the next boot.
set -eu

policy=/usr/sbin/policy-rc.d
kept=/usr/sbin/policy-rc.d.before-darkroom
marker='darkroom: nothing may start during this installation'

say() { printf '%s\n' "$*"; }

forbid_starts() {
    # A policy with our marker is the rest of a killed run: then the saved one is still the true one.
    if [ -e "$policy" ] && ! grep -q "$marker" "$policy"; then
        mv "$policy" "$kept"
    fi
    printf '#!/bin/sh\n# %s\nexit 101\n' "$marker" >"$policy"
    chmod 0755 "$policy"
}

restore_policy() {
    if [ -e "$kept" ] || [ -L "$kept" ]; then
        mv -f "$kept" "$policy"
    elif [ -e "$policy" ] && grep -q "$marker" "$policy"; then
        rm -f "$policy"
    fi
}

under_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }

running_units() {
    under_systemd || return 0
    for unit in rabbitmq-server.service epmd.service epmd.socket; do
        if systemctl --quiet is-active "$unit"; then say "$unit"; fi
    done
}

running_erlang() {
    for folder in /proc/[0-9]*; do
        [ -r "$folder/comm" ] || continue
        case $(cat "$folder/comm" 2>/dev/null || :) in
            epmd | beam.smp) say "${folder#/proc/}" ;;
        esac
    done
}

listed() { printf '%s\n' "$2" | grep -q -x -F -e "$1"; }

stop_what_started() {
    # The policy covers the normal way in; a maintainer script may still go round it.
    for unit in $(running_units); do
        listed "$unit" "$units_before" || systemctl stop "$unit" || :
    done
    for pid in $(running_erlang); do
        # Only the package's own users: an Erlang program that somebody starts meanwhile is not ours.
        case $(stat -c %U "/proc/$pid" 2>/dev/null || :) in
            rabbitmq | epmd) listed "$pid" "$erlang_before" || kill "$pid" 2>/dev/null || : ;;
        esac
    done
}

keep_off_at_boot() {
    [ -e /etc/init.d/rabbitmq-server ] || [ -e /lib/systemd/system/rabbitmq-server.service ] || return 0
    if command -v update-rc.d >/dev/null 2>&1; then
        update-rc.d rabbitmq-server disable >/dev/null 2>&1 || :
    fi
    if command -v systemctl >/dev/null 2>&1; then
        systemctl disable rabbitmq-server.service epmd.service epmd.socket >/dev/null 2>&1 || :
    fi
    say "The machine-wide RabbitMQ service stays off (to use it anyway: systemctl enable --now rabbitmq-server)."
}

install_them() {
    log=$(mktemp)
    quiet_apt() { DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1; }
    # A fresh machine has no package lists, an old one has stale ones: ask for them only when needed.
    if quiet_apt install --no-install-recommends "$@"; then
        :
    elif quiet_apt update && quiet_apt install --no-install-recommends "$@"; then
        :
    else
        say "apt could not install $*. Its last lines:"
        tail -n 15 "$log"
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

[ "$#" -gt 0 ] || { say "usage: sh install_packages.sh PACKAGE..." >&2; exit 2; }
[ "$(id -u)" = 0 ] || { say "install_packages.sh must run as root: sudo sh $0 $*" >&2; exit 2; }

had_rabbitmq=no
if [ -e /usr/lib/rabbitmq/bin/rabbitmq-server ]; then had_rabbitmq=yes; fi
units_before=$(running_units)
erlang_before=$(running_erlang)

trap restore_policy EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
forbid_starts
install_them "$@"
if [ "$had_rabbitmq" = no ]; then
    stop_what_started
    keep_off_at_boot
fi
