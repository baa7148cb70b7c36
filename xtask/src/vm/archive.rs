//! Packages of any of Debian's suites, without touching the machine's own sources.
//!
//! The archive is the one that the machine's apt names; lists and packages stay below `target/vm`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use crate::shell::{announce, run_quietly, target};

/// Debian's own, of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Newer kernels and security fixes are looked for this often.
const LISTS_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// One suite of the archive.
pub(crate) struct Suite {
    name: &'static str,
    folder: PathBuf,
}

impl Suite {
    /// The suite with lists that are not older than a week.
    ///
    /// # Errors
    ///
    /// When this machine's apt names no Debian archive, or the suite cannot be fetched from it.
    pub(crate) fn open(name: &'static str) -> Result<Self> {
        let suite = Self {
            name,
            folder: target().join("vm/apt").join(name),
        };
        let fetched = suite.folder.join("fetched");
        let age = fs::metadata(&fetched)
            .and_then(|file| file.modified())
            .map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        if age.is_ok_and(|age| age < LISTS_MAX_AGE) {
            return Ok(suite);
        }
        announce(format_args!(
            "fetching the list of packages of Debian's {name}"
        ));
        suite.configure()?;
        run_quietly(suite.apt("apt-get").args(["update", "-qq"]))
            .with_context(|| format!("apt cannot fetch the list of packages of {name}"))?;
        fs::write(fetched, "")?;
        Ok(suite)
    }

    /// What the package needs, as the control field `Depends` says it.
    pub(crate) fn depends(&self, package: &str) -> Result<String> {
        let facts = run_quietly(
            self.apt("apt-cache")
                .args(["show", "--no-all-versions", package]),
        )
        .with_context(|| format!("{} has no package {package}", self.name))?;
        let depends = facts
            .lines()
            .find_map(|line| line.strip_prefix("Depends: "));
        Ok(depends.unwrap_or_default().to_owned())
    }

    /// Unpacks the package below `root`, running none of its scripts.
    pub(crate) fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        let packages = self.folder.join("packages");
        if packages.exists() {
            fs::remove_dir_all(&packages)?;
        }
        fs::create_dir_all(&packages)?;
        fs::create_dir_all(root)?;
        let mut download = self.apt("apt-get");
        run_quietly(
            download
                .args(["download", "-qq", package])
                .current_dir(&packages),
        )
        .with_context(|| format!("apt cannot fetch {package} of {}", self.name))?;
        for file in fs::read_dir(&packages)? {
            run_quietly(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(file?.path())
                    .arg(root),
            )?;
        }
        Ok(fs::remove_dir_all(&packages)?)
    }

    fn configure(&self) -> Result<()> {
        let folder = self.folder.display();
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.folder.join(name))?;
        }
        let configuration = format!(
            "Dir::Etc::SourceList \"{folder}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\n\
             Dir::Etc::Preferences \"/dev/null\";\n\
             Dir::Etc::PreferencesParts \"/dev/null\";\n\
             Dir::State::Lists \"{folder}/lists\";\n\
             Dir::Cache \"{folder}/cache\";\n\
             APT::Sandbox::User \"\";\n\
             APT::Architecture \"amd64\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        fs::write(self.folder.join("apt.conf"), configuration)?;
        let source = format!(
            "deb [signed-by={KEYRING}] {} {} main\n",
            mirror()?,
            self.name
        );
        Ok(fs::write(self.folder.join("sources.list"), source)?)
    }

    /// The machine's configuration (a proxy, say) holds but for what ours sets.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }
}

/// Where this machine fetches Debian from.
fn mirror() -> Result<String> {
    let listed = run_quietly(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(LABEL) $(REPO_URI)",
        "Created-By: Packages",
    ]))
    .context("the VMs' kernels are fetched with apt from Debian's archive")?;
    let mirror = listed.lines().find_map(|line| line.strip_prefix("Debian "));
    ensure!(
        mirror.is_some(),
        "this machine's apt knows no Debian archive, which the VMs' kernels come from: \
         name one in /etc/apt/sources.list.d, and run apt-get update"
    );
    Ok(mirror.unwrap_or_default().to_owned())
}
