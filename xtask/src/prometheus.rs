//! A Prometheus of our own, with the rules of `deploy/`, that reads one daemon every second.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::chown,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    interrupt::Interrupt,
    scene::{Peer, caller, not_as_root},
    scrape::get,
    shell::{find, repository, target},
};

/// Ends when dropped, and its data go.
pub(crate) struct Prometheus {
    process: Peer,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// None where it is not installed. Returns once it has read the daemon.
    pub(crate) fn start(interrupt: &Interrupt, closewatch: SocketAddr) -> Result<Option<Self>> {
        let Some(program) = find("prometheus") else {
            return Ok(None);
        };
        let folder = tempfile::Builder::new()
            .prefix("prometheus-")
            .tempdir_in(target())?;
        if let Some((user, group)) = caller()? {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let rules = repository().join("deploy/prometheus");
        let configuration = folder.path().join("prometheus.yml");
        fs::write(
            &configuration,
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 2s}}\n\
                 rule_files: [{rules}/rules.yml, {rules}/alerts.yml]\n\
                 scrape_configs:\n\
                 \x20 - job_name: closewatch\n\
                 \x20   static_configs: [{{targets: [\"{closewatch}\"]}}]\n",
                rules = rules.display()
            ),
        )?;
        let log = fs::File::create(folder.path().join("log"))?;
        // It takes no port 0 and tells no address: a port that is free now.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut process = not_as_root(program)?;
        process
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut prometheus = Self {
            process: Peer(process.spawn().context("start Prometheus")?),
            address,
            folder,
        };
        let ready = interrupt.wait(Duration::from_secs(20), || {
            if let Some(status) = prometheus.process.0.try_wait()? {
                bail!("Prometheus ended at once ({status}):\n{}", prometheus.log());
            }
            // It takes some seconds from being ready to the first reading.
            let up = prometheus.api("query", &[("query", "up == 1")]);
            Ok(up.is_ok_and(|up| up["result"][0].is_object()).then_some(()))
        })?;
        ensure!(
            ready.is_some(),
            "Prometheus does not read closewatch:\n{}",
            prometheus.log()
        );
        Ok(Some(prometheus))
    }

    /// What an address of its API answers, below `data`.
    pub(crate) fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
            .collect();
        let answer = get(
            self.address,
            &format!("/api/v1/{path}?{}", parameters.join("&")),
        )?;
        let mut answer: Value = serde_json::from_str(&answer)?;
        Ok(answer["data"].take())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Bytes that mean nothing in a query string, and the others as %XX.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_strings_hold_any_expression() {
        assert_eq!(
            encoded("up{job=~\".+\"} > 0"),
            "up%7Bjob%3D~%22.%2B%22%7D%20%3E%200"
        );
    }
}
