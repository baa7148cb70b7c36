use clap::CommandFactory;

use super::*;

#[test]
fn arguments_are_declared_soundly() {
    Cli::command().debug_assert();
}

#[test]
fn defaults_are_those_of_the_readme() {
    let config = run(&[]).unwrap();
    assert_eq!(
        (config.listen, LISTEN.to_string()),
        (None, "127.0.0.1:16455".to_owned())
    );
    assert_eq!(config.slow_after, Duration::from_secs(1));
    assert_eq!(config.max_servers.get(), 1000);
    assert_eq!(config.server_ttl, Duration::from_secs(3600));
    assert_eq!((config.records, config.scope.cgroup), (None, None));
    assert_eq!(config.log_format, None);
    assert_eq!(config.pin, None);
    assert_eq!(config.tls.follow, [Follow::Off]);
    assert_eq!(config.state.directory, PathBuf::from("/run/closewatch"));
}

#[test]
fn records_go_to_stdout_or_a_file() {
    assert_eq!(
        run(&["--records", "-"]).unwrap().records,
        Some(Target::Stdout)
    );
    let file = Target::File("/tmp/-".into());
    assert_eq!(run(&["--records", "/tmp/-"]).unwrap().records, Some(file));
}

#[test]
fn tls_is_followed_where_it_is_said() {
    let follow = |arguments: &[&str]| run(arguments).unwrap().tls.follow;
    assert_eq!(follow(&["--tls", "off"]), [Follow::Off]);
    assert_eq!(follow(&["--tls", ""]), [Follow::Off]);
    assert_eq!(follow(&["--tls", "auto"]), [Follow::Auto]);
    let places = ["/usr/bin/node", "/sys/fs/cgroup/chat.slice", "./server"];
    let places = places.map(|place| Follow::Place(place.into()));
    let said = follow(&[
        "--tls",
        "/usr/bin/node,/sys/fs/cgroup/chat.slice",
        "--tls",
        "./server",
    ]);
    assert_eq!(said, places);
}

#[test]
fn nonsense_is_refused_with_a_remedy() {
    for (flag, value, remedy) in [
        ("--slow-after", "0s", "like 1s"),
        ("--slow-after", "61m", "an hour at most"),
        ("--slow-after", "1", "write it like 1s"),
        ("--server-ttl", "0s", "like 1s"),
        ("--max-servers", "0", "zero"),
        ("--listen", "16455", "like 127.0.0.1:16455"),
        ("--listen", "localhost:16455", "and no name"),
        ("--log-format", "xml", "text, json, journal"),
        ("--tls", "on", "write off, auto, or the path"),
        ("--tls", "auto,node", "write off, auto, or the path"),
    ] {
        let error = run(&[flag, value]).unwrap_err().to_string();
        assert!(error.contains(remedy), "{flag} {value}: {error}");
    }
}

#[test]
fn daemons_are_found_where_they_serve() {
    for (given, url) in [
        ("", "http://127.0.0.1:16455"),
        ("http://192.0.2.1:16455/", "http://192.0.2.1:16455"),
        ("https://192.0.2.1:16455", "https://192.0.2.1:16455"),
        ("http://[2001:db8::1]:16455", "http://[2001:db8::1]:16455"),
        (
            "http://watch.example.com/closewatch/",
            "http://watch.example.com/closewatch",
        ),
    ] {
        assert_eq!(top(given).unwrap(), url);
    }
    for (given, remedy) in [
        ("127.0.0.1:16455", "write it like http://"),
        ("watch.example.com", "write it like http://"),
        ("ftp://192.0.2.1", "write it like http://"),
        ("http://", "write it like http://"),
        ("http://user:secret@192.0.2.1", "--user and --password-file"),
        ("http://192.0.2.1/?a=b", "write it like http://"),
        ("http://192.0.2.1:99999", "write it like http://"),
        ("http://192.0.2.1 /", "write it like http://"),
    ] {
        let error = top(given).unwrap_err().to_string();
        assert!(error.contains(remedy), "{given}: {error}");
    }
}

fn top(url: &str) -> Result<String, clap::Error> {
    let cli = Cli::try_parse_from(["closewatch", "top", "--url", url])?;
    match cli.command {
        Command::Top(top) => Ok(top.url.to_string()),
        Command::Run(_) | Command::Unpin(_) | Command::Check { .. } | Command::Generate { .. } => {
            unreachable!()
        }
    }
}

fn run(arguments: &[&str]) -> Result<Config, clap::Error> {
    let cli = Cli::try_parse_from([&["closewatch", "run"], arguments].concat())?;
    match cli.command {
        Command::Run(config) => Ok(config),
        Command::Top(_) | Command::Unpin(_) | Command::Check { .. } | Command::Generate { .. } => {
            unreachable!()
        }
    }
}
