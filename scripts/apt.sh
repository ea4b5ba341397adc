# Sourced. `install PACKAGE…` installs from the distribution, as root or by sudo.
install() {
    echo "setup: apt-get install $*"
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
    log=$(mktemp)
    if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "setup: could not install $*" >&2
        exit 3
    fi
    rm -f "$log"
}
