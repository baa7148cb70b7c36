//! What the guest begins with: busybox, and the modules with which it reads this machine's files.
//!
//! Its root is this machine's, over 9p, read-only; what it writes goes to its memory. So everything
//! has the path that it has here, and nothing that it does reaches this machine.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::kernel::Image;
use crate::shell::{find, run_quietly};

/// What this needs of Debian.
pub(crate) const PACKAGES: [&str; 3] = ["busybox-static", "kmod", "xz-utils"];

/// What QEMU needs for it.
pub(crate) const DEVICES: [&str; 4] = [
    "-virtfs",
    "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
    "-device",
    "virtio-rng-pci",
];

const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// `MODULES` and `RELEASE` are replaced.
const INIT: &str = r"#!/bin/busybox sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
mount -t tmpfs writes /writes
mkdir /writes/upper /writes/work
mount -t overlay -o lowerdir=/host,upperdir=/writes/upper,workdir=/writes/work root /root
mount --move /dev /root/dev
mkdir -p /root/dev/shm /root/dev/pts /root/lib/modules/RELEASE
mount -t tmpfs shm /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t tmpfs run /root/run
mount -o bind /host/MODULES /root/lib/modules/RELEASE
cp /work /root/run/work
ip link set lo up
exec switch_root /root /bin/sh /run/work
";

/// Powers off.
const END: &str = "\necho o >/proc/sysrq-trigger\nsleep 60\n";

/// Writes an initramfs that gives this machine's files to the kernel and then does `work`, a shell script.
pub(crate) fn write(to: &Path, image: &Image, work: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    for name in ["bin", "modules", "proc", "dev", "host", "writes", "root"] {
        fs::create_dir(root.join(name))?;
    }
    let busybox = find("busybox").context("busybox is missing")?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for name in ["sh", "mount", "mkdir", "insmod", "cp", "ip", "switch_root"] {
        symlink("busybox", root.join("bin").join(name))?;
    }

    let mut files = Vec::new();
    for module in MODULES {
        for file in image.module(module)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    for (number, file) in files.iter().enumerate() {
        unpack(file, &root.join("modules").join(format!("{number:02}.ko")))?;
    }

    let modules = image.root.join("lib/modules").join(&image.release);
    let init = INIT
        .replace("MODULES", &modules.display().to_string())
        .replace("RELEASE", &image.release);
    fs::write(root.join("init"), init)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("work"), format!("{work}{END}"))?;

    let mut cpio = Command::new(busybox)
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(File::create(to)?)
        .stderr(Stdio::null())
        .spawn()?;
    let mut names = cpio.stdin.take().context("cpio reads from us")?;
    let listed = run_quietly(Command::new("find").arg(".").current_dir(root))?;
    names.write_all(listed.as_bytes())?;
    drop(names);
    ensure!(
        cpio.wait()?.success(),
        "cpio did not write {}",
        to.display()
    );
    Ok(())
}

fn unpack(module: &Path, to: &Path) -> Result<()> {
    if module.extension().is_some_and(|kind| kind == "xz") {
        let status = Command::new("xz")
            .args(["--decompress", "--stdout"])
            .arg(module)
            .stdout(File::create(to)?)
            .status()?;
        ensure!(status.success(), "xz cannot read {}", module.display());
    } else {
        fs::copy(module, to)?;
    }
    Ok(())
}
