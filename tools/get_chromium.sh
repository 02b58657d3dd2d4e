#!/bin/sh
# Put a headless Chromium into a folder, unless one is installed already: Debian's package with
# what it needs, unpacked without root. Where that can not be done, leave the folder empty.
set -u
target=$1
home=$(pwd)
mkdir -p "$target"
for name in chromium chromium-browser google-chrome chrome; do
    command -v "$name" >/dev/null && exit 0
done
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 0
# Everything that is not installed yet; apt says which that is without installing any.
wanted() {
    apt-get install --simulate --no-install-recommends chromium-headless-shell 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\).*/\1/p'
}
packages=$(wanted)
[ -n "$packages" ] || { apt-get update >/dev/null 2>&1; packages=$(wanted); }
[ -n "$packages" ] || exit 0
# Its data has to lie beside it, also where that part is installed.
packages=$(printf '%s\n' $packages chromium-common | sort -u)
apt-get download $packages >/dev/null 2>&1 || exit 0
for package in "$work"/*.deb; do
    dpkg-deb -x "$package" "$work/unpacked" || exit 0
done
shell=usr/lib/chromium/chromium-headless-shell
[ -x "$work/unpacked/$shell" ] || exit 0
cd "$home" || exit 0
rm -rf "$target/chromium-files"
mv "$work/unpacked" "$target/chromium-files"
cat >"$target/chromium" <<END
#!/bin/sh
files=\$(dirname "\$(readlink -f "\$0")")/chromium-files
machine=\$(uname -m)-linux-gnu
export LD_LIBRARY_PATH="\$files/usr/lib/\$machine:\$files/lib/\$machine"
exec "\$files/$shell" "\$@"
END
chmod +x "$target/chromium"
# A library may be missing all the same: then there is none, and the tests say so.
"$target/chromium" --no-sandbox --dump-dom about:blank >/dev/null 2>&1 ||
    rm -rf "$target/chromium" "$target/chromium-files"
exit 0
