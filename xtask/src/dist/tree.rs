//! All that is installed, laid out as it is installed: the packages are made of this one tree.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::shell::{repository, run_quietly};

/// Files of `deploy/` and their places.
const INSTALLED: [(&str, &str); 17] = [
    ("closewatch.env", "etc/default/closewatch"),
    ("closewatch.logrotate", "etc/logrotate.d/closewatch"),
    (
        "closewatch.service",
        "usr/lib/systemd/system/closewatch.service",
    ),
    (
        "closewatch.socket",
        "usr/lib/systemd/system/closewatch.socket",
    ),
    (
        "closewatch-namespaces.conf",
        "usr/share/doc/closewatch/closewatch-namespaces.conf",
    ),
    (
        "closewatch-tls.conf",
        "usr/share/doc/closewatch/closewatch-tls.conf",
    ),
    (
        "packaging/closewatch.sysusers",
        "usr/lib/sysusers.d/closewatch.conf",
    ),
    (
        "grafana/closewatch-daemon.json",
        "usr/share/closewatch/grafana/closewatch-daemon.json",
    ),
    (
        "grafana/closewatch-overview.json",
        "usr/share/closewatch/grafana/closewatch-overview.json",
    ),
    (
        "grafana/closewatch-server.json",
        "usr/share/closewatch/grafana/closewatch-server.json",
    ),
    ("openapi.json", "usr/share/closewatch/openapi.json"),
    (
        "prometheus/alerts.yml",
        "usr/share/closewatch/prometheus/alerts.yml",
    ),
    (
        "prometheus/rules.yml",
        "usr/share/closewatch/prometheus/rules.yml",
    ),
    (
        "prometheus/scrape-file-sd.yml",
        "usr/share/closewatch/prometheus/scrape-file-sd.yml",
    ),
    (
        "prometheus/scrape-kubernetes.yml",
        "usr/share/closewatch/prometheus/scrape-kubernetes.yml",
    ),
    (
        "prometheus/scrape.yml",
        "usr/share/closewatch/prometheus/scrape.yml",
    ),
    ("web-config.yml", "usr/share/closewatch/web-config.yml"),
];

/// Completions as the program names them, and where their shells look.
const COMPLETIONS: [(&str, &str); 3] = [
    (
        "closewatch.bash",
        "usr/share/bash-completion/completions/closewatch",
    ),
    (
        "closewatch.fish",
        "usr/share/fish/vendor_completions.d/closewatch.fish",
    ),
    (
        "_closewatch",
        "usr/share/zsh/vendor-completions/_closewatch",
    ),
];

/// Lays out `program`, and the licences of what is linked into it, below a new folder in `work`.
pub(crate) fn lay_out(program: &Path, notices: Option<&Path>, work: &Path) -> Result<PathBuf> {
    let tree = work.join("tree");
    let installed = tree.join("usr/bin/closewatch");
    place(program, &installed)?;
    fs::set_permissions(&installed, fs::Permissions::from_mode(0o755))?;
    for (file, installed) in INSTALLED {
        place(
            &repository().join("deploy").join(file),
            &tree.join(installed),
        )?;
    }

    let documents = work.join("documents");
    fs::create_dir_all(&documents)?;
    run_quietly(
        Command::new(tree.join("usr/bin/closewatch"))
            .arg("generate")
            .arg(&documents),
    )?;
    for (file, installed) in COMPLETIONS {
        place(&documents.join(file), &tree.join(installed))?;
    }
    for file in fs::read_dir(&documents)? {
        let page = file?.path();
        if page.extension().is_some_and(|section| section == "1") {
            let name = PathBuf::from(page.file_name().context("a page without a name")?);
            place(&page, &tree.join("usr/share/man/man1").join(name))?;
        }
    }
    if let Some(notices) = notices {
        place(
            notices,
            &tree.join("usr/share/doc/closewatch/THIRD-PARTY-LICENSES"),
        )?;
    }
    Ok(tree)
}

/// Copies a file that everybody may read, whatever the umask.
pub(crate) fn place(file: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a place outside every folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::copy(file, to).with_context(|| format!("copy {} to {}", file.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))?;
    Ok(())
}
