#!/usr/bin/env bash
# Builds the fuzz targets as cargo-fuzz would, with stable Rust, and runs one of them. See README.md.
#   ./run.sh build              all targets
#   ./run.sh TARGET [SECONDS]   fuzz (60 s), starting from seeds/TARGET; new inputs go to corpus/TARGET
#   ./run.sh merge TARGET       put the least part of corpus/TARGET that covers as much into seeds/TARGET
set -euo pipefail
cd "$(dirname "$0")"
triple=$(rustc -vV | sed -n 's/^host: //p')

build() {
    # Sanitizers are not stable: RUSTC_BOOTSTRAP lets a stable rustc, which brings their runtime, take the flag.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
        cargo build --release --locked --target "$triple" "$@"
}

# Large enough for what each target reads, small enough to be fast.
max_len() {
    case $1 in
        planner | engines) echo 300 ;;
        picture) echo 4096 ;;
        *) echo 8192 ;;
    esac
}

target() {
    echo "target/$triple/release/$1"
}

# Temporary files are written by the thousand a second.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
    export TMPDIR=/dev/shm
fi
# The leak checker looks at the whole heap after every input; the JIT's own memory is not its business either.
export ASAN_OPTIONS=detect_leaks=0

case ${1:-} in
    build) build ;;
    merge)
        mkdir -p "corpus/$2" "merged/$2"
        "$(target "$2")" -merge=1 -timeout=10 "merged/$2" "seeds/$2" "corpus/$2"
        rm -r "seeds/$2"
        mv "merged/$2" "seeds/$2"
        rmdir merged
        ;;
    "")
        sed -n '3,5s/^# *//p' "$0" >&2
        exit 2
        ;;
    *)
        build --bin "$1"
        mkdir -p "corpus/$1" artifacts
        "$(target "$1")" -max_total_time="${2:-60}" -max_len="$(max_len "$1")" -timeout=20 -rss_limit_mb=2048 \
            -malloc_limit_mb=1024 -artifact_prefix="artifacts/$1-" -print_final_stats=1 "corpus/$1" "seeds/$1"
        ;;
esac
