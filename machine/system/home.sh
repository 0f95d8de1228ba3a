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
git clone --quiet -c advice.detachedHead=false "$checkout" "$clone"
git -C "$checkout" ls-files -z --deleted | (cd "$clone" && xargs -0r rm -f --)
{
	git -C "$checkout" diff -z --name-only --diff-filter=d HEAD
	git -C "$checkout" ls-files -z --others --exclude-standard
} | tar -C "$checkout" --null -T - -c | tar -C "$clone" -x

# What go test compiles for each user, at the paths where it will be, as those
# are part of it. The go command may itself be in /home or /root here.
mkdir -p "$dir/go-build" "$dir/mod" "$home/goroot"
proxy="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
export CGO_ENABLED=0 GOENV=off GOTOOLCHAIN=local
(cd "$clone" && GOFLAGS=-modcacherw GOMODCACHE="$dir/mod" GOPROXY="$proxy" GOCACHE="$dir/go-build" go mod download)
for user in qa root; do
	mkdir -p "$home/$user/.cache/go-build" "$home/$user/go/pkg/mod"
	GOFLAGS='' GOPROXY=off unshare -m sh -ec '
		home=$1 dir=$2 user=$3 goroot=$4
		mount --bind "$goroot" "$home/goroot"
		mount --bind "$dir/go-build" "$home/$user/.cache/go-build"
		mount --bind "$dir/mod" "$home/$user/go/pkg/mod"
		mount --rbind "$home" /home
		[ $user != root ] || mount --rbind /home/root /root
		cd /home/qa/hotplugtest
		HOME=$5 GOROOT= GOCACHE= GOMODCACHE= /home/goroot/bin/go test -count=1 -exec true ./... >/dev/null
	' - "$home" "$dir" $user "$(go env GOROOT)" "$([ $user = root ] && echo /root || echo /home/$user)"
	cp -a "$dir/go-build" "$home/$user/.cache/"
	cp -a "$dir/mod" "$home/$user/go/pkg/"
done
rmdir "$home/goroot"

mkdir -m 700 "$home/qa/.ssh"
cp "$dir/key.pub" "$home/qa/.ssh/authorized_keys"
cp /dev/null "$home/qa/.hushlogin"
printf 'export PATH=$PATH:/usr/local/go/bin\n' >"$home/qa/.profile"
chown -R 0:0 "$home"
chown -R 1000:1000 "$home/qa"
rm -f "$image"
truncate -s 4G "$image"
mke2fs -q -t ext4 -F -L home -d "$home" "$image"
