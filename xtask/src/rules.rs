//! The Prometheus configuration of `deploy/`: read, and its rules tried, by Prometheus' own tool.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    shell::{repository, run, target},
    stages::Tests,
};

pub(crate) fn folder() -> PathBuf {
    repository().join("deploy/prometheus")
}

pub(crate) fn check() -> Result<()> {
    for file in ["scrape.yml", "scrape-file-sd.yml"] {
        promtool(["check", "config"], [folder().join(file)])?;
    }
    promtool(["check", "config"], [without_kubernetes()?])?;
    promtool(
        ["check", "rules"],
        ["rules.yml", "alerts.yml"].map(|file| folder().join(file)),
    )?;
    runbooks(
        &fs::read_to_string(folder().join("alerts.yml"))?,
        &fs::read_to_string(repository().join("README.md"))?,
    )
}

/// Runs the rules over made-up series. Counts the cases.
pub(crate) fn test() -> Result<Tests> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder().join("tests"))? {
        files.push(file?.path());
    }
    files.sort();
    let mut cases = 0;
    for file in &files {
        let text = fs::read_to_string(file)?;
        cases += text
            .lines()
            .filter(|line| line.starts_with("  - name:"))
            .count();
    }
    promtool(["test", "rules"], files)?;
    Ok(Tests {
        passed: cases,
        failed: 0,
    })
}

fn promtool(
    words: [&str; 2],
    files: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>,
) -> Result<()> {
    run(Command::new("promtool").args(words).args(files))
}

/// Debian builds Prometheus without Kubernetes, so that the rest of that file is what can be read.
fn without_kubernetes() -> Result<PathBuf> {
    let name = "scrape-kubernetes.yml";
    println!("{name}: kubernetes_sd_configs is left out, which Debian's promtool does not know");
    let text = fs::read_to_string(folder().join(name))?;
    let discovery = "    kubernetes_sd_configs:\n      - role: pod\n";
    ensure!(
        text.contains(discovery),
        "{name} has another discovery than is left out here"
    );
    let copy = target().join(name);
    fs::write(&copy, text.replace(discovery, ""))
        .with_context(|| format!("write {}", copy.display()))?;
    Ok(copy)
}

/// Every alert leads to a section of the README, and every section of the runbook is an alert's.
fn runbooks(alerts: &str, readme: &str) -> Result<()> {
    let values = |key: &str| -> Vec<String> {
        let lines = alerts.lines().map(str::trim_start);
        let values = lines.filter_map(|line| line.trim_start_matches("- ").strip_prefix(key));
        values.map(|value| value.trim().to_owned()).collect()
    };
    let (names, links) = (values("alert:"), values("runbook_url:"));
    ensure!(!names.is_empty(), "no alert was found in alerts.yml");
    let expected: Vec<_> = names
        .iter()
        .map(|name| format!("README.md#{}", name.to_lowercase()))
        .collect();
    ensure!(
        links == expected,
        "the alerts lead to {links:?}, expected {expected:?}"
    );
    let mut sections: Vec<_> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|title| title.starts_with("Closewatch"))
        .collect();
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    sections.sort_unstable();
    ensure!(
        sections == names,
        "the runbook of the README has {sections:?}, the alerts are {names:?}"
    );
    Ok(())
}

/// The names of closewatch's own metrics in a text, as they are scraped.
pub(crate) fn metrics(text: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut names: Vec<_> = text
        .split(|c| !word(c))
        // What a recording rule made has a colon.
        .filter(|name| name.starts_with("closewatch_") && !name.contains(':'))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The expressions of rules: without comments and texts.
pub(crate) fn expressions(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let lines = text.lines().map(str::trim_start);
    Ok(lines
        .filter(|line| !line.starts_with('#') && !line.starts_with("- name:"))
        .collect::<Vec<_>>()
        .join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_and_runbook_belong_together() {
        let alerts =
            "- alert: ClosewatchDown\n  annotations:\n    runbook_url: README.md#closewatchdown\n";
        runbooks(alerts, "## Runbook\n### ClosewatchDown\n").unwrap();
        runbooks(alerts, "## Runbook\n").unwrap_err();
        runbooks(alerts, "### ClosewatchDown\n### ClosewatchUp\n").unwrap_err();
        runbooks(
            &alerts.replace("#closewatchdown", "#down"),
            "### ClosewatchDown\n",
        )
        .unwrap_err();
    }

    #[test]
    fn names_of_metrics_are_found_in_expressions() {
        let text = "rate(closewatch_a_total{x=\"y\"}[5m]) / job:closewatch_b:sum + closewatch_c";
        assert_eq!(metrics(text), ["closewatch_a_total", "closewatch_c"]);
    }
}
