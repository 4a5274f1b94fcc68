# What the scripts beside this one share; each sources it first. They all work from the project's folder.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=$(basename "$0")
target=${CARGO_TARGET_DIR:-target}
missing=()

say() {
    printf '%s: %s\n' "$name" "$*"
}

fail() {
    printf '%s: %s\n' "$name" "$*" >&2
    exit 1
}

# need PACKAGE COMMAND [ARGUMENT...]: notes the Debian package if the command is missing or fails.
need() {
    local package=$1
    shift
    PATH="$PATH:/usr/sbin:/sbin" "$@" >/dev/null 2>&1 || missing+=("$package")
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "cannot run '$*': you are not root, and there is no sudo"
    fi
}

# Installs what `need` has noted. Web servers among the packages are not started: the tests start their own.
install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "missing, and there is no apt-get to install them: ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    (
        # Debian asks this program before it starts a service; 101 forbids it. Somebody else's is left alone; ours is
        # there already if an earlier run was killed.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ] || grep -q forkhorn "$policy"; then
            trap 'as_root rm -f "$policy"' EXIT
            trap 'exit 1' HUP INT TERM
            printf '#!/bin/sh\n# For a moment: forkhorn is installing packages.\nexit 101\n' | as_root tee "$policy" >/dev/null
            as_root chmod 755 "$policy"
        fi
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install --yes --no-install-recommends "${missing[@]}" </dev/null >/dev/null
    )
    missing=()
}

# What it takes to build forkhorn, and to run the example applications and scripts.
need_for_examples() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.88 or newer (https://rustup.rs)"
    need build-essential cc --version
    # Debian's smallest Perl lacks Time::HiRes, with which the scripts measure.
    need perl perl -MTime::HiRes -e 1
    if find_python; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    else
        missing+=(python3 python3-venv)
    fi
}

# Sets `python`: Debian's own interpreter first, since programs that run as another user can read it.
find_python() {
    for python in /usr/bin/python3 python3; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && return 0
    done
    return 1
}

# suffix_if_free_threaded PYTHON: prints how the file of a module for just this interpreter ends. Fails for the others.
suffix_if_free_threaded() {
    "$1" -c 'import sys; from importlib.machinery import EXTENSION_SUFFIXES
"t" in sys.abiflags or sys.exit(1)
print(EXTENSION_SUFFIXES[0])'
}

# ensure_venv WHY REQUIREMENTS...: the packages of these files are in the virtual environment .venv.
ensure_venv() {
    local why=$1 file missing_files=() marks=()
    shift
    find_python || fail "there is no Python 3.10 or newer: neither /usr/bin/python3 nor python3 of PATH is one"
    # An environment without its interpreter (the system has a newer one now, for instance) is made anew.
    .venv/bin/python3 -c '' 2>/dev/null || rm -rf .venv
    for file; do
        local mark
        mark=.venv/forkhorn-$(sha256sum <"$file" | cut -c1-16)
        [ -e "$mark" ] || { missing_files+=("$file"); marks+=("$mark"); }
    done
    if [ ${#missing_files[@]} -gt 0 ]; then
        say "installing Python packages into .venv: $why"
        [ -e .venv ] || "$python" -m venv .venv
        .venv/bin/python3 -m pip install --quiet --disable-pip-version-check --no-input \
            "${missing_files[@]/#/--requirement=}"
        touch "${marks[@]}"
    fi
}
