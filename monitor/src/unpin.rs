//! `closewatch unpin`: removes what a stopped daemon has left for the next one.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

use crate::{
    config::Unpin,
    journal,
    probes::{self, Removed},
};

/// Removes the pins and the journal, and says so.
pub(crate) fn unpin(what: &Unpin) -> Result<()> {
    let Removed { links, maps } = probes::unpin(&what.pin)?;
    let pins = what.pin.display();
    let mut said = if links + maps == 0 {
        format!("nothing was pinned in {pins}\n")
    } else {
        format!("removed {links} links and {maps} maps from {pins}: nothing is watched any more\n")
    };
    let directory = &what.state.directory;
    if journal::remove(directory)? {
        said += &format!("removed the journal in {}\n", directory.display());
    }
    let mut out = io::stdout().lock();
    out.write_all(said.as_bytes()).context("write to stdout")
}
