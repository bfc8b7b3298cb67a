#!/usr/bin/env bash
# Installs the engines that mnc is compared with, and makes their models: setup.sh DIR
#
# DIR gets about 9 GB: v (virtual environment with the engines), tf (another one, which only makes TFLite models), target (mnc,
# tract and rten), m (models). Run again, it installs what has changed, and makes the models anew.
# CARGO_FLAGS in the environment are handed to cargo build.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: setup.sh DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/m"
dir=$(cd "$1" && pwd)
export PYTHONDONTWRITEBYTECODE=1

for tool in cargo python3; do
  command -v "$tool" >/dev/null || { echo "setup.sh: $tool is missing" >&2; exit 1; }
done

# environment NAME REQUIREMENTS: makes it once; the copy of the requirements in it says that it is whole.
environment() {
  if ! cmp -s "$here/$2" "$dir/$1/requirements.txt"; then
    echo "installing $2"
    [ -x "$dir/$1/bin/python" ] || python3 -m venv "$dir/$1"
    "$dir/$1/bin/pip" install -q --disable-pip-version-check -r "$here/$2"
    cp "$here/$2" "$dir/$1/requirements.txt"
  fi
}
environment v requirements.txt
environment tf requirements-tflite.txt

echo "building mnc, tract and rten"
# One after the other: built together they would share their dependencies' features, and mnc would not be what users build.
for package in mnc-peer rust-peers; do
  # shellcheck disable=SC2086 # CARGO_FLAGS may hold several
  cargo build --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$dir/target" -p $package ${CARGO_FLAGS:-}
done

echo "writing models"
"$dir/target/release/mnc-peer" export "$dir/m"
"$dir/v/bin/python" "$here/onnx_models.py" "$dir/m"
"$dir/tf/bin/python" "$here/tflite_models.py" "$dir/m" 2>"$dir/m/tflite.log" ||
  { tail -n 5 "$dir/m/tflite.log" >&2; echo "setup.sh: no TFLite models; LiteRT will refuse" >&2; }

# pnnx leaves files beside the model.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for model in "$dir"/m/*.onnx; do
  net=$(basename "$model" .onnx)
  cp "$model" "$scratch/net.onnx"
  (
    cd "$scratch"
    "$dir/v/bin/mnnconvert" -f ONNX --modelFile net.onnx --MNNModel "$dir/m/$net.mnn" --bizCode mnc >mnn.log 2>&1 ||
      { tail -n 3 mnn.log; echo "setup.sh: MNN's converter fails for $net; MNN will refuse"; } >&2
    "$dir/v/bin/pnnx" net.onnx fp16=0 ncnnparam="$dir/m/$net.ncnn.param" ncnnbin="$dir/m/$net.ncnn.bin" >pnnx.log 2>&1 ||
      { tail -n 3 pnnx.log; echo "setup.sh: pnnx fails for $net; ncnn will refuse"; } >&2
  )
done
echo "done: $dir/v/bin/python $here/compare.py $dir"
