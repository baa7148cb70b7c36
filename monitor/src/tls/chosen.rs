//! Of which processes TLS is followed: what `--tls` says, looked up on this host.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{files::Identity, symbols};
use crate::config::Follow;

/// Only directories of cgroup v2 have this file.
const OF_CGROUP: &str = "cgroup.procs";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// All of the host.
    All,
    Some(Places),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Directories of cgroup v2; all below them are meant, too.
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) programs: Vec<Program>,
}

/// A program, by its path. An upgrade puts another file there, while the one before is still run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    /// Device and inode of each file that has had the path.
    files: HashSet<(u64, u64)>,
}

impl Chosen {
    /// What the words of `--tls` mean on this host; none when nothing is to be followed. A cgroup may also be named from
    /// the mount point on, as records do.
    ///
    /// # Errors
    ///
    /// When a word names nothing, or something else than a cgroup or a program.
    pub(crate) fn of(follow: &[Follow], cgroup_mount: &Path) -> Result<Option<Self>> {
        let mut places = Places::default();
        for word in follow {
            match word {
                Follow::Off if follow.len() == 1 => return Ok(None),
                Follow::Off => bail!("--tls off goes with nothing else"),
                Follow::Auto => {}
                Follow::Place(path) => places.add(path, cgroup_mount)?,
            }
        }
        Ok(if follow.contains(&Follow::Auto) {
            Some(Self::All)
        } else if follow.is_empty() {
            None
        } else {
            Some(Self::Some(places))
        })
    }
}

impl Places {
    fn add(&mut self, path: &Path, cgroup_mount: &Path) -> Result<()> {
        let shown = path.display();
        let below = path.strip_prefix("/").unwrap_or(path);
        let named = cgroup_mount.join(below);
        if path.is_dir() {
            if !path.join(OF_CGROUP).is_file() {
                bail!("{shown} is no directory of cgroup v2: give --tls a cgroup or a program");
            }
            self.cgroups.push(path.to_owned());
        } else if !path.exists() && named.join(OF_CGROUP).is_file() {
            self.cgroups.push(named);
        } else {
            self.programs.push(Program::open(path)?);
        }
        Ok(())
    }

    /// Looks up which files have the programs' paths now.
    pub(super) fn refresh(&mut self) {
        for program in &mut self.programs {
            program
                .files
                .extend(fs::metadata(&program.path).ok().map(identity));
        }
    }

    /// Whether a process runs one of the programs.
    pub(super) fn runs(&self, pid: u32) -> bool {
        if self.programs.is_empty() {
            return false;
        }
        let exe = fs::metadata(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| {
            let exe = identity(exe);
            self.programs
                .iter()
                .any(|program| program.files.contains(&exe))
        })
    }
}

impl Places {
    /// Whether a file is one of the programs itself, so that whoever runs it is meant.
    pub(super) fn has_program(&self, file: &Identity) -> bool {
        let file = file.on_device();
        let mut programs = self.programs.iter();
        file.is_some_and(|file| programs.any(|program| program.files.contains(&file)))
    }
}

impl Program {
    fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path)
            .with_context(|| format!("open {shown} (--tls takes a cgroup or a program)"))?;
        let metadata = file
            .metadata()
            .with_context(|| format!("look at {shown}"))?;
        if !metadata.is_file() || !symbols::is_program(&file) {
            bail!(
                "{shown} is no program of this machine: give --tls what runs it, as a script's interpreter, or a cgroup"
            );
        }
        Ok(Self {
            path: path.to_owned(),
            files: HashSet::from([identity(metadata)]),
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "to be mapped over")]
fn identity(metadata: Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_looked_up() {
        let mount = tempfile::tempdir().unwrap();
        let cgroup = mount.path().join("system.slice/chat.service");
        fs::create_dir_all(&cgroup).unwrap();
        fs::write(cgroup.join(OF_CGROUP), "").unwrap();
        let of = |words: &[Follow]| Chosen::of(words, mount.path());
        let place = |path: &str| Follow::Place(path.into());

        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[Follow::Off]).unwrap(), None);
        assert_eq!(
            of(&[place("/proc/self/exe"), Follow::Auto]).unwrap(),
            Some(Chosen::All)
        );
        for named in ["/system.slice/chat.service", cgroup.to_str().unwrap()] {
            let Some(Chosen::Some(places)) = of(&[place(named)]).unwrap() else {
                panic!("{named} is a place");
            };
            assert_eq!(places.cgroups, std::slice::from_ref(&cgroup));
        }
        for (words, remedy) in [
            (vec![Follow::Off, Follow::Auto], "goes with nothing else"),
            (vec![place("/no/such/place")], "takes a cgroup or a program"),
            (vec![place("/proc")], "is no directory of cgroup v2"),
            (
                vec![place("/proc/self/status")],
                "is no program of this machine",
            ),
        ] {
            let error = format!("{:#}", of(&words).unwrap_err());
            assert!(error.contains(remedy), "{words:?}: {error}");
        }
    }

    #[test]
    fn process_of_a_program_is_known_by_its_file() {
        let link = tempfile::tempdir().unwrap();
        let path = link.path().join("program");
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &path).unwrap();
        let mut places = Places {
            cgroups: Vec::new(),
            programs: vec![Program::open(&path).unwrap()],
        };
        let me = std::process::id();
        assert!(places.runs(me) && !places.runs(0));

        // An upgrade: what runs is still the program.
        fs::remove_file(&path).unwrap();
        fs::copy("/bin/true", &path).unwrap();
        places.refresh();
        assert_eq!(places.programs[0].files.len(), 2);
        assert!(places.runs(me));
    }
}
