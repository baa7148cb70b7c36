//! What runs closewatch in containers, held against what it is for: no engine and no cluster is at hand.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    dist, libraries,
    shell::{repository, run, target},
    stages::Tests,
};

const MANIFESTS: [&str; 3] = ["daemonset.yml", "networkpolicy.yml", "podmonitor.yml"];

/// By a linter of container files, and the schemas of Kubernetes and Prometheus Operator.
pub(crate) fn check() -> Result<Tests> {
    let deploy = repository().join("deploy");
    run(
        Command::new(dist::tools_of_python()?.with_file_name("hadolint"))
            .arg(deploy.join("Containerfile")),
    )?;

    let folder = deploy.join("kubernetes");
    let modules = libraries::node_modules(
        &target().join("kubernetes-schema"),
        &folder.join("schema"),
        "the schemas of Kubernetes",
    )?;
    run(Command::new("node")
        .arg(folder.join("schema/check.mjs"))
        .arg(modules)
        .args(MANIFESTS.map(|name| folder.join(name))))?;

    // The image has the version that is made here.
    let daemonset = fs::read_to_string(folder.join(MANIFESTS[0])).context("read the DaemonSet")?;
    let image = format!("/closewatch:{}\n", env!("CARGO_PKG_VERSION"));
    ensure!(
        daemonset.contains(&image),
        "the image of {} is not of this version",
        MANIFESTS[0]
    );
    Ok(Tests {
        passed: MANIFESTS.len() + 1,
        failed: 0,
    })
}
