//! The terminal is given back as it was, whatever way the view ends.

use crate::{
    daemon::Daemon,
    sandbox::Sandbox,
    tmux::{Terminal, program},
};

#[test]
#[ignore = "needs root"]
fn terminal_is_as_before_after_q_ctrl_c_and_signals() {
    let sandbox = Sandbox::new(0);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    let terminal = Terminal::shell(100, 30);
    terminal.command("before=$(stty -g); echo written");
    terminal.wait_for("\nwritten");
    let before = terminal.screen();
    let url = format!("http://{}", daemon.listen);
    for (round, end) in ["q", "C-c", "TERM", "HUP", "INT"].into_iter().enumerate() {
        // The shell says how it ended, in a word that was not typed.
        let top = format!(
            "{} top --url {url}; echo \"ended with $?, round\" {round}",
            program()
        );
        terminal.command(&top);
        terminal.wait_for("waiting for the first WebSocket");
        assert_eq!(terminal.is("alternate_on"), "1", "{end}");
        assert_eq!(terminal.is("cursor_flag"), "0", "{end}");
        match end {
            "q" | "C-c" => terminal.keys(&[end]),
            signal => {
                let shell = terminal.is("pane_pid");
                let kill = std::process::Command::new("pkill")
                    .args([&format!("-{signal}"), "--parent", &shell])
                    .status()
                    .unwrap();
                assert!(kill.success());
            }
        }
        terminal.wait_for(&format!("\nended with 0, round {round}"));
        assert_eq!(terminal.is("alternate_on"), "0", "{end}");
        assert_eq!(terminal.is("cursor_flag"), "1", "{end}");
        assert!(
            terminal.screen().starts_with(before.trim_end()),
            "what was there is back"
        );
    }
    terminal.command("[ \"$(stty -g)\" = \"$before\" ] && echo the settings are \"the same\"");
    terminal.wait_for("\nthe settings are the same");
}

#[test]
#[ignore = "needs root"]
fn ctrl_z_goes_to_the_shell_and_fg_comes_back() {
    let sandbox = Sandbox::new(0);
    let daemon = Daemon::start(&sandbox, &sandbox.path("records.jsonl"));
    let terminal = Terminal::shell(100, 30);
    terminal.command("set -m");
    terminal.command(&format!("{} top --url http://{}", program(), daemon.listen));
    terminal.wait_for("waiting for the first WebSocket");
    terminal.keys(&["C-z"]);
    terminal.wait_for("Stopped");
    assert_eq!(terminal.is("alternate_on"), "0");
    terminal.command("fg");
    terminal.wait_for("waiting for the first WebSocket");
    assert_eq!(terminal.is("alternate_on"), "1");
    terminal.keys(&["q"]);
    terminal.wait("the shell", |screen| screen.trim_end().ends_with('$'));
}
