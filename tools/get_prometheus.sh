#!/bin/sh
# Put prometheus and promtool into a folder, unless they are installed already: from Debian's
# package, unpacked without root. Where that can not be done, leave the folder empty.
set -u
target=$1
mkdir -p "$target"
if command -v promtool >/dev/null && command -v prometheus >/dev/null; then
    exit 0
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(
    cd "$work" || exit 0
    apt-get download prometheus >/dev/null 2>&1 ||
        { apt-get update >/dev/null 2>&1 && apt-get download prometheus >/dev/null 2>&1; }
)
for package in "$work"/*.deb; do
    [ -f "$package" ] || continue
    dpkg-deb -x "$package" "$work/unpacked" &&
        cp "$work/unpacked/usr/bin/prometheus" "$work/unpacked/usr/bin/promtool" "$target"
done
exit 0
