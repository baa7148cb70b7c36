//! Man pages and shell completions, made from the definitions of the command line themselves.
//!
//! In: a folder, made if it is missing. Out: files in it: `closewatch.1` and a page for each subcommand, and completions for bash,
//! zsh and fish. Their text depends on nothing else, neither on the environment nor on the time.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::config::Cli;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// Writes them all, over those that are there.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn generate(folder: &Path) -> Result<()> {
    let written = || format!("write to {}", folder.display());
    fs::create_dir_all(folder).with_context(written)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(written)?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut Cli::command(), "closewatch", folder)
            .with_context(written)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    #[test]
    fn every_flag_is_in_the_page_and_the_completions_of_its_command() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let completions = ["closewatch.bash", "closewatch.fish", "_closewatch"].map(read);
        let mut flags = 0;
        let shown = |command: &&Command| !command.is_hide_set();
        for command in Cli::command().get_subcommands().filter(shown) {
            let page = read(&format!("closewatch-{}.1", command.get_name()));
            let overview = read("closewatch.1");
            assert!(overview.contains(command.get_name()), "{overview}");
            for flag in command
                .get_arguments()
                .filter_map(|argument| argument.get_long())
            {
                flags += 1;
                // A hyphen of roff's is not one that can be searched for.
                let escaped = flag.replace('-', "\\-");
                assert!(page.contains(&format!("\\-\\-{escaped}")), "{flag}: {page}");
                for text in &completions {
                    assert!(text.contains(flag), "{flag}: {text}");
                }
            }
        }
        assert!(flags > 5, "{flags}");
    }

    #[test]
    fn hidden_commands_have_no_page() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("share/documents");
        generate(&missing).unwrap();
        assert!(missing.join("closewatch-run.1").exists());
        assert!(!missing.join("closewatch-generate.1").exists());
    }
}
