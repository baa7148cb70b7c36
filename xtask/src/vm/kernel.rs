//! Debian's kernels, unpacked below `target/vm/kernels`.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use super::archive::Suite;
use crate::shell::{announce, find, run_quietly, target};

/// A kernel that closewatch is tried on, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    #[value(name = "5.10", help = "Debian 11")]
    V5_10,
    #[value(name = "6.1", help = "Debian 12")]
    V6_1,
    #[value(name = "6.12", help = "Debian 13")]
    V6_12,
    #[value(name = "sid", help = "the newest in Debian")]
    Sid,
}

/// An unpacked kernel.
pub(crate) struct Image {
    /// What `uname -r` says in it.
    pub(crate) release: String,
    pub(crate) vmlinuz: PathBuf,
    /// Has `lib/modules`.
    pub(crate) root: PathBuf,
}

impl Kernel {
    pub(crate) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::Sid];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Sid => "sid",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The newest of this kernel that Debian has, fetched where it is not there.
    ///
    /// # Errors
    ///
    /// When apt cannot fetch it, or it is packed in a way that is not known here.
    pub(crate) fn fetch(self) -> Result<Image> {
        let suite = Suite::open(self.suite())?;
        let newest = suite.depends("linux-image-amd64")?;
        let newest = parts(&newest)
            .into_iter()
            .find(|package| package.starts_with("linux-image-"))
            .with_context(|| format!("linux-image-amd64 needs no image, but {newest}"))?;
        let root = target().join("vm/kernels").join(&newest);
        if !root.join("complete").exists() {
            announce(format_args!("fetching {newest}"));
            unpack(&suite, newest, &root)?;
        }
        Image::at(root)
    }
}

impl Image {
    fn at(root: PathBuf) -> Result<Self> {
        let modules = root.join("lib/modules");
        let release = fs::read_dir(&modules)?
            .next()
            .with_context(|| format!("{} is empty", modules.display()))??
            .file_name()
            .into_string()
            .ok()
            .context("the name of a kernel is not UTF-8")?;
        let places = [
            root.join("boot").join(format!("vmlinuz-{release}")),
            modules.join(&release).join("vmlinuz"),
        ];
        let vmlinuz = places.into_iter().find(|place| place.is_file());
        Ok(Self {
            vmlinuz: vmlinuz.with_context(|| format!("no vmlinuz of {release}"))?,
            release,
            root,
        })
    }

    /// The files of a module and of those that it needs, in the order of loading; none of what is built in.
    pub(crate) fn module(&self, name: &str) -> Result<Vec<PathBuf>> {
        let modprobe = find("modprobe").context("modprobe is missing")?;
        let listed = run_quietly(
            Command::new(modprobe)
                .arg("--dirname")
                .arg(&self.root)
                .args(["--set-version", &self.release, "--show-depends", name]),
        )?;
        let files = listed
            .lines()
            .filter_map(|line| line.strip_prefix("insmod "));
        Ok(files.map(|file| PathBuf::from(file.trim_end())).collect())
    }
}

/// Unpacks the package, and what of the kernel it leaves to others.
fn unpack(suite: &Suite, package: String, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    let mut done = BTreeSet::new();
    let mut next = vec![package];
    while let Some(package) = next.pop() {
        suite.unpack(&package, root)?;
        next.extend(parts(&suite.depends(&package)?));
        done.insert(package);
        next.retain(|package| !done.contains(package));
    }
    // Where only usr/lib is, depmod finds it as on a merged system.
    if !root.join("lib").exists() {
        symlink("usr/lib", root.join("lib"))?;
    }
    let image = Image::at(root.to_owned())?;
    let depmod = find("depmod").context("depmod is missing")?;
    run_quietly(
        Command::new(depmod)
            .arg("--basedir")
            .arg(root)
            .arg(&image.release),
    )?;
    ensure!(
        !image.module("overlay")?.is_empty(),
        "the packages of {} have no modules",
        image.release
    );
    Ok(fs::write(root.join("complete"), "")?)
}

/// The packages among `depends` that a kernel is split into.
fn parts(depends: &str) -> Vec<String> {
    let names = depends
        .split(',')
        .filter_map(|one| one.split_whitespace().next());
    let is_part = |name: &&str| {
        let kinds = [
            "linux-base-",
            "linux-binary-",
            "linux-image-",
            "linux-modules-",
        ];
        kinds.iter().any(|kind| name.starts_with(kind))
    };
    names.filter(is_part).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_kernel_are_told_from_what_it_needs() {
        let one = "kmod, linux-base (>= 4.3~), initramfs-tools | linux-initramfs-tool";
        assert_eq!(parts(one), Vec::<String>::new());
        let split = "dracut | linux-initramfs-tool, linux-base-7.2-amd64 (= 7.2-1), \
                     linux-binary-7.2-amd64 (= 7.2-1), linux-modules-7.2-amd64 (= 7.2-1)";
        assert_eq!(
            parts(split),
            [
                "linux-base-7.2-amd64",
                "linux-binary-7.2-amd64",
                "linux-modules-7.2-amd64"
            ]
        );
    }
}
