#!/bin/sh
# Install trtserve's wheel into a new virtual environment, and leave out what does not serve.
#
#   install.sh WHEEL EXTRA TARGET [venv options]
#
# The Dockerfiles run this, and so does tools/image_size.py, which measures what it makes. pip
# stays outside of the environment: a server needs none.
set -eu
wheel=$1
extra=$2
target=$3
shift 3
python=${PYTHON:-python3}

"$python" -m venv --without-pip "$@" "$target"
"$python" -m pip --python "$target/bin/python" install \
    --no-cache-dir --no-compile --disable-pip-version-check --root-user-action ignore --quiet \
    "$wheel[$extra]"

# Tests of other packages, sources, headers and stubs for type checkers.
site=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
find "$site" -type d -name tests -prune -exec rm -rf {} +
rm -rf "$site/numpy/_core/include" "$site/numpy/f2py"
find "$site" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' \
    -o -name '*.h' -o -name '*.a' -o -name '*.lib' \) -delete
# ONNX Runtime's tools for making models; trtserve runs them only.
rm -rf "$site/onnxruntime/transformers" "$site/onnxruntime/tools" \
    "$site/onnxruntime/quantization" "$site/onnxruntime/datasets" "$site/onnxruntime/backend"
# It is in the module for Python once more; as a library of its own it is for C++ programs. The
# build for CUDA keeps it.
if [ "$extra" = cpu ]; then
    rm -f "$site"/onnxruntime/capi/libonnxruntime.so*
fi
# Our own tests' fakes.
rm -rf "$site/trtserve/testing"
# Some packages come with the symbols that debuggers want. Not NumPy's libraries: what made them
# moved their parts about, and they would not load any more.
if command -v strip >/dev/null; then
    find "$site" -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
fi
rm -rf "$target/share" "$target/include"

# The root file system is read-only when it runs, so this is the time to compile: a start would
# else take a second longer each time. By hash: times of files differ between layers.
"$target/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$site"
