# Sourced by the scripts beside it: makes the environments they need, from the public package registries only.
# A stamp of the files that decide what is installed lets a second run reuse it.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "Sonar needs Python 3.11 or newer: install it, or name it with PYTHON=/path/to/python3" >&2
    return 1
}

# make_env DIRECTORY STAMP_FILES... -- PIP_ARGUMENTS...
make_env() {
    local directory=$1 files=() stamp python
    shift
    while [ "$1" != "--" ]; do files+=("$1"); shift; done
    shift
    stamp=$( (cat "${files[@]}"; printf '%s\n' "$PWD" "$@") | cksum)
    [ "$(cat "$directory/.installed" 2>/dev/null)" = "$stamp" ] && return
    python=$(find_python) || return 1
    echo "installing into $directory (once; about a minute)" >&2
    rm -f "$directory/.installed"
    "$python" -m venv "$directory" || return 1
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@" || return 1
    printf '%s\n' "$stamp" >"$directory/.installed"
}

# Sonar itself, in place; made again when what the native engine is built from has changed.
make_sonar_env() {
    make_env .venv constraints.txt pyproject.toml setup.py sonar/syft/engines/src/* -- \
        -c constraints.txt -e '.[devnet,test]'
}

has_node() {
    command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 &&
        node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'
}

make_node_modules() {
    local stamp
    stamp=$(cksum <package-lock.json)
    [ "$(cat node_modules/.installed 2>/dev/null)" = "$stamp" ] && return
    echo "installing the npm packages (once; a few seconds)" >&2
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || return 1
    printf '%s\n' "$stamp" >node_modules/.installed
}
