#!/bin/sh
# Makes the file system of /home for the virtual machine of ci/system: a clone
# of a checkout, of the user qa, and Go's caches, so that the emulated machine
# need not compile for half an hour.
#
#   home.sh CHECKOUT DIR IMAGE
#
# It must be root. DIR has the public half of the key to log in with, key.pub,
# and keeps the caches for the next time. IMAGE is written.
set -eu
checkout=$(realpath "$1") dir=$(realpath "$2") image=$3
home=$dir/home
trap 'rm -rf "$home"' EXIT
trap 'exit 1' HUP INT TERM
rm -rf "$home"

# A clone, with what is not committed yet.
clone=$home/qa/hotplugtest
mkdir -p "$home/qa"
git clone --quiet "$checkout" "$clone"
git -C "$checkout" ls-files -z --deleted | (cd "$clone" && xargs -0r rm -f --)
{
	git -C "$checkout" diff -z --name-only --diff-filter=d HEAD
	git -C "$checkout" ls-files -z --others --exclude-standard
} | tar -C "$checkout" --null -T - -c | tar -C "$clone" -x

# All that both users' go test compiles, at the path where it will be: what is
# in the cache is of a path. The go command may itself be in /home here.
for cache in go-build mod; do mkdir -p "$dir/$cache"; done
mkdir -p "$home/goroot" "$home/qa/.cache/go-build" "$home/qa/go/pkg/mod"
proxy="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
CGO_ENABLED=0 GOENV=off GOTOOLCHAIN=local GOFLAGS=-modcacherw GOMODCACHE="$dir/mod" GOPROXY="$proxy" GOCACHE="$dir/go-build" \
	sh -ec 'cd "$1" && go mod download' - "$clone"
CGO_ENABLED=0 GOENV=off GOTOOLCHAIN=local GOFLAGS= HOME=/home/qa unshare -m sh -ec '
	mount --bind "$2" "$1/goroot"
	mount --bind "$3/go-build" "$1/qa/.cache/go-build"
	mount --bind "$3/mod" "$1/qa/go/pkg/mod"
	mount --rbind "$1" /home
	cd /home/qa/hotplugtest
	GOROOT= GOCACHE= GOMODCACHE= GOPROXY=off /home/goroot/bin/go test -count=1 -exec true ./... >/dev/null' - "$home" "$(go env GOROOT)" "$dir"
rmdir "$home/goroot"
for user in qa root; do
	mkdir -p "$home/$user/.cache" "$home/$user/go/pkg"
	cp -a "$dir/go-build" "$home/$user/.cache/"
	cp -a "$dir/mod" "$home/$user/go/pkg/"
done 2>/dev/null

mkdir -m 700 "$home/qa/.ssh"
cp "$dir/key.pub" "$home/qa/.ssh/authorized_keys"
cp /dev/null "$home/qa/.hushlogin"
printf 'export PATH=$PATH:/usr/local/go/bin\n' >"$home/qa/.profile"
chown -R 0:0 "$home"
chown -R 1000:1000 "$home/qa"
rm -f "$image"
truncate -s 4G "$image"
mke2fs -q -t ext4 -F -L home -d "$home" "$image"
