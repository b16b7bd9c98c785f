//! The root of the images, as the Dockerfile has it made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use hybrid_runner_tests::processes::{command, output, program};
use hybrid_runner_tests::{outside, root};
use tempfile::TempDir;

/// The program's own size apart, in bytes: an image of 30 MB leaves 25 MB for it.
const MOST: u64 = 5_000_000;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() { files(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

#[tokio::test]
async fn the_root_of_each_image_is_small_has_no_shell_and_its_program_runs_in_it() {
    let Some(_) = outside::authorities("chart image") else { return };
    for name in ["hybrid-runner", "control-plane"] {
        let folder = TempDir::new().unwrap();
        let made = Command::new(root().join("tools/image")).arg("root").arg(program(name)).arg(folder.path()).status();
        assert!(made.unwrap().success());
        let mut found = Vec::new();
        files(folder.path(), &mut found);
        let inside = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
        let names: BTreeSet<String> = found.iter().map(inside).collect();
        let program = format!("usr/bin/{name}");
        let is_library = |file: &&String| file.contains(".so");
        let rest: Vec<&String> = names.iter().filter(|file| !is_library(file) && **file != program).collect();
        assert_eq!(rest, ["etc/group", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs/ca-certificates.crt"]);
        let size: u64 =
            found.iter().filter(|file| inside(file) != program).map(|file| file.metadata().unwrap().len()).sum();
        assert!(size < MOST, "{size} bytes beside the program: {names:?}");

        // A user of its own namespace may change the root, where the machine permits that; root may anyway.
        let mut inside = command(Path::new("unshare"));
        inside.args(["--map-root-user", "chroot"]).arg(folder.path()).args([&format!("/{program}"), "--version"]);
        let printed = output(inside).await;
        assert_eq!(printed.stdout.trim(), format!("{name} {}", env!("CARGO_PKG_VERSION")), "{}", printed.stderr);
    }
}

#[test]
fn every_member_of_the_workspace_reaches_the_builder() {
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let mut metadata = cargo_metadata::MetadataCommand::new();
    metadata.manifest_path(root().join("Cargo.toml")).no_deps().other_options(["--offline".to_owned()]);
    let metadata = metadata.exec().unwrap();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().unwrap().file_name().unwrap();
        assert!(ignored.lines().any(|line| line == format!("!{folder}")), "{folder} is not in .dockerignore");
    }
}
