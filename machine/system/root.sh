#!/bin/sh
# Builds a Debian system with systemd and tenants for the virtual machine of
# ci/system: DIR/disk.raw, DIR/vmlinuz and DIR/initrd.
#
#   root.sh SUITE MIRROR DIR
#
# It must be root. It writes nothing outside of DIR, which must have the public
# half of the key to log in with, DIR/key.pub.
set -eu
suite=$1 mirror=$2 dir=$(realpath "$3")
here=$(dirname "$(realpath "$0")")
root=$dir/root
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 1' HUP INT TERM
rm -rf --one-file-system "$root"

# The machine, then its tenants, then what the go command wants.
packages=systemd-sysv,udev,dbus,libpam-systemd,openssh-server,sudo,cron,kmod,procps,util-linux,iproute2,linux-image-amd64,initramfs-tools
packages=$packages,irqbalance,podman,crun,systemd-container,busybox-static
packages=$packages,git,ca-certificates
set -- --mode=root --variant=apt --include=$packages --aptopt='APT::Install-Recommends "false"'
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ ! -e $keyring ] || set -- "$@" --keyring=$keyring
# What it mounts below the directory must not be there when that is removed.
unshare -m mmdebstrap --quiet "$@" "$suite" "$root" "$mirror"

cp -a "$here/testdata/root/." "$root"
chown -R 0:0 "$root/etc/systemd" "$root/etc/fstab" "$root/etc/sudoers.d" "$root/usr/local"
chmod 440 "$root/etc/sudoers.d/qa"
echo guest >"$root/etc/hostname"
echo '127.0.0.1 localhost guest' >"$root/etc/hosts"
chroot "$root" useradd --no-create-home --shell /bin/bash qa # with a home of home.sh
mkdir -p -m 700 "$root/root/.ssh"
cp "$dir/key.pub" "$root/root/.ssh/authorized_keys"
# The manager of a user's units must not come and go with each login.
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/qa" "$root/var/lib/systemd/linger/root"
for dir_of_go in .cache go; do ln -s /home/root/$dir_of_go "$root/root/$dir_of_go"; done
cp -a "$(go env GOROOT)" "$root/usr/local/go"

# As systemctl enable and mask do. A timer, and a service that ends when it is
# idle, would change the machine in the middle of a test.
units=$root/etc/systemd/system
for unit in "$units"/tenant-*.service; do ln -s "../${unit##*/}" "$units/multi-user.target.wants/"; done
ln -s /lib/systemd/system/systemd-networkd.service "$units/multi-user.target.wants/"
for timer in "$root"/lib/systemd/system/*.timer netavark-dhcp-proxy.socket; do ln -sf /dev/null "$units/${timer##*/}"; done

# What the containers consist of: two tenants, and one for tests.
for box in container nspawn spare; do
	mkdir -p "$root/srv/$box"
	(cd "$root/srv/$box" && mkdir bin proc sys dev etc tmp run usr root && cp "$root/bin/busybox" bin/ && echo NAME=box >etc/os-release &&
		for command in sh sleep cat ls; do ln -s busybox bin/$command; done)
done

cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/boot/initrd*
rm -f "$dir/disk.raw"
truncate -s 6G "$dir/disk.raw"
mke2fs -q -t ext4 -F -d "$root" "$dir/disk.raw"
