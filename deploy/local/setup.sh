#!/bin/sh
# Installs what Darkroom needs and this machine lacks: the Python packages of requirements.lock into
# .venv, and the programs of rabbitmq-server. Starts nothing. Repeating it costs a fraction of a second.
#
#   sh deploy/local/setup.sh            everything
#   sh deploy/local/setup.sh python     only .venv
#   sh deploy/local/setup.sh rabbitmq   only rabbitmq-server (not needed when AMQP_URL is set)
#   sh deploy/local/setup.sh exiftool   exiftool, where that can be: nothing but tests wants it
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/.venv
lock=$root/requirements.lock
stamp=$venv/.darkroom-installed

say() { printf '%s\n' "$*"; }
fail() { printf '\n%s\n' "$*" >&2; exit 1; }

is_root() { [ "$(id -u)" = 0 ]; }
may_sudo() { command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; }
has() { command -v "$1" >/dev/null 2>&1; }

# --- packages of the system ---------------------------------------------------------------------

apt_install() {
    if is_root; then
        sh "$here/install_packages.sh" "$@"
    else
        sudo -n sh "$here/install_packages.sh" "$@"
    fi
}

may_apt() { has apt-get && { is_root || may_sudo; }; }

# --- Python ---------------------------------------------------------------------------------------

right_python() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 python /usr/bin/python3; do
        if has "$name" && right_python "$name"; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

require_python() {
    if python=$(find_python); then return 0; fi
    if may_apt; then
        say "Python 3.11 or newer is missing: installing python3 and python3-venv ..."
        apt_install python3 python3-venv || :
        if python=$(find_python); then return 0; fi
    fi
    fail "Darkroom needs Python 3.11 or newer, and none was found on PATH.
Install it, then repeat the command:
    Debian 12+, Ubuntu 24.04+:  sudo apt-get install python3 python3-venv
    Ubuntu 22.04:               sudo apt-get install python3.11 python3.11-venv
    macOS:                      brew install python@3.13"
}

make_venv() {
    if "$venv/bin/python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1 &&
        "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    require_python
    say "Making .venv with $("$python" --version) ..."
    rm -rf "$venv"
    if "$python" -m venv "$venv" >/dev/null 2>&1; then return 0; fi
    # Debian ships Python without the part that puts pip into an environment.
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if may_apt; then
        say "This Python lacks ensurepip: installing python$version-venv ..."
        apt_install "python$version-venv"
        rm -rf "$venv"
        "$python" -m venv "$venv" && return 0
    fi
    fail "$python cannot make a virtual environment (ensurepip is missing). Install it, then repeat:
    sudo apt-get install python$version-venv"
}

lock_hash() { cksum <"$lock" | tr ' ' '-'; }

watch_pip() {
    # pip's own output is for pip's authors; a person wants to know that it moves.
    waited=0
    while kill -0 "$1" 2>/dev/null; do
        sleep 1
        waited=$((waited + 1))
        if [ $((waited % 5)) = 0 ]; then
            if grep -q '^Installing collected' "$2"; then
                say "  unpacking (${waited} s)"
            else
                say "  $(grep -c '^Collecting' "$2" || :) of $3 packages fetched (${waited} s)"
            fi
        fi
    done
}

install_python_packages() {
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(lock_hash)" ] && [ -x "$venv/bin/python" ] &&
        "$venv/bin/python" -c '' >/dev/null 2>&1; then
        return 0
    fi
    make_venv
    count=$(grep -c '^[A-Za-z0-9]' "$lock")
    say "Installing up to $count Python packages into .venv, each checked against its hash in requirements.lock ..."
    log=$venv/setup.log
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        --require-hashes -r "$lock" >"$log" 2>&1 &
    pip=$!
    trap 'kill "$pip" 2>/dev/null || :' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    watch_pip "$pip" "$log" "$count"
    if ! wait "$pip"; then
        tail -n 15 "$log" >&2
        fail "The Python packages could not be installed (above: the end of $log).
A package index must be reachable with pip's usual settings. Repeat: make setup"
    fi
    trap - EXIT INT TERM
    lock_hash >"$stamp"
    say "Python packages are installed."
}

# --- RabbitMQ ---------------------------------------------------------------------------------------

has_rabbitmq() {
    # By file, since an ordinary user's PATH leaves out sbin. Never by running rabbitmq-server, whose
    # --version starts a server.
    for folder in /usr/lib/rabbitmq/bin /opt/homebrew/opt/rabbitmq/sbin /usr/local/opt/rabbitmq/sbin; do
        if [ -x "$folder/rabbitmq-server" ]; then return 0; fi
    done
    has rabbitmq-server
}

install_rabbitmq() {
    if [ -n "${AMQP_URL:-}" ] || has_rabbitmq; then return 0; fi
    say "RabbitMQ is missing: installing rabbitmq-server (its own service will not be started) ..."
    if may_apt; then
        apt_install rabbitmq-server || fail "RabbitMQ could not be installed (above: why)."
    elif has brew; then
        HOMEBREW_NO_AUTO_UPDATE=1 brew install --quiet rabbitmq || fail "brew could not install rabbitmq."
    elif has apt-get; then
        fail "RabbitMQ is not installed, and this user may not install it. Run this once:
    sudo sh $here/install_packages.sh rabbitmq-server
then repeat the command. To use a broker of your own instead, set AMQP_URL=amqp://user:password@host:5672/%2F"
    else
        fail "RabbitMQ 3.10 or newer is not installed, and this machine has neither apt nor brew.
Install the package rabbitmq-server with your package manager (it need not be started), then repeat the command.
To use a broker of your own instead, set AMQP_URL=amqp://user:password@host:5672/%2F"
    fi
    has_rabbitmq || fail "rabbitmq-server was installed but is not where it was expected (on PATH or /usr/lib/rabbitmq/bin)."
    say "RabbitMQ is installed."
}

# --- a second opinion ---------------------------------------------------------------------------------

install_exiftool() {
    if has exiftool; then return 0; fi
    say "Installing exiftool, by which tests read what generated images say of themselves ..."
    if may_apt; then
        apt_install libimage-exiftool-perl || :
    elif has brew; then
        HOMEBREW_NO_AUTO_UPDATE=1 brew install --quiet exiftool || :
    fi
    has exiftool || say "exiftool could not be installed; the tests go on without it, and read the images by Pillow alone."
}

case ${1:-all} in
    python) install_python_packages ;;
    rabbitmq) install_rabbitmq ;;
    exiftool) install_exiftool ;;
    all)
        install_python_packages
        install_rabbitmq
        ;;
    *) fail "usage: sh deploy/local/setup.sh [python|rabbitmq|exiftool]" ;;
esac
