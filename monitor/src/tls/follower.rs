//! Which libraries have the kernel's probes: looks at processes, attaches, and detaches.
//!
//! In: the time. Out: probes at the functions of whatever the chosen processes run, lines in the log, [`Figures`]. What
//! cannot be followed is counted and told once.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::AsFd as _,
    rc::Rc,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::{
    Figures, Unsupported,
    chosen::Chosen,
    files::{self, Files, Identity, Library},
    listing::Lister,
    maps::{self, Mapped},
    processes::{Process, Processes},
};
use crate::probes::{Attached, Function, TlsPrograms};

pub(super) struct Follower {
    chosen: Chosen,
    programs: TlsPrograms,
    lister: Lister,
    processes: Processes,
    files: Files,
    /// By file and, where not all that run it are chosen, by process.
    attached: HashMap<(Identity, Option<Process>), Used>,
    /// Those that run something that has probes.
    users: HashSet<Process>,
    /// What was told already of each file.
    told: HashSet<(Identity, Unsupported)>,
    figures: Arc<Figures>,
    /// Where probes go that are not needed any more.
    detaching: Sender<Attached>,
    round: u64,
}

struct Used {
    attached: Attached,
    library: Rc<Library>,
    /// When somebody was last seen to run the file.
    round: u64,
}

impl Follower {
    pub(super) fn new(
        chosen: Chosen,
        programs: TlsPrograms,
        figures: Arc<Figures>,
        detaching: Sender<Attached>,
    ) -> Self {
        Self {
            chosen,
            programs,
            lister: Lister::default(),
            processes: Processes::default(),
            files: Files::default(),
            attached: HashMap::new(),
            users: HashSet::new(),
            told: HashSet::new(),
            figures,
            detaching,
            round: 0,
        }
    }

    /// Looks at the processes that are due.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub(super) fn look(&mut self, now: Duration) -> io::Result<()> {
        let started = Instant::now();
        let (there, in_cgroups) = self.there()?;
        let due = self.processes.due(&there, now);
        self.round += 1;
        self.files.begin();
        for process in &due.ended {
            self.users.remove(process);
            self.detach(|_, of| of == Some(*process));
        }
        for process in &due.look {
            let uses = self.is_chosen(*process, &in_cgroups) && self.visit(*process, now);
            if uses {
                self.users.insert(*process);
            } else {
                self.users.remove(process);
            }
        }
        if due.is_all {
            let round = self.round;
            self.detach(|used, _| used.round != round);
            self.files.forget();
            debug!(processes = due.look.len(), elapsed = ?started.elapsed(), "processes looked at");
        }
        self.tell_figures();
        Ok(())
    }

    /// The processes that there are, and which of them are in a chosen cgroup.
    fn there(&mut self) -> io::Result<(HashSet<Process>, HashSet<Process>)> {
        let Chosen::Some(places) = &mut self.chosen else {
            return Ok((self.lister.all()?, HashSet::new()));
        };
        places.refresh();
        let cgroups = places.cgroups.iter().map(AsRef::as_ref);
        let in_cgroups = self.lister.of_cgroups(cgroups);
        if places.programs.is_empty() {
            return Ok((in_cgroups.clone(), in_cgroups));
        }
        Ok((self.lister.all()?, in_cgroups))
    }

    fn is_chosen(&self, process: Process, in_cgroups: &HashSet<Process>) -> bool {
        match &self.chosen {
            Chosen::All => true,
            Chosen::Some(places) => in_cgroups.contains(&process) || places.runs(process.pid),
        }
    }

    /// Attaches to what a process runs. Returns whether something that it runs has probes.
    fn visit(&mut self, process: Process, now: Duration) -> bool {
        let maps = match fs::read_to_string(format!("/proc/{}/maps", process.pid)) {
            Ok(maps) => maps,
            Err(error) if is_exhausted(&error) => return self.leaves_as_it_is(process),
            Err(_) => return false,
        };
        let mapped = maps::executable(&maps).into_iter();
        let libraries = mapped.filter_map(|mapped| {
            let library = self.files.library(process.pid, &mapped)?;
            Some((mapped, library))
        });
        let (tls, others): (Vec<_>, Vec<_>) =
            libraries.partition(|(_, library)| library.speaks_tls());
        let mut all = tls.iter().chain(&others);
        let has_bio = all.any(|(_, library)| library.has(Function::BioWrite));
        let is_young = process.is_young(now);
        let mut uses = false;
        for (mapped, library) in &tls {
            if let Some(lacking) = library.lacks() {
                self.unsupported(library, lacking);
            } else if has_bio {
                uses |= self.attach(process, mapped, library);
            } else if !is_young {
                // What a process loads comes one file after the other.
                self.unsupported(library, Function::BioWrite);
            }
        }
        // Those who do without TLS need not pay for it.
        for (mapped, library) in others.iter().filter(|_| uses) {
            self.attach(process, mapped, library);
        }
        uses
    }

    /// Attaches to what a process has mapped, if that is not done yet. Returns whether it is done.
    fn attach(&mut self, process: Process, mapped: &Mapped, library: &Rc<Library>) -> bool {
        let all = (library.identity, None);
        let one = (library.identity, Some(process));
        let is_for_all = match &self.chosen {
            Chosen::All => true,
            Chosen::Some(places) => places.has_program(&library.identity),
        };
        let place = if is_for_all || self.attached.contains_key(&all) {
            all
        } else {
            one
        };
        if let Some(used) = self.attached.get_mut(&place) {
            used.round = self.round;
            return true;
        }
        let is_first = !self.has_probes(library.identity);
        let started = Instant::now();
        let of = place.1.map(|process| process.pid);
        let attached = files::open(process.pid, mapped)
            .and_then(|file| self.programs.attach(file.as_fd(), &library.places, of));
        match attached {
            Ok(attached) => {
                let milliseconds = started.elapsed().as_millis();
                let (file, functions) = (library.path.display(), library.functions.len());
                if is_first {
                    let version = library.version.as_deref();
                    info!(%file, version, functions, milliseconds, process = process.pid, "TLS is followed in this file");
                } else {
                    debug!(%file, milliseconds, process = process.pid, "TLS is followed in one more process");
                }
                let round = self.round;
                let library = Rc::clone(library);
                self.attached.insert(
                    place,
                    Used {
                        attached,
                        library,
                        round,
                    },
                );
                true
            }
            Err(error) => {
                self.refused(library, &error);
                false
            }
        }
    }

    /// What a process runs cannot be read now: its probes stay. Returns whether it has any.
    fn leaves_as_it_is(&mut self, process: Process) -> bool {
        let round = self.round;
        for ((_, of), used) in &mut self.attached {
            if of.is_none() || *of == Some(process) {
                used.round = round;
            }
        }
        self.users.contains(&process)
    }

    fn has_probes(&self, identity: Identity) -> bool {
        self.attached.keys().any(|(other, _)| *other == identity)
    }

    fn unsupported(&mut self, library: &Library, lacking: Function) {
        if self.told.insert((library.identity, Unsupported::Symbols)) {
            self.figures.unsupported(Unsupported::Symbols);
            let (file, lacking) = (library.path.display(), lacking.symbol());
            warn!(%file, lacking, "TLS is not followed in this file: it lacks a function");
        }
    }

    fn refused(&mut self, library: &Library, error: &io::Error) {
        let is_gone =
            error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH);
        if !is_gone && self.told.insert((library.identity, Unsupported::Refused)) {
            self.figures.unsupported(Unsupported::Refused);
            let file = library.path.display();
            let remedy = if is_exhausted(error) {
                "each takes a descriptor (LimitNOFILE= in the systemd unit gives more)"
            } else {
                "`closewatch check --tls auto` says what is missing"
            };
            warn!(%file, "TLS is not followed in this file: the kernel refuses the probes: {error}; {remedy}");
        }
    }

    fn detach(&mut self, is_over: impl Fn(&Used, Option<Process>) -> bool) {
        let over = self
            .attached
            .extract_if(|(_, process), used| is_over(used, *process));
        let mut gone = HashMap::new();
        for ((identity, _), used) in over {
            gone.insert(identity, used.library);
            // The thread behind it ends after this one.
            let _ = self.detaching.send(used.attached);
        }
        gone.retain(|identity, _| !self.has_probes(*identity));
        for library in gone.into_values() {
            info!(file = %library.path.display(), "TLS is not followed in this file any more: nobody runs it");
        }
    }

    fn tell_figures(&mut self) {
        let files: HashSet<_> = self.attached.keys().map(|(identity, _)| identity).collect();
        self.figures.now(files.len(), self.users.len());
        self.figures.unreadable(self.files.unreadable);
        // What was told of files that are gone is not kept for ever.
        if self.told.len() > TOLD_MAX {
            self.told.clear();
        }
    }
}

/// Whether there are no descriptors left.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Files that something was told of, at most; then it is told again.
const TOLD_MAX: usize = 4096;
