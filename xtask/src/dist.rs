//! `cargo xtask dist`: what one installs, in `target/dist`, the same bytes from the same source.

mod again;
mod deb;
mod programs;
mod release;
mod rpm;
mod sbom;
mod tarball;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    apt, daemon, setup,
    shell::{find, repository, run_quietly, target},
    stages::Tests,
};
use programs::Programs;
use release::Release;
pub(crate) use sbom::python as tools_of_python;

/// What to make.
#[derive(Args)]
pub(crate) struct Options {
    /// Only the Debian package, unchecked and without the licences of what is linked in
    #[arg(long)]
    deb: bool,
    /// Make everything again, from a copy of this repository in another folder, and compare
    #[arg(long, conflicts_with = "deb")]
    verify: bool,
}

/// What making and checking packages calls, and Debian's packages of it.
const TOOLS: [(&str, &str); 6] = [
    ("dh", "debhelper"),
    ("dpkg-buildpackage", "dpkg-dev"),
    ("lintian", "lintian"),
    ("rpmbuild", "rpm"),
    ("rpmlint", "rpmlint"),
    ("strip", "binutils"),
];

/// The sums of all the other files.
const SUMS: &str = "SHA256SUMS";

pub(crate) fn dist(options: &Options) -> Result<()> {
    setup::setup()?;
    if options.deb {
        println!("{}", debian()?.display());
        return Ok(());
    }
    tools()?;
    let release = Release::of_this_source()?;
    let folder = remade(&target().join("dist"))?;
    make(&release, &folder)?;
    if options.verify {
        again::built(&release, &folder)?;
    }
    print!("{}", fs::read_to_string(folder.join(SUMS))?);
    Ok(())
}

/// Makes only the Debian package, of the release build, and says where it is.
pub(crate) fn debian() -> Result<PathBuf> {
    tools()?;
    let release = Release::of_this_source()?;
    let folder = remade(&target().join("dist"))?;
    let work = remade(&target().join("packaging"))?;
    let tree = tree::lay_out(&programs::stripped(&daemon::build()?, &work)?, None, &work)?;
    deb::make(&release, &tree, &work, &folder)
}

/// Every package is made, passes its checker, and is the same when it is made again of the same programs. The RPM one is
/// installed and erased; the Debian one is in a system of its own (`cargo xtask systemd`).
pub(crate) fn test() -> Result<Tests> {
    tools()?;
    let release = Release::of_this_source()?;
    let folder = remade(&target().join("dist"))?;
    let programs = make(&release, &folder)?;
    let held = rpm::installed(&release, &target().join("packaging"), &folder)?;
    again::packaged(&release, &programs, &folder)?;
    let sums = fs::read_to_string(folder.join(SUMS))?;
    print!("{sums}");
    Ok(Tests {
        passed: sums.lines().count() + held,
        failed: 0,
    })
}

/// Builds, packages and checks.
fn make(release: &Release, folder: &Path) -> Result<Programs> {
    let programs = Programs::build(repository(), &target(), &target().join("programs"))?;
    packages(release, &programs, &target().join("packaging"), folder)?;
    deb::check(folder)?;
    rpm::check(folder)?;
    Ok(programs)
}

/// Makes them all in `folder`, by way of `work`.
fn packages(release: &Release, programs: &Programs, work: &Path, folder: &Path) -> Result<()> {
    let work = remade(work)?;
    let notices = work.join("THIRD-PARTY-LICENSES");
    sbom::write(release, folder, &notices)?;
    let tree = tree::lay_out(&programs.dynamic, Some(&notices), &work)?;
    deb::make(release, &tree, &work, folder)?;
    rpm::make(release, &tree, &work, folder)?;
    tarball::make(release, &programs.complete, &tree, &work, folder)?;
    sum(folder)
}

/// Writes the sums of all that is in a folder.
fn sum(folder: &Path) -> Result<()> {
    let mut names = Vec::new();
    for file in fs::read_dir(folder)? {
        names.push(file?.file_name());
    }
    names.sort();
    let sums = run_quietly(Command::new("sha256sum").args(names).current_dir(folder))?;
    fs::write(folder.join(SUMS), sums).context("write the sums")
}

/// The packages of one kind in a folder.
fn of_kind(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for file in fs::read_dir(folder)? {
        packages.push(file?.path());
    }
    packages.retain(|file| file.extension().is_some_and(|end| end == extension));
    Ok(packages)
}

fn tools() -> Result<()> {
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|tool| tool.1)
        .collect();
    apt::install(&missing)
}

/// An empty folder.
fn remade(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder.to_owned())
}
