//! The root of the images, as the Dockerfile has it made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hybrid_runner_tests::certificates::{Authority, Pair};
use hybrid_runner_tests::processes::{Output, command, output, program};
use hybrid_runner_tests::world::pipeline_yaml;
use hybrid_runner_tests::{outside, root};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::leaks::moto::Moto;

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
        let folder = image(name);
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

        let printed = inside_of(&folder, name, &["--version"], &[]).await;
        assert_eq!(printed.stdout.trim(), format!("{name} {}", env!("CARGO_PKG_VERSION")), "{}", printed.stderr);
    }
}

#[tokio::test]
async fn the_image_reads_secrets_of_aws_over_tls_by_the_certificates_that_it_carries() {
    let case = "the_image_reads_secrets_of_aws_over_tls_by_the_certificates_that_it_carries";
    let (Some(bundle), Some(moto)) = (outside::authorities(case), Moto::start(case)) else { return };
    moto.put("/salesforce/password", "a password");
    moto.put("/salesforce/token", "a security token");
    let authority = Authority::new();
    let folder = image("hybrid-runner");
    let carried = folder.path().join(bundle.strip_prefix("/").unwrap());
    let public = std::fs::read_to_string(&carried).unwrap();
    let pipeline = pipeline_yaml("");
    let (workflow, _) = pipeline.split_once("---\n").unwrap();
    std::fs::write(folder.path().join("workflow.yaml"), workflow).unwrap();
    // As the kubelet writes it into every container.
    std::fs::write(folder.path().join("etc/hosts"), "127.0.0.1 aws.test\n").unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("https://aws.test:{}", listener.local_addr().unwrap().port());
    let mut tasks = JoinSet::new();
    tasks.spawn(end_tls(listener, authority.server_called(&["aws.test"]), moto.endpoint.clone()));
    let environment = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
    ];
    let check = ["secrets", "check", "-c", "workflow.yaml", "--secrets", "aws", "--json"];

    std::fs::write(&carried, format!("{public}{}", authority.pem)).unwrap();
    let read = inside_of(&folder, "hybrid-runner", &check, &environment).await;
    assert_eq!(read.code(), 0, "{read:?}");
    let rows = read.json();
    assert!(rows.as_array().is_some_and(|rows| rows.len() == 2 && rows.iter().all(|row| row["ok"] == true)), "{rows}");

    std::fs::write(&carried, public).unwrap();
    let untrusted = inside_of(&folder, "hybrid-runner", &check, &environment).await;
    assert_eq!(untrusted.code(), 1, "public authorities did not sign it: {untrusted:?}");

    std::fs::remove_file(&carried).unwrap();
    let without = inside_of(&folder, "hybrid-runner", &check, &environment).await;
    assert!(format!("{without:?}").contains("this system has no CA certificates"), "{without:?}");
    assert_eq!(without.code(), 1, "told, and no panic");
}

/// Ends the TLS of whoever connects, and hands on what it says.
async fn end_tls(listener: TcpListener, pair: Pair, upstream: String) {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
        connections.spawn(async move {
            // One that does not trust the certificate leaves.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut server = TcpStream::connect(upstream).await.unwrap();
            // It ends as either likes.
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        });
    }
}

/// The root of an image.
fn image(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let made = Command::new(root().join("tools/image")).arg("root").arg(program(name)).arg(folder.path()).status();
    assert!(made.unwrap().success());
    folder
}

/// Runs an image's program in its root.
async fn inside_of(folder: &TempDir, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    // A user of its own namespace may change the root, where the machine permits that; root may anyway.
    let mut inside = command(Path::new("unshare"));
    inside.args(["--map-root-user", "chroot"]).arg(folder.path()).arg(format!("/usr/bin/{name}")).args(arguments);
    inside.envs(environment.iter().copied());
    output(inside).await
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
