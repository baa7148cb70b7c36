//! Asking over HTTP, and what `/metrics` says, as far as a report needs it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// One line of the exposition format.
pub(crate) struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    pub(crate) value: f64,
    pub(crate) line: String,
}

pub(crate) fn scrape(address: SocketAddr) -> Result<Vec<Sample>> {
    let metrics = get(address, "/metrics")?;
    Ok(metrics.lines().filter_map(Sample::parse).collect())
}

/// The body of an answer that is good.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Without keep-alive and chunks.
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("no HTTP answer from {address}"))?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(
        status.contains(" 200 "),
        "{path} of {address} answered {status}: {}",
        body.trim_end()
    );
    Ok(body.to_owned())
}

impl Sample {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let (name, labels) = series
            .strip_suffix('}')
            .and_then(|series| series.split_once('{'))
            .unwrap_or((series, ""));
        // No label that a report reads holds a quote or a comma: addresses and our own words.
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let labels =
            labels.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()));
        Some(Self {
            name: name.to_owned(),
            labels: labels.collect(),
            value,
            line: line.to_owned(),
        })
    }

    pub(crate) fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name == name && labels.iter().all(|(key, value)| self.label(key) == *value)
    }

    /// Empty when there is no such label, as Prometheus has it.
    pub(crate) fn label(&self, key: &str) -> &str {
        let mut labels = self.labels.iter();
        labels
            .find(|label| label.0 == key)
            .map_or("", |label| &label.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_name_labels_and_value() {
        let line = r#"closewatch_server_slow{role="server",server="[::1]:80"} 1"#;
        let sample = Sample::parse(line).unwrap();
        assert!(sample.is("closewatch_server_slow", &[("server", "[::1]:80")]));
        assert!(!sample.is("closewatch_server_slow", &[("role", "client")]));
        assert_eq!(sample.value, 1.0);
        assert_eq!(sample.label("outcome"), "");
        assert!(Sample::parse("up 1").unwrap().is("up", &[]));
        assert!(Sample::parse("# TYPE up gauge").is_none());
    }
}
