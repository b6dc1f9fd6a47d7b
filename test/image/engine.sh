# Sourced by the scripts beside it, with $work as the folder that keeps things between runs: podman as they use it, and
# the images, for which no registry is asked. The base that the Dockerfile takes from one is made here from Debian and
# the Node of node_modules.
say() { printf '\n== %s\n' "$*"; }
for tool in podman buildah runc debootstrap; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed; apt-get install podman buildah runc netavark aardvark-dns catatonit debootstrap"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo 'skipped: not root, which debootstrap and the pods of this test need'; exit 0; }

# A container engine in a container has neither these limits nor a system's cgroups to give.
export CONTAINERS_CONF="$work/containers.conf"
printf '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n[network]\nnetwork_backend = "netavark"\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' > "$CONTAINERS_CONF"
export BUILDAH_ISOLATION=chroot
base=localhost/node:24-bookworm
engine() { podman "$@"; }

make_base() {
  engine image exists "$base" && return
  say 'the base image'
  [ -x "$work/rootfs/usr/bin/nft" ] || [ -x "$work/rootfs/usr/sbin/nft" ] ||
    debootstrap --variant=minbase --include=libstdc++6,nftables,ca-certificates bookworm "$work/rootfs" > "$work/debootstrap.log"
  npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
  install -m 755 "$(readlink -f node_modules/node-linux-*/bin/node)" "$work/rootfs/usr/local/bin/node"
  mkdir -p "$work/rootfs/usr/local/lib/node_modules"
  cp -rL "$npm" "$work/rootfs/usr/local/lib/node_modules/npm"
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$work/rootfs/usr/local/bin/npm"
  # A network with an authority of its own: what this machine trusts is trusted while the images are built.
  cp -L /etc/ssl/certs/ca-certificates.crt "$work/rootfs/etc/ssl/certs/ca-certificates.crt"
  tar -C "$work/rootfs" -c . |
    engine import --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' \
      --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$base"
}

# make_image TARGET [TAG …]: the first tag is localhost/outrigger[-TARGET]:test.
make_image() {
  local target=$1 name=outrigger
  [ "$target" = outrigger ] || name=outrigger-$target
  engine build --quiet --network=host --build-arg NODE_IMAGE="$base" $(node_modules/.bin/node scripts/image-labels.mjs) --target "$target" --tag "localhost/$name:test" . >/dev/null
  shift
  for tag in "$@"; do engine tag "localhost/$name:test" "$tag"; done
}

# until_ok SECONDS COMMAND …: runs it until it succeeds.
until_ok() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || { echo "in vain: $*" >&2; return 1; }
    sleep 0.5
  done
}
