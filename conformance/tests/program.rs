//! The program: what it prints and refuses. What its checks find is tested where there is a control plane, in `tests/`.

#![expect(clippy::unwrap_used, reason = "a case and what helps it fail loudly")]

use std::process::{Command, Output};

use hybrid_runner_conformance::catalogue;

fn program(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_hybrid-runner-conformance")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_list_is_the_catalogue() {
    let (code, stdout, _) = program(&["--list"]);
    let lines: Vec<String> = catalogue().map(|(name, rule)| format!("{name}: {rule}")).collect();
    assert_eq!(code, Some(0));
    assert_eq!(stdout.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn what_is_not_accepted_is_refused_with_what_to_give() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "a-token\n").unwrap();
    let token = token.path().to_str().unwrap();
    for (arguments, said) in [
        (&["--endpoint", "https://localhost:1"][..], "give --cert and --key, or --token-file"),
        (&["--endpoint", "http://localhost:1", "--token-file", token], "accepted: https://HOST:PORT"),
        (&["--endpoint", "https://localhost:1", "--token-file", "/nowhere"], "--token-file: read /nowhere"),
        (&["--endpoint", "https://localhost:1", "--token-file", token, "--only", "no_such_check"], "--list names them"),
        // Nothing listens on port 1.
        (&["--endpoint", "https://localhost:1", "--token-file", token], "connect to localhost:1"),
        (&["--token-file", token], "--endpoint <URL>"),
        (&["--endpoint", "https://localhost:1", "--cert", token], "--key <FILE>"),
    ] {
        let (code, stdout, stderr) = program(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("a-token"), "{stderr}");
    }
}
